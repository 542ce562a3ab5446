// resized_argmax on CUDA: launches of the kernels and their entry into mmcv's device registry.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>

#include "launch.cuh"
#include "resized_argmax_kernels.cuh"

namespace mmbanet {
namespace {

// A matrix that resizes an axis, with its windows in memory of the device; none: not resized.
struct Resize {
  explicit Resize(const std::optional<Tensor>& matrix) {
    if (!matrix) return;
    const int64_t outputs = matrix->size(0), inputs = matrix->size(1);
    windows = at::empty({outputs * static_cast<int64_t>(sizeof(DeviceWindow))},
                        matrix->options().dtype(at::kByte));
    auto* const found = static_cast<DeviceWindow*>(windows.data_ptr());
    device = {matrix->const_data_ptr<float>(), found, static_cast<int>(inputs)};
    find_windows_kernel<<<grid_for_threads(outputs), kThreads, 0,
                          c10::cuda::getCurrentCUDAStream()>>>(device.matrix, outputs,
                                                               device.inputs, found);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  Tensor windows;
  DeviceResize device = {};
};

Tensor resized_argmax_cuda(const Tensor& logits, const std::optional<Tensor>& rows,
                           const std::optional<Tensor>& columns) {
  const c10::cuda::CUDAGuard guard(logits.device());
  const int64_t height = rows ? rows->size(0) : logits.size(1);
  const int64_t width = columns ? columns->size(0) : logits.size(2);
  Tensor output = at::empty({height, width}, logits.options().dtype(at::kInt));
  if (output.numel() == 0) return output;

  const Resize row_resize(rows), column_resize(columns);
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "resized_argmax", [&] {
        resized_argmax_kernel<scalar_t, at::opmath_type<scalar_t>>
            <<<grid_for_threads(output.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
                logits.const_data_ptr<scalar_t>(), static_cast<int>(logits.size(0)),
                {logits.stride(0), logits.stride(1), logits.stride(2)}, row_resize.device,
                column_resize.device, height, width, output.mutable_data_ptr<int>());
      });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

}  // namespace

REGISTER_DEVICE_IMPL(resized_argmax_impl, CUDA, resized_argmax_cuda);

}  // namespace mmbanet
