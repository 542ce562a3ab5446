// Device-independent entry points. Implementations are registered under these names with mmcv's
// REGISTER_DEVICE_IMPL: the CPU's in mmbanet_ops.cpp, CUDA's beside their kernels. The
// arguments have been checked; RoIs are float64 and contiguous, on the CPU with valid image
// indices. Features are contiguous in their suggested memory format, NCHW or channels-last, and so
// must be the result.
//
// Shapes: input (K, C, h, w), rois (K, 5), maps and gradients of maps (N, C, H, W).
#pragma once

// Not mmcv's headers, nor all of ATen: they take four times as long to compile.
#include <ATen/core/Tensor.h>

#include <optional>

using at::Tensor;

Tensor roi_inlay_impl(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                      int64_t width, double spatial_scale, bool aligned);

Tensor roi_inlay_backward_impl(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                               int64_t crop_width, double spatial_scale, bool aligned);

Tensor roi_upsample_impl(const Tensor& input, const Tensor& rois, int64_t batch_size,
                         int64_t height, int64_t width, double spatial_scale, bool aligned,
                         bool mean);

Tensor roi_upsample_backward_impl(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                                  int64_t crop_width, double spatial_scale, bool aligned,
                                  bool mean);

// RoIAlign: the crops (K, C, h, w) of maps (N, C, H, W), and the gradient of the maps. mmcv has
// both for other devices.
Tensor roi_align_impl(const Tensor& input, const Tensor& rois, int64_t crop_height,
                      int64_t crop_width, double spatial_scale, int64_t sampling_ratio,
                      bool aligned);

Tensor roi_align_backward_impl(const Tensor& grad, const Tensor& rois, int64_t batch_size,
                               int64_t height, int64_t width, double spatial_scale,
                               int64_t sampling_ratio, bool aligned);

// rows (H, h) and columns (W, w): float32, contiguous, on the logits' device; none: the identity.
// logits (C, h, w) of any strides, C > 0. The result is int32 (H, W), contiguous.
Tensor resized_argmax_impl(const Tensor& logits, const std::optional<Tensor>& rows,
                           const std::optional<Tensor>& columns);

namespace mmbanet {

decltype(roi_inlay_impl) roi_inlay_cpu;
decltype(roi_inlay_backward_impl) roi_inlay_backward_cpu;
decltype(roi_upsample_impl) roi_upsample_cpu;
decltype(roi_upsample_backward_impl) roi_upsample_backward_cpu;
decltype(roi_align_impl) roi_align_cpu;
decltype(roi_align_backward_impl) roi_align_backward_cpu;
decltype(resized_argmax_impl) resized_argmax_cpu;

}  // namespace mmbanet
