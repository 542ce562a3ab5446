// RoIInlay on CUDA: launches of the kernels and their entry into mmcv's device registry.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>

#include "launch.cuh"
#include "roi_inlay_kernels.cuh"

namespace mmbanet {
namespace {

Tensor roi_inlay_cuda(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                      int64_t width, double spatial_scale, bool aligned) {
  const c10::cuda::CUDAGuard guard(input.device());
  const int64_t num_rois = input.size(0), channels = input.size(1);
  if (num_rois == 0) return at::zeros({batch_size, channels, height, width}, input.options());
  Tensor output = at::empty({batch_size, channels, height, width}, input.options());
  if (output.numel() == 0) return output;

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  const int64_t blocks = (width + kTileWidth - 1) / kTileWidth *
                         ((height + kTileHeight - 1) / kTileHeight) *
                         ((channels + kTileChannels - 1) / kTileChannels) * batch_size;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
    roi_inlay_kernel<scalar_t, at::opmath_type<scalar_t>>
        <<<grid_for(blocks), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
            input.data_ptr<scalar_t>(), device_rois(prepared), num_rois, batch_size, channels,
            input.size(2), input.size(3), height, width, output.data_ptr<scalar_t>());
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

Tensor roi_inlay_backward_cuda(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                               int64_t crop_width, double spatial_scale, bool aligned) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t num_rois = rois.size(0), batch_size = grad.size(0), channels = grad.size(1);
  const int64_t height = grad.size(2), width = grad.size(3);
  if (grad.numel() == 0) {
    return at::zeros({num_rois, channels, crop_height, crop_width}, grad.options());
  }
  Tensor grad_input = at::empty({num_rois, channels, crop_height, crop_width}, grad.options());
  if (grad_input.numel() == 0) return grad_input;

  const Tensor prepared = prepare_rois(rois, batch_size, height, width, spatial_scale, aligned);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        const Tensor inverse =
            at::empty({batch_size, height, width},
                      grad.options().dtype(c10::CppTypeToScalarType<acc_t>::value));
        inverse_counts_kernel<acc_t><<<grid_for_threads(inverse.numel()), kThreads, 0, stream>>>(
            device_rois(prepared), num_rois, batch_size, height, width, inverse.data_ptr<acc_t>());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        const int64_t groups = (channels + kPointChannels - 1) / kPointChannels;
        roi_inlay_backward_kernel<scalar_t, acc_t>
            <<<grid_for_threads(num_rois * groups * crop_height * crop_width), kThreads, 0,
               stream>>>(grad.data_ptr<scalar_t>(), inverse.data_ptr<acc_t>(),
                         device_rois(prepared), num_rois, channels, crop_height, crop_width, height,
                         width, grad_input.data_ptr<scalar_t>());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
      });
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_impl, CUDA, roi_inlay_cuda);
REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CUDA, roi_inlay_backward_cuda);

}  // namespace mmbanet
