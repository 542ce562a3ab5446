// RoIUpsample on the CPU, forward and backward (appendix A of the paper): the rival of RoIInlay.
//
// Every sampling point scatters to its four nearest pixels. Planes (image, channel) are split over
// threads, so no two threads write the same element and sums have one order.
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <vector>

#include "../mmbanet_ops.h"
#include "huge_pages.h"
#include "roi_list.h"
#include "simd.h"

namespace mmbanet {
namespace {

template <typename acc_t>
struct SplatWeights {
  int low;
  acc_t weight_low, weight_high;
};

template <typename acc_t>
struct SplattedRoi {
  int64_t index;
  std::vector<SplatWeights<acc_t>> rows, columns;
};

template <typename acc_t>
std::vector<SplatWeights<acc_t>> splat_axis(const Axis& axis, int samples, int pixels) {
  std::vector<SplatWeights<acc_t>> splats;
  for (int i = 0; i < samples; ++i) {
    const Splat splat = splat_at(axis, i, samples, pixels);
    splats.push_back(
        {splat.low, static_cast<acc_t>(splat.weight_low), static_cast<acc_t>(splat.weight_high)});
  }
  return splats;
}

template <typename acc_t>
std::vector<SplattedRoi<acc_t>> splat_rois(const std::vector<Roi>& rois, int crop_height,
                                           int crop_width, int height, int width) {
  std::vector<SplattedRoi<acc_t>> splatted;
  for (const Roi& roi : rois) {
    splatted.push_back({roi.index, splat_axis<acc_t>(roi.y, crop_height, height),
                        splat_axis<acc_t>(roi.x, crop_width, width)});
  }
  return splatted;
}

// Calls visit(sampling point, pixel, weight) for each contribution within the map.
template <typename acc_t, typename Visit>
MMBANET_INLINE void for_each_contribution(const SplattedRoi<acc_t>& roi, int64_t width,
                                          const Visit& visit) {
  const int64_t columns = roi.columns.size();
  for (size_t i = 0; i < roi.rows.size(); ++i) {
    for (int half = 0; half < 2; ++half) {
      const acc_t row_weight = half == 0 ? roi.rows[i].weight_low : roi.rows[i].weight_high;
      if (row_weight == 0) continue;
      const int64_t row = (roi.rows[i].low + half) * width;
      for (int64_t j = 0; j < columns; ++j) {
        const SplatWeights<acc_t>& column = roi.columns[j];
        const int64_t point = i * columns + j;
        if (column.weight_low != 0) {
          visit(point, row + column.low, row_weight * column.weight_low);
        }
        if (column.weight_high != 0) {
          visit(point, row + column.low + 1, row_weight * column.weight_high);
        }
      }
    }
  }
}

// 1 / (number of contributions to the pixel), 1 where there is none or if the reduction is the sum.
template <typename acc_t>
std::vector<acc_t> inverse_contributions(const std::vector<SplattedRoi<acc_t>>& rois,
                                         int64_t height, int64_t width, bool mean) {
  std::vector<acc_t> inverse(height * width, 1);
  if (!mean) return inverse;
  std::vector<int32_t> counts(height * width);
  for (const auto& roi : rois) {
    for_each_contribution(roi, width, [&](int64_t, int64_t pixel, acc_t) { ++counts[pixel]; });
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 1) inverse[i] = acc_t(1) / static_cast<acc_t>(counts[i]);
  }
  return inverse;
}

Tensor roi_upsample_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                        int64_t width, double spatial_scale, bool aligned, bool mean) {
  const auto images = list_rois(rois, batch_size, height, width, spatial_scale, aligned, &input);
  const int64_t channels = input.size(1), crop_height = input.size(2), crop_width = input.size(3);
  const int64_t plane = height * width, crop_plane = crop_height * crop_width;
  Tensor output = empty_on_huge_pages({batch_size, channels, height, width}, input.options());
  if (output.numel() == 0) return output;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_upsample", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        for (int64_t n = 0; n < batch_size; ++n) {
          const auto splatted =
              splat_rois<acc_t>(images[n], crop_height, crop_width, height, width);
          const auto inverse = inverse_contributions(splatted, height, width, mean);
          at::parallel_for(0, channels, 1, [&](int64_t channel_begin, int64_t channel_end) {
            std::vector<acc_t> sums(plane);
            for (int64_t channel = channel_begin; channel < channel_end; ++channel) {
              std::fill(sums.begin(), sums.end(), acc_t(0));
              for (const auto& roi : splatted) {
                const scalar_t* const crop =
                    input.data_ptr<scalar_t>() + (roi.index * channels + channel) * crop_plane;
                for_each_contribution(roi, width, [&](int64_t point, int64_t pixel, acc_t weight) {
                  sums[pixel] += weight * static_cast<acc_t>(crop[point]);
                });
              }
              scalar_t* const to = output.data_ptr<scalar_t>() + (n * channels + channel) * plane;
              for (int64_t i = 0; i < plane; ++i) {
                to[i] = static_cast<scalar_t>(sums[i] * inverse[i]);
              }
            }
          });
        }
      });
  return output;
}

Tensor roi_upsample_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                                 int64_t crop_width, double spatial_scale, bool aligned,
                                 bool mean) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const int64_t plane = height * width, crop_plane = crop_height * crop_width;
  const auto images = list_rois(rois, grad.size(0), height, width, spatial_scale, aligned);
  Tensor grad_input =
      empty_on_huge_pages({rois.size(0), channels, crop_height, crop_width}, grad.options());
  grad_input.zero_();
  if (grad_input.numel() == 0 || grad.numel() == 0) return grad_input;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_upsample_backward", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        for (int64_t n = 0; n < grad.size(0); ++n) {
          const auto splatted =
              splat_rois<acc_t>(images[n], crop_height, crop_width, height, width);
          const auto inverse = inverse_contributions(splatted, height, width, mean);
          at::parallel_for(0, channels, 1, [&](int64_t channel_begin, int64_t channel_end) {
            std::vector<acc_t> sums(crop_plane);
            for (int64_t channel = channel_begin; channel < channel_end; ++channel) {
              const scalar_t* const from =
                  grad.data_ptr<scalar_t>() + (n * channels + channel) * plane;
              for (const auto& roi : splatted) {
                std::fill(sums.begin(), sums.end(), acc_t(0));
                for_each_contribution(roi, width, [&](int64_t point, int64_t pixel, acc_t weight) {
                  sums[point] += weight * inverse[pixel] * static_cast<acc_t>(from[pixel]);
                });
                scalar_t* const to =
                    grad_input.data_ptr<scalar_t>() + (roi.index * channels + channel) * crop_plane;
                for (int64_t i = 0; i < crop_plane; ++i) to[i] = static_cast<scalar_t>(sums[i]);
              }
            }
          });
        }
      });
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_upsample_impl, CPU, roi_upsample_cpu);
REGISTER_DEVICE_IMPL(roi_upsample_backward_impl, CPU, roi_upsample_backward_cpu);

}  // namespace mmbanet
