// RoIUpsample on CUDA: launches of the kernels and their entry into mmcv's device registry.
//
// The forward pass sums with atomics: its last bits may differ between runs.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>

#include "launch.cuh"
#include "roi_upsample_kernels.cuh"

namespace mmbanet {
namespace {

Tensor count_contributions(const Tensor& prepared, int64_t num_rois, int64_t batch_size,
                           int64_t crop_height, int64_t crop_width, int64_t height, int64_t width) {
  Tensor counts = at::zeros({batch_size, height, width}, prepared.options().dtype(at::kInt));
  count_contributions_kernel<<<grid_for_threads(num_rois * crop_height * crop_width), kThreads, 0,
                               c10::cuda::getCurrentCUDAStream()>>>(device_rois(prepared), num_rois,
                                                                    crop_height, crop_width, height,
                                                                    width, counts.data_ptr<int>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return counts;
}

Tensor roi_upsample_cuda(const Tensor& input, const Tensor& rois, int64_t batch_size,
                         int64_t height, int64_t width, double spatial_scale, bool aligned,
                         bool mean) {
  const c10::cuda::CUDAGuard guard(input.device());
  const int64_t num_rois = input.size(0), channels = input.size(1);
  const int64_t crop_height = input.size(2), crop_width = input.size(3);
  const auto acc_type = at::toOpMathType(input.scalar_type());
  Tensor sums = at::empty({batch_size, channels, height, width}, input.options().dtype(acc_type),
                          input.suggest_memory_format())
                    .zero_();
  if (sums.numel() == 0 || input.numel() == 0) return sums.to(input.scalar_type());

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_upsample", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        const auto* const from = input.const_data_ptr<scalar_t>();
        with_access(is_channels_last(input), channels, from, from, [&](auto access) {
          roi_upsample_kernel<decltype(access), acc_t>
              <<<grid_for_threads(point_threads(access, num_rois, crop_height * crop_width)),
                 kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
                  access, from, device_rois(prepared), num_rois, crop_height, crop_width, height,
                  width, sums.mutable_data_ptr<acc_t>());
        });
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (mean) {
    const Tensor counts =
        count_contributions(prepared, num_rois, batch_size, crop_height, crop_width, height, width);
    sums.div_(counts.clamp_min(1).unsqueeze(1));
  }
  return sums.to(input.scalar_type());
}

Tensor roi_upsample_backward_cuda(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                                  int64_t crop_width, double spatial_scale, bool aligned,
                                  bool mean) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t num_rois = rois.size(0), batch_size = grad.size(0), channels = grad.size(1);
  const int64_t height = grad.size(2), width = grad.size(3);
  Tensor grad_input = at::empty({num_rois, channels, crop_height, crop_width}, grad.options(),
                                grad.suggest_memory_format());
  if (grad_input.numel() == 0) return grad_input;
  if (grad.numel() == 0) return grad_input.zero_();

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  Tensor counts;
  if (mean) {
    counts =
        count_contributions(prepared, num_rois, batch_size, crop_height, crop_width, height, width);
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_upsample_backward", [&] {
        const auto* const from = grad.const_data_ptr<scalar_t>();
        auto* const to = grad_input.mutable_data_ptr<scalar_t>();
        with_access(is_channels_last(grad), channels, from, to, [&](auto access) {
          roi_upsample_backward_kernel<decltype(access), at::opmath_type<scalar_t>>
              <<<grid_for_threads(point_threads(access, num_rois, crop_height * crop_width)),
                 kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
                  access, from, mean ? counts.const_data_ptr<int>() : nullptr,
                  device_rois(prepared), num_rois, crop_height, crop_width, height, width, to);
        });
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_upsample_impl, CUDA, roi_upsample_cuda);
REGISTER_DEVICE_IMPL(roi_upsample_backward_impl, CUDA, roi_upsample_backward_cuda);

}  // namespace mmbanet
