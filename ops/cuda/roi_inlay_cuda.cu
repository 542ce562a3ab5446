// RoIInlay on CUDA: launches of the kernels and their entry into mmcv's device registry.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>

#include "launch.cuh"
#include "roi_inlay_backward_kernels.cuh"
#include "roi_inlay_kernels.cuh"

namespace mmbanet {
namespace {

Tensor roi_inlay_cuda(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                      int64_t width, double spatial_scale, bool aligned) {
  const c10::cuda::CUDAGuard guard(input.device());
  const int64_t num_rois = input.size(0), channels = input.size(1);
  Tensor output = at::empty({batch_size, channels, height, width}, input.options(),
                            input.suggest_memory_format());
  if (output.numel() == 0) return output;
  if (num_rois == 0) return output.zero_();

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
    const auto* const from = input.const_data_ptr<scalar_t>();
    auto* const to = output.mutable_data_ptr<scalar_t>();
    const bool clearable =
        !is_channels_last(input) && width % Vector<scalar_t>::kSize == 0 && is_aligned(to);
    with_access(is_channels_last(input), channels, from, to, [&](auto access) {
      using acc_t = at::opmath_type<scalar_t>;
      using Layout = InlayLayout<decltype(access), acc_t>;
      const int64_t blocks = InlayTask<Layout>::blocks(batch_size, channels, height, width);
      roi_inlay_kernel<decltype(access), acc_t>
          <<<grid_for(blocks), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
              access, from, device_rois(prepared), num_rois, input.size(2), input.size(3), height,
              width, clearable, to);
    });
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

template <typename acc_t>
Tensor inverse_counts(const Tensor& prepared, int64_t num_rois, int64_t batch_size, int64_t height,
                      int64_t width) {
  Tensor inverse = at::empty({batch_size, height, width},
                             prepared.options().dtype(c10::CppTypeToScalarType<acc_t>::value));
  const int64_t blocks =
      (width + kCountTile - 1) / kCountTile * ((height + kCountTile - 1) / kCountTile) * batch_size;
  inverse_counts_kernel<acc_t>
      <<<grid_for(blocks), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          device_rois(prepared), num_rois, height, width, inverse.mutable_data_ptr<acc_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return inverse;
}

Tensor roi_inlay_backward_cuda(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                               int64_t crop_width, double spatial_scale, bool aligned) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t num_rois = rois.size(0), batch_size = grad.size(0), channels = grad.size(1);
  const int64_t height = grad.size(2), width = grad.size(3);
  Tensor grad_input = at::empty({num_rois, channels, crop_height, crop_width}, grad.options(),
                                grad.suggest_memory_format());
  if (grad_input.numel() == 0) return grad_input;
  if (grad.numel() == 0) return grad_input.zero_();

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        const Tensor inverse = inverse_counts<acc_t>(prepared, num_rois, batch_size, height, width);
        const auto* const from = grad.const_data_ptr<scalar_t>();
        auto* const to = grad_input.mutable_data_ptr<scalar_t>();
        with_access(is_channels_last(grad), channels, from, to, [&](auto access) {
          const auto kernel = roi_inlay_backward_kernel<decltype(access), acc_t>();
          const int64_t threads = backward_threads(access, num_rois, crop_height, crop_width);
          kernel<<<grid_for_threads(threads), kThreads, 0, stream>>>(
              access, from, inverse.const_data_ptr<acc_t>(), device_rois(prepared), num_rois,
              crop_height, crop_width, height, width, to);
        });
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_impl, CUDA, roi_inlay_cuda);
REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CUDA, roi_inlay_backward_cuda);

}  // namespace mmbanet
