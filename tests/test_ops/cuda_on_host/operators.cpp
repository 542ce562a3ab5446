// The CUDA kernels as plain functions of arrays that live on the CPU. See cuda_on_host.h.
#include "cuda_on_host.h"

#include "../../../ops/cuda/resized_argmax_kernels.cuh"
#include "../../../ops/cuda/roi_inlay_backward_kernels.cuh"
#include "../../../ops/cuda/roi_inlay_kernels.cuh"
#include "../../../ops/cuda/roi_upsample_kernels.cuh"

namespace {

using namespace mmbanet;

// The arguments that all operators share.
struct Case {
  const double* rois;
  int num_rois;
  int64_t batch_size, channels;
  int crop_height, crop_width, height, width;
  double spatial_scale;
  bool aligned, channels_last;
};

int64_t grid_for(int64_t threads) { return ceil_div(threads, kThreads); }

std::vector<DeviceRoi> prepare(const Case& c) {
  std::vector<DeviceRoi> prepared(c.num_rois);
  cuda_on_host::launch(grid_for(int64_t(c.num_rois) * kWarp), kThreads, prepare_rois_kernel, c.rois,
                       c.num_rois, c.batch_size, c.height, c.width, c.spatial_scale, c.aligned,
                       prepared.data());
  return prepared;
}

template <typename scalar_t>
void inlay(const Case& c, const scalar_t* input, scalar_t* output) {
  const auto prepared = prepare(c);
  const bool clearable =
      !c.channels_last && c.width % Vector<scalar_t>::kSize == 0 && is_aligned(output);
  with_access(c.channels_last, c.channels, input, output, [&](auto access) {
    using Access = decltype(access);
    using Task = InlayTask<InlayLayout<Access, scalar_t>>;
    cuda_on_host::launch(Task::blocks(c.batch_size, c.channels, c.height, c.width), kThreads,
                         roi_inlay_kernel<Access, scalar_t>, access, input, prepared.data(),
                         c.num_rois, c.crop_height, c.crop_width, c.height, c.width, clearable,
                         output);
  });
}

template <typename scalar_t>
void inlay_backward(const Case& c, const scalar_t* grad, scalar_t* grad_input) {
  const auto prepared = prepare(c);
  std::vector<scalar_t> inverse(c.batch_size * c.height * c.width);
  cuda_on_host::launch(
      ceil_div(c.height, kCountTile) * ceil_div(c.width, kCountTile) * c.batch_size, kThreads,
      inverse_counts_kernel<scalar_t>, prepared.data(), c.num_rois, c.height, c.width,
      inverse.data());
  with_access(c.channels_last, c.channels, grad, grad_input, [&](auto access) {
    const int64_t threads = backward_threads(access, c.num_rois, c.crop_height, c.crop_width);
    cuda_on_host::launch(grid_for(threads), kThreads,
                         roi_inlay_backward_kernel<decltype(access), scalar_t>(), access, grad,
                         inverse.data(), prepared.data(), c.num_rois, c.crop_height, c.crop_width,
                         c.height, c.width, grad_input);
  });
}

// Of one axis; a null matrix does not resize it.
struct HostResize {
  const float* matrix;
  int64_t outputs;
  int inputs;
};

template <typename scalar_t>
void resized_argmax(const scalar_t* logits, int channels, const LogitsStrides& strides,
                    const HostResize& rows, const HostResize& columns, int* output) {
  const auto prepare = [](const HostResize& resize, std::vector<DeviceWindow>& windows) {
    if (resize.matrix == nullptr) return DeviceResize{};
    windows.resize(resize.outputs);
    cuda_on_host::launch(grid_for(resize.outputs), kThreads, find_windows_kernel, resize.matrix,
                         resize.outputs, resize.inputs, windows.data());
    return DeviceResize{resize.matrix, windows.data(), resize.inputs};
  };
  std::vector<DeviceWindow> row_windows, column_windows;
  cuda_on_host::launch(grid_for(rows.outputs * columns.outputs), kThreads,
                       resized_argmax_kernel<scalar_t, scalar_t>, logits, channels, strides,
                       prepare(rows, row_windows), prepare(columns, column_windows), rows.outputs,
                       columns.outputs, output);
}

}  // namespace

extern "C" {

void resized_argmax_float(const float* logits, int channels, const LogitsStrides* strides,
                          const HostResize* rows, const HostResize* columns, int* output) {
  resized_argmax(logits, channels, *strides, *rows, *columns, output);
}

void resized_argmax_double(const double* logits, int channels, const LogitsStrides* strides,
                           const HostResize* rows, const HostResize* columns, int* output) {
  resized_argmax(logits, channels, *strides, *rows, *columns, output);
}

void roi_inlay_float(const Case* c, const float* input, float* output) { inlay(*c, input, output); }

void roi_inlay_double(const Case* c, const double* input, double* output) {
  inlay(*c, input, output);
}

void roi_inlay_backward_float(const Case* c, const float* grad, float* grad_input) {
  inlay_backward(*c, grad, grad_input);
}

void roi_inlay_backward_double(const Case* c, const double* grad, double* grad_input) {
  inlay_backward(*c, grad, grad_input);
}

// The sums and the counts of contributions, both zeroed by the caller.
void roi_upsample(const Case* c, const float* input, float* sums, int* counts) {
  const auto prepared = prepare(*c);
  const int64_t crop_plane = int64_t(c->crop_height) * c->crop_width;
  with_access(c->channels_last, c->channels, input, input, [&](auto access) {
    cuda_on_host::launch(grid_for(point_threads(access, c->num_rois, crop_plane)), kThreads,
                         roi_upsample_kernel<decltype(access), float>, access, input,
                         prepared.data(), c->num_rois, c->crop_height, c->crop_width, c->height,
                         c->width, sums);
  });
  cuda_on_host::launch(grid_for(c->num_rois * crop_plane), kThreads, count_contributions_kernel,
                       prepared.data(), c->num_rois, c->crop_height, c->crop_width, c->height,
                       c->width, counts);
}

// counts: those of roi_upsample for the mean, null for the sum.
void roi_upsample_backward(const Case* c, const float* grad, float* grad_input, const int* counts) {
  const auto prepared = prepare(*c);
  const int64_t crop_plane = int64_t(c->crop_height) * c->crop_width;
  with_access(c->channels_last, c->channels, grad, grad_input, [&](auto access) {
    cuda_on_host::launch(grid_for(point_threads(access, c->num_rois, crop_plane)), kThreads,
                         roi_upsample_backward_kernel<decltype(access), float>, access, grad,
                         counts, prepared.data(), c->num_rois, c->crop_height, c->crop_width,
                         c->height, c->width, grad_input);
  });
}
}
