// The CUDA kernels as plain functions of float arrays that live on the CPU. See cuda_on_host.h.
#include "cuda_on_host.h"

#include "../../../ops/cuda/roi_inlay_kernels.cuh"
#include "../../../ops/cuda/roi_upsample_kernels.cuh"

namespace {

// Fewer blocks than there is work, so that the kernels have to stride over it.
constexpr unsigned kGrid = 3;

std::vector<mmbanet::DeviceRoi> prepare(const double* rois, int64_t num_rois, int64_t batch_size,
                                        int height, int width, double spatial_scale, bool aligned) {
  std::vector<mmbanet::DeviceRoi> prepared(num_rois);
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::prepare_rois_kernel, rois, num_rois,
                       batch_size, height, width, spatial_scale, aligned, prepared.data());
  return prepared;
}

}  // namespace

extern "C" {

void roi_inlay(const float* input, const double* rois, int64_t num_rois, int64_t batch_size,
               int64_t channels, int crop_height, int crop_width, int height, int width,
               double spatial_scale, bool aligned, float* output) {
  const auto prepared = prepare(rois, num_rois, batch_size, height, width, spatial_scale, aligned);
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::roi_inlay_kernel<float, float>, input,
                       prepared.data(), num_rois, batch_size, channels, crop_height, crop_width,
                       height, width, output);
}

void roi_inlay_backward(const float* grad, const double* rois, int64_t num_rois, int64_t batch_size,
                        int64_t channels, int crop_height, int crop_width, int height, int width,
                        double spatial_scale, bool aligned, float* grad_input) {
  const auto prepared = prepare(rois, num_rois, batch_size, height, width, spatial_scale, aligned);
  std::vector<float> inverse(batch_size * height * width);
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::inverse_counts_kernel<float>,
                       prepared.data(), num_rois, batch_size, height, width, inverse.data());
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::roi_inlay_backward_kernel<float, float>,
                       grad, inverse.data(), prepared.data(), num_rois, channels, crop_height,
                       crop_width, height, width, grad_input);
}

// The sums and the counts of contributions, both zeroed by the caller.
void roi_upsample(const float* input, const double* rois, int64_t num_rois, int64_t batch_size,
                  int64_t channels, int crop_height, int crop_width, int height, int width,
                  double spatial_scale, bool aligned, float* sums, int* counts) {
  const auto prepared = prepare(rois, num_rois, batch_size, height, width, spatial_scale, aligned);
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::roi_upsample_kernel<float, float>, input,
                       prepared.data(), num_rois, channels, crop_height, crop_width, height, width,
                       sums);
  cuda_on_host::launch(kGrid, mmbanet::kThreads, mmbanet::count_contributions_kernel,
                       prepared.data(), num_rois, crop_height, crop_width, height, width, counts);
}

// counts: those of roi_upsample for the mean, null for the sum.
void roi_upsample_backward(const float* grad, const double* rois, int64_t num_rois,
                           int64_t batch_size, int64_t channels, int crop_height, int crop_width,
                           int height, int width, double spatial_scale, bool aligned,
                           float* grad_input, int* counts) {
  const auto prepared = prepare(rois, num_rois, batch_size, height, width, spatial_scale, aligned);
  cuda_on_host::launch(
      kGrid, mmbanet::kThreads, mmbanet::roi_upsample_backward_kernel<float, float>, grad, counts,
      prepared.data(), num_rois, channels, crop_height, crop_width, height, width, grad_input);
}
}
