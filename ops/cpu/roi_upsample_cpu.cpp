// RoIUpsample on the CPU, forward and backward (appendix A of the paper): the rival of RoIInlay.
//
// Every sampling point scatters to its four nearest pixels. Work is split over parts of the map, on
// the way back over crops and channels, so every element has one writer and sums have one order.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../mmbanet_ops.h"
#include "coverage.h"
#include "layout.h"
#include "map_memory.h"
#include "roi_list.h"

namespace mmbanet {
namespace {

// A sampling point's nearest pixels along one axis: low and low + 1.
template <typename acc_t>
struct SplatWeights {
  acc_t weight(int half) const { return half == 0 ? weight_low : weight_high; }

  int low;
  acc_t weight_low, weight_high;  // 0 says that there is no such contribution
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

// Calls visit(row of points, row of pixels, weight) for each pair in the band.
template <typename acc_t, typename Visit>
MMBANET_INLINE void for_each_row(const SplattedRoi<acc_t>& roi, Band band, const Visit& visit) {
  for (size_t i = 0; i < roi.rows.size(); ++i) {
    for (int half = 0; half < 2; ++half) {
      const int p = roi.rows[i].low + half;
      const acc_t weight = roi.rows[i].weight(half);
      if (weight != 0 && band.begin <= p && p < band.end) visit(i, p, weight);
    }
  }
}

// Calls visit(column of points, column of pixels, weight) for each contribution within the map.
template <typename acc_t, typename Visit>
MMBANET_INLINE void for_each_column(const SplattedRoi<acc_t>& roi, const Visit& visit) {
  for (size_t j = 0; j < roi.columns.size(); ++j) {
    const SplatWeights<acc_t>& column = roi.columns[j];
    if (column.weight_low != 0) visit(j, column.low, column.weight_low);
    if (column.weight_high != 0) visit(j, column.low + 1, column.weight_high);
  }
}

// Increments row(p)[q] for each contribution to the pixel (p, q) of the band.
template <typename acc_t, typename Row>
void count_contributions(const std::vector<SplattedRoi<acc_t>>& rois, Band band, const Row& row) {
  for (const auto& roi : rois) {
    for_each_row(roi, band, [&](size_t, int p, acc_t) {
      acc_t* const counts = row(p);
      for_each_column(roi, [&](size_t, int q, acc_t) { counts[q] += 1; });
    });
  }
}

template <typename Layout>
void upsample_image(const Layout& layout, const typename Layout::scalar_t* crops,
                    const typename Layout::scalar_t* crops_end, const std::vector<Roi>& rois,
                    int crop_height, int crop_width, int height, int width, bool mean, bool zeroed,
                    typename Layout::scalar_t* map) {
  using acc_t = typename Layout::acc_t;
  const auto splatted = splat_rois<acc_t>(rois, crop_height, crop_width, height, width);
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  const int element = layout.element;
  const Bands bands(layout, height, width);
  const auto coverage = cover<Layout>(
      bands, width, [&](Band band, const auto& row) { count_contributions(splatted, band, row); });

  at::parallel_for(0, bands.tasks(), 1, [&](int64_t task_begin, int64_t task_end) {
    AlignedVector<acc_t> sums(bands.size());
    AlignedVector<acc_t> points_scratch(static_cast<int64_t>(crop_width) * element +
                                        Layout::Matrix::kPadding);
    run_vectorized([&](auto) MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t index = bands.index_of(task), block = bands.block_of(task);
        const Band band = bands[index];
        for (const auto& roi : splatted) {
          const auto* const crop = crops + layout.plane(roi.index, block, crop_plane);
          for_each_row(roi, band, [&](size_t i, int p, acc_t row_weight) MMBANET_INLINE_LAMBDA {
            const acc_t* MMBANET_RESTRICT points =
                layout.load(crop + layout.pixel(i * crop_width), crops_end, crop_width, block,
                            points_scratch.data());
            acc_t* MMBANET_RESTRICT row = sums.data() + (p - band.begin) * bands.stride();
            for_each_column(roi, [&](size_t j, int64_t q, acc_t weight) MMBANET_INLINE_LAMBDA {
              weight *= row_weight;
              for (int c = 0; c < element; ++c) {
                row[q * element + c] += weight * points[j * element + c];
              }
            });
          });
        }
        const auto factor = [mean](acc_t inverse_count)
                                MMBANET_INLINE_LAMBDA { return mean ? inverse_count : acc_t(1); };
        coverage[index].store(layout, band, sums.data(), bands.stride(), block, zeroed, factor,
                              map + layout.plane(0, block, static_cast<int64_t>(height) * width));
      }
    });
  });
}

Tensor roi_upsample_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                        int64_t width, double spatial_scale, bool aligned, bool mean) {
  const auto images = list_rois(rois, batch_size, height, width, spatial_scale, aligned, &input);
  const int64_t channels = input.size(1), map_size = channels * height * width;
  const auto memory_format = input.suggest_memory_format();
  const MapMemory output =
      allocate_map({batch_size, channels, height, width}, input.options(), memory_format);
  if (output.tensor.numel() == 0) return output.tensor;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_upsample", [&] {
        const auto* const crops = input.data_ptr<scalar_t>();
        auto* const maps = output.tensor.data_ptr<scalar_t>();
        for (int64_t n = 0; n < batch_size; ++n) {
          dispatch_layout<scalar_t>(memory_format, channels, [&](const auto& layout) {
            upsample_image(layout, crops, crops + input.numel(), images[n], input.size(2),
                           input.size(3), height, width, mean, output.zeroed, maps + n * map_size);
          });
        }
      });
  return output.tensor;
}

