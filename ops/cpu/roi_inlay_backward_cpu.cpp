// RoIInlay on the CPU, backward: the transpose of the forward pass, gathered by the sampling
// points.
//
// Work is split over crops and channels, so every element has one writer.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "../mmbanet_ops.h"
#include "coverage.h"
#include "inlaid_roi.h"
#include "layout.h"
#include "map_memory.h"

namespace mmbanet {
namespace {

// The matrices of so many RoIs exist at a time, which bounds the memory.
constexpr size_t kRoiGroup = 64;

// One image's gradient, each pixel over the number of RoIs that cover it; one block of channels at
// a time. Planes are copied, one at a time: RoIs that overlap share the division, and rows are
// aligned.
template <typename scalar_t>
class PlanarGradient {
 public:
  using Layout = Planar<scalar_t>;
  using acc_t = typename Layout::acc_t;

  PlanarGradient(const Layout& layout, const scalar_t* begin, const scalar_t* /*end*/,
                 const Coverage<Layout>& coverage, int height, int width)
      : layout_(layout),
        begin_(begin),
        coverage_(coverage),
        height_(height),
        width_(width),
        stride_(round_up(width, kLanes)),
        plane_(height * stride_) {}

  MMBANET_INLINE void select(int64_t block) {
    if (block == block_) return;
    block_ = block;
    const scalar_t* from = begin_ + layout_.plane(0, block, static_cast<int64_t>(height_) * width_);
    acc_t* to = plane_.data();
    for (int p = 0; p < height_; ++p, from += width_, to += stride_) {
      const acc_t* const factors = coverage_.inverse_counts(p);
      coverage_.for_each_span(p, [&](int begin, int end) MMBANET_INLINE_LAMBDA {
        multiply(from + begin, factors + begin, end - begin, to + begin);
      });
    }
  }

  // The chunks from a pixel on, as a function.
  MMBANET_INLINE auto row(int p, int first_column) const {
    const acc_t* const from = plane_.data() + p * stride_ + first_column;
    return [from](int64_t chunk) MMBANET_INLINE_LAMBDA { return lanes(from + chunk * kLanes); };
  }

 private:
  MMBANET_INLINE static void multiply(const scalar_t* MMBANET_RESTRICT from,
                                      const acc_t* MMBANET_RESTRICT factors, int size,
                                      acc_t* MMBANET_RESTRICT to) {
    for (int q = 0; q < size; ++q) to[q] = static_cast<acc_t>(from[q]) * factors[q];
  }

  const Layout& layout_;
  const scalar_t* begin_;
  const Coverage<Layout>& coverage_;
  int height_, width_;
  int64_t stride_;
  int64_t block_ = -1;
  AlignedVector<acc_t> plane_;
};

template <typename scalar_t>
class InterleavedGradient {
 public:
  using Layout = Interleaved<scalar_t>;
  using acc_t = typename Layout::acc_t;

  InterleavedGradient(const Layout& layout, const scalar_t* begin, const scalar_t* end,
                      const Coverage<Layout>& coverage, int /*height*/, int width)
      : layout_(layout), begin_(begin), end_(end), coverage_(coverage), width_(width) {}

  MMBANET_INLINE void select(int64_t block) { from_ = begin_ + layout_.plane(0, block, 0); }

  MMBANET_INLINE auto row(int p, int first_column) const {
    const int64_t pixel = static_cast<int64_t>(p) * width_ + first_column;
    return [this, from = from_ + layout_.pixel(pixel),
            factors = coverage_.inverse_counts(p) + first_column](int64_t chunk)
               MMBANET_INLINE_LAMBDA { return layout_.load_chunk(from, factors, chunk, end_); };
  }

