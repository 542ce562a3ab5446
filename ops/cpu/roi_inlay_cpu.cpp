// RoIInlay (section 3.2 of the paper) and RoIUpsample (appendix A), its rival, on the CPU, forward
// and backward: they differ in the weights of an axis and in the factors of pixels.
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include "../mmbanet_ops.h"
#include "roi_list.h"
#include "separable.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mmbanet {
namespace {

// To be given a large map by pages of 4 kB takes longer than computing it. Advice only: where it is
// refused, nothing but time is lost.
void advise_huge_pages(const Tensor& tensor) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t(1) << 21;
  const auto address = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + tensor.nbytes()) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

enum class Rule { kInlay, kUpsampleSum, kUpsampleMean };

// Where the operators put crops.
struct Placement {
  Rule rule;
  double spatial_scale;
  bool aligned;
};

// What the sum of a pixel to which so many values are added is multiplied with.
template <typename acc_t>
acc_t factor_of(acc_t count, Rule rule) {
  if (count == 0) return 0;
  return rule == Rule::kUpsampleSum ? acc_t(1) : acc_t(1) / count;
}

// crops: as list_rois wants them.
template <typename acc_t>
std::vector<Group<acc_t>> place_rois(const Tensor& rois, int64_t batch_size, const Sizes& sizes,
                                     const Placement& placement, const Tensor* crops = nullptr) {
  const auto lists = list_rois(rois, batch_size, sizes.height, sizes.width, placement.spatial_scale,
                               placement.aligned, crops);
  const auto crop_height = static_cast<int>(sizes.crop_height);
  const auto crop_width = static_cast<int>(sizes.crop_width);
  auto images = make_images<acc_t>(batch_size);
  WeightsBuilder rows(sizes.height), columns(sizes.width);
  for (int64_t n = 0; n < batch_size; ++n) {
    auto& counts = images[n].factors;
    counts.assign(sizes.pixels(), 0);
    for (const Roi& roi : lists[n]) {
      if (placement.rule == Rule::kInlay) {
        if (roi.y.begin == roi.y.end || roi.x.begin == roi.x.end) continue;
        for (int64_t p = roi.y.begin; p < roi.y.end; ++p) {
          for (int q = roi.x.begin; q < roi.x.end; ++q) counts[p * sizes.width + q] += 1;
        }
        images[n].add({roi.index, rows.inlay<acc_t>(roi.y, crop_height),
                       columns.inlay<acc_t>(roi.x, crop_width)});
        continue;
      }
      auto y = rows.upsample<acc_t>(roi.y, crop_height);
      auto x = columns.upsample<acc_t>(roi.x, crop_width);
      for (const auto& row : y.taps) {
        const int64_t first = static_cast<int64_t>(y.pixels[row.pixel]) * sizes.width;
        for (const auto& column : x.taps) counts[first + x.pixels[column.pixel]] += 1;
      }
      images[n].add({roi.index, std::move(y), std::move(x)});
    }
    for (acc_t& count : counts) count = factor_of(count, placement.rule);
  }
  return images;
}

Tensor place(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
             int64_t width, const Placement& placement) {
  const Sizes sizes{input.size(2), input.size(3), static_cast<int>(height),
                    static_cast<int>(width)};
  Tensor map = at::empty({batch_size, input.size(1), height, width},
                         input.options().memory_format(input.suggest_memory_format()));
  if (map.numel() == 0) return map;
  advise_huge_pages(map);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
    scatter<scalar_t>(
        place_rois<at::opmath_type<scalar_t>>(rois, batch_size, sizes, placement, &input), sizes,
        input, map, /*bands_of_rows=*/true);
  });
  return map;
}

Tensor place_backward(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                      int64_t crop_width, const Placement& placement) {
  const Sizes sizes{crop_height, crop_width, static_cast<int>(grad.size(2)),
                    static_cast<int>(grad.size(3))};
  Tensor crops = at::empty({rois.size(0), grad.size(1), crop_height, crop_width},
                           grad.options().memory_format(grad.suggest_memory_format()))
                     .zero_();
  if (crops.numel() == 0 || grad.numel() == 0) return crops;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        gather<scalar_t>(
            place_rois<at::opmath_type<scalar_t>>(rois, grad.size(0), sizes, placement), sizes,
            grad, crops);
      });
  return crops;
}

Rule upsample_rule(bool mean) { return mean ? Rule::kUpsampleMean : Rule::kUpsampleSum; }

}  // namespace

Tensor roi_inlay_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                     int64_t width, double spatial_scale, bool aligned) {
  return place(input, rois, batch_size, height, width, {Rule::kInlay, spatial_scale, aligned});
}

Tensor roi_inlay_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                              int64_t crop_width, double spatial_scale, bool aligned) {
  return place_backward(grad, rois, crop_height, crop_width,
                        {Rule::kInlay, spatial_scale, aligned});
}

Tensor roi_upsample_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                        int64_t width, double spatial_scale, bool aligned, bool mean) {
  return place(input, rois, batch_size, height, width,
               {upsample_rule(mean), spatial_scale, aligned});
}

Tensor roi_upsample_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                                 int64_t crop_width, double spatial_scale, bool aligned,
                                 bool mean) {
  return place_backward(grad, rois, crop_height, crop_width,
                        {upsample_rule(mean), spatial_scale, aligned});
}

}  // namespace mmbanet