// grad: of one image's map.
template <typename Layout>
void upsample_image_backward(const Layout& layout, const typename Layout::scalar_t* grad,
                             const std::vector<Roi>& rois, int height, int width, int crop_height,
                             int crop_width, bool mean, typename Layout::scalar_t* grad_input) {
  using acc_t = typename Layout::acc_t;
  const auto splatted = splat_rois<acc_t>(rois, crop_height, crop_width, height, width);
  const int64_t map_plane = static_cast<int64_t>(height) * width;
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  const Coverage<Layout> coverage({0, height}, width, [&](Band band, const auto& row) {
    if (mean) count_contributions(splatted, band, row);
  });
  const int64_t num_rois = static_cast<int64_t>(splatted.size());
  at::parallel_for(0, layout.blocks * num_rois, 1, [&](int64_t task_begin, int64_t task_end) {
    AlignedVector<acc_t> points(static_cast<int64_t>(crop_width) * layout.element);
    const auto one = [](int64_t) MMBANET_INLINE_LAMBDA { return acc_t(1); };
    run_vectorized([&](auto) MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t block = task / num_rois;
        const auto& roi = splatted[task % num_rois];
        const auto* const plane = grad + layout.plane(0, block, map_plane);
        auto* const grad_crop = grad_input + layout.plane(roi.index, block, crop_plane);
        for (int i = 0; i < crop_height; ++i) {
          std::fill(points.begin(), points.end(), acc_t(0));
          for (int half = 0; half < 2; ++half) {
            const acc_t row_weight = roi.rows[i].weight(half);
            if (row_weight == 0) continue;
            const int p = roi.rows[i].low + half;
            const acc_t* const inverse = coverage.inverse_counts(p);
            const auto* const pixels = plane + layout.pixel(static_cast<int64_t>(p) * width);
            for_each_column(roi, [&](size_t j, int q, acc_t weight) MMBANET_INLINE_LAMBDA {
              const acc_t factor = mean ? inverse[q] : acc_t(1);
              layout.add(pixels + layout.pixel(q), row_weight * weight * factor, block,
                         points.data() + j * layout.element);
            });
          }
          layout.store(points.data(), one, crop_width, block,
                       grad_crop + layout.pixel(static_cast<int64_t>(i) * crop_width));
        }
      }
    });
  });
}

Tensor roi_upsample_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                                 int64_t crop_width, double spatial_scale, bool aligned,
                                 bool mean) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const int64_t map_size = channels * height * width;
  const auto images = list_rois(rois, grad.size(0), height, width, spatial_scale, aligned);
  const auto memory_format = grad.suggest_memory_format();
  const MapMemory grad_input = allocate_map({rois.size(0), channels, crop_height, crop_width},
                                            grad.options(), memory_format);
  if (!grad_input.zeroed) grad_input.tensor.zero_();
  if (grad_input.tensor.numel() == 0 || grad.numel() == 0) return grad_input.tensor;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_upsample_backward", [&] {
        for (int64_t n = 0; n < grad.size(0); ++n) {
          dispatch_layout<scalar_t>(memory_format, channels, [&](const auto& layout) {
            upsample_image_backward(layout, grad.data_ptr<scalar_t>() + n * map_size, images[n],
                                    height, width, crop_height, crop_width, mean,
                                    grad_input.tensor.data_ptr<scalar_t>());
          });
        }
      });
  return grad_input.tensor;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_upsample_impl, CPU, roi_upsample_cpu);
REGISTER_DEVICE_IMPL(roi_upsample_backward_impl, CPU, roi_upsample_backward_cpu);

}  // namespace mmbanet
