// RoIAlign with average pooling on the CPU, forward and backward: mmcv's, with threads, and with
// work in proportion to a RoI's pixels instead of its samples.
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include "../mmbanet_ops.h"
#include "separable.h"

namespace mmbanet {
namespace {

// rois: float64 (K, 5) with valid image indices.
template <typename acc_t>
std::vector<Group<acc_t>> sample_rois(const Tensor& rois, int64_t batch_size, const Sizes& sizes,
                                      const Sampling& sampling) {
  auto images = make_images<acc_t>(batch_size);
  WeightsBuilder rows(sizes.height), columns(sizes.width);
  const double* const boxes = rois.const_data_ptr<double>();
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double* const box = boxes + k * 5;
    const auto side = [&](int i) { return static_cast<acc_t>(box[i]); };
    images[static_cast<int64_t>(box[0])].add(
        {k, rows.align(side(2), side(4), sizes.crop_height, sampling),
         columns.align(side(1), side(3), sizes.crop_width, sampling)});
  }
  return images;
}

}  // namespace

Tensor roi_align_cpu(const Tensor& input, const Tensor& rois, int64_t crop_height,
                     int64_t crop_width, double spatial_scale, int64_t sampling_ratio,
                     bool aligned) {
  const Sizes sizes{crop_height, crop_width, static_cast<int>(input.size(2)),
                    static_cast<int>(input.size(3))};
  Tensor crops = at::empty({rois.size(0), input.size(1), crop_height, crop_width},
                           input.options().memory_format(input.suggest_memory_format()));
  if (crops.numel() == 0 || input.numel() == 0) return crops.zero_();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_align", [&] {
    gather<scalar_t>(sample_rois<at::opmath_type<scalar_t>>(
                         rois, input.size(0), sizes, {spatial_scale, sampling_ratio, aligned}),
                     sizes, input, crops);
  });
  return crops;
}

Tensor roi_align_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t batch_size,
                              int64_t height, int64_t width, double spatial_scale,
                              int64_t sampling_ratio, bool aligned) {
  const Sizes sizes{grad.size(2), grad.size(3), static_cast<int>(height), static_cast<int>(width)};
  Tensor map = at::empty({batch_size, grad.size(1), height, width},
                         grad.options().memory_format(grad.suggest_memory_format()));
  if (map.numel() == 0 || grad.numel() == 0) return map.zero_();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_align_backward", [&] {
        scatter<scalar_t>(sample_rois<at::opmath_type<scalar_t>>(
                              rois, batch_size, sizes, {spatial_scale, sampling_ratio, aligned}),
                          sizes, grad, map, /*bands_of_rows=*/false);
      });
  return map;
}

}  // namespace mmbanet