 private:
  const Layout& layout_;
  const scalar_t *begin_, *end_;
  const scalar_t* from_ = nullptr;
  const Coverage<Layout>& coverage_;
  int width_;
};

template <typename scalar_t>
PlanarGradient<scalar_t> gradient_of(const Planar<scalar_t>&);
template <typename scalar_t>
InterleavedGradient<scalar_t> gradient_of(const Interleaved<scalar_t>&);

// Scratch memory of a thread.
template <typename acc_t>
struct Scratch {
  // Sums over pixels for two neighbouring rows of sampling points; the columns are still pixels.
  AlignedVector<acc_t> low, high;
  AlignedVector<acc_t> points;  // a row of sampling points
};

// The gradient of one crop's block of channels. Rows first: pixels between two rows of sampling
// points are summed into both; a complete row goes through the transposed column matrix.
template <typename Target, typename Layout, typename Gradient>
MMBANET_INLINE void gather_crop(const Layout& layout, const InlaidRoi<Layout>& roi,
                                const Gradient& gradient, int64_t block, int crop_height,
                                int crop_width, typename Layout::scalar_t* grad_crop,
                                Scratch<typename Layout::acc_t>& scratch) {
  using acc_t = typename Layout::acc_t;
  const int64_t size = static_cast<int64_t>(roi.column_end - roi.first_column) * layout.element;
  const int64_t chunks = (size + kLanes - 1) / kLanes;
  acc_t* low = scratch.low.data();
  acc_t* high = scratch.high.data();
  const auto clear = [&](acc_t* row)
                         MMBANET_INLINE_LAMBDA { std::fill(row, row + chunks * kLanes, acc_t(0)); };
  const auto finish = [&](int64_t row, const acc_t* from) MMBANET_INLINE_LAMBDA {
    const bool finite = all_finite<acc_t>(from, chunks * kLanes);
    for (int64_t i = 0; i < roi.columns.chunks(); ++i) {
      lanes(scratch.points.data() + i * kLanes) =
          roi.columns.template product<Target>(from, i, finite);
    }
    const auto factor = [](int64_t) MMBANET_INLINE_LAMBDA { return acc_t(1); };
    layout.store(scratch.points.data(), factor, crop_width, block,
                 grad_crop + layout.pixel(row * crop_width));
  };

  clear(low);
  clear(high);
  int row = roi.row(roi.row_begin).low;
  for (int run = roi.row_begin; run < roi.row_end;) {
    const int next_run = roi.run_end(run, roi.row_end);
    if (roi.row(run).low != row) {
      finish(row, low);
      if (roi.row(run).low == row + 1) {
        std::swap(low, high);
      } else {
        finish(row + 1, high);
        clear(low);
      }
      clear(high);
      row = roi.row(run).low;
    }
    for (int p = run; p < next_run; ++p) {
      const auto pixels = gradient.row(p, roi.first_column);
      const acc_t fraction = roi.row(p).fraction;
      for (int64_t i = 0; i < chunks; ++i) {
        const Lanes<acc_t> value = pixels(i);
        const Lanes<acc_t> part = fraction * value;
        lanes(low + i * kLanes) += value - part;
        lanes(high + i * kLanes) += part;
      }
    }
    run = next_run;
  }
  finish(row, low);
  if (row + 1 < crop_height) finish(row + 1, high);
}

// grad: of one image's map.
template <typename Layout>
void inlay_image_backward(const Layout& layout, const typename Layout::scalar_t* grad,
                          const std::vector<Roi>& rois, int height, int width, int crop_height,
                          int crop_width, typename Layout::scalar_t* grad_input) {
  using acc_t = typename Layout::acc_t;
  const Coverage<Layout> coverage({0, height}, width, count_rois(rois));
  const auto* const grad_end = grad + layout.channels() * height * width;
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  for (size_t group = 0; group < rois.size(); group += kRoiGroup) {
    const size_t group_end = std::min(group + kRoiGroup, rois.size());
    const auto inlaid = inlay_rois<Layout>(rois.data() + group, rois.data() + group_end,
                                           crop_height, crop_width, Direction::kToCrop, layout);
    const int64_t group_size = static_cast<int64_t>(inlaid.size());
    at::parallel_for(0, layout.blocks * group_size, 1, [&](int64_t task_begin, int64_t task_end) {
      decltype(gradient_of(layout)) gradient(layout, grad, grad_end, coverage, height, width);
      Scratch<acc_t> scratch;
      const int64_t row_size = static_cast<int64_t>(width + kLanes) * layout.element;
      scratch.low.resize(row_size + Layout::Matrix::kPadding);
      scratch.high.resize(row_size + Layout::Matrix::kPadding);
      scratch.points.resize(static_cast<int64_t>(crop_width) * layout.element + kLanes);
      run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
        for (int64_t task = task_begin; task < task_end; ++task) {
          const int64_t block = task / group_size;
          const auto& roi = inlaid[task % group_size];
          gradient.select(block);
          gather_crop<decltype(target)>(layout, roi, gradient, block, crop_height, crop_width,
                                        grad_input + layout.plane(roi.index, block, crop_plane),
                                        scratch);
        }
      });
    });
  }
}

Tensor roi_inlay_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                              int64_t crop_width, double spatial_scale, bool aligned) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const int64_t map_size = channels * height * width;
  const auto images = list_rois(rois, grad.size(0), height, width, spatial_scale, aligned);
  const auto memory_format = grad.suggest_memory_format();
  const MapMemory grad_input = allocate_map({rois.size(0), channels, crop_height, crop_width},
                                            grad.options(), memory_format);
  if (!grad_input.zeroed) grad_input.tensor.zero_();
  if (grad_input.tensor.numel() == 0 || grad.numel() == 0) return grad_input.tensor;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        for (int64_t n = 0; n < grad.size(0); ++n) {
          dispatch_layout<scalar_t>(memory_format, channels, [&](const auto& layout) {
            inlay_image_backward(layout, grad.data_ptr<scalar_t>() + n * map_size, images[n],
                                 height, width, crop_height, crop_width,
                                 grad_input.tensor.data_ptr<scalar_t>());
          });
        }
      });
  return grad_input.tensor;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CPU, roi_inlay_backward_cpu);

}  // namespace mmbanet
