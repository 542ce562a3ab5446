// RoIInlay on the CPU, forward and backward (section 3.2 of the paper).
//
// The interpolation is separable. Work is split over the map's planes (image, channel) and not over
// RoIs, so every element has one writer and the result does not depend on the number of threads.
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../mmbanet_ops.h"
#include "banded_matrix.h"
#include "huge_pages.h"
#include "roi_list.h"
#include "simd.h"

namespace mmbanet {
namespace {

// Rows of the map that are accumulated together: they should stay in the second-level cache.
constexpr int kBandElements = 32 * 1024;
// Backward builds its matrices for so many RoIs at a time, which bounds its memory.
constexpr size_t kRoiGroup = 64;

// A RoI's weights on both axes. Columns count from `column_begin`, which is aligned to kLanes.
template <typename acc_t>
struct RowTap {
  int low;
  acc_t fraction;
};

template <typename acc_t>
struct InlaidRoi {
  int64_t index;
  int row_begin, row_end;
  int column_begin, column_end;
  std::vector<RowTap<acc_t>> rows;  // of row_begin .. row_end - 1
  BandedMatrix<acc_t> columns;      // forward: sampling points to pixels; backward: the reverse

  const RowTap<acc_t>& row(int pixel) const { return rows[pixel - row_begin]; }
};

enum class Direction { kToMap, kToCrop };

template <typename acc_t>
InlaidRoi<acc_t> inlay_roi(const Roi& roi, int crop_height, int crop_width, Direction direction) {
  const int column_begin = roi.x.begin / kLanes * kLanes;
  std::vector<RowTap<acc_t>> rows;
  rows.reserve(roi.y.end - roi.y.begin);
  for (int p = roi.y.begin; p < roi.y.end; ++p) {
    const Tap tap = tap_at(roi.y, p, crop_height);
    rows.push_back({tap.low, static_cast<acc_t>(tap.fraction)});
  }
  std::vector<MatrixEntry> entries;
  for (int q = roi.x.begin; q < roi.x.end; ++q) {
    const Tap tap = tap_at(roi.x, q, crop_width);
    entries.push_back({tap.low, q - column_begin, 1 - tap.fraction});
    entries.push_back({tap.low + 1, q - column_begin, tap.fraction});
  }
  int outputs = roi.x.end - column_begin;
  if (direction == Direction::kToCrop) {
    outputs = crop_width;
    for (auto& entry : entries) std::swap(entry.in, entry.out);
  }
  return {roi.index,  roi.y.begin,     roi.y.end, column_begin,
          roi.x.end,  std::move(rows), {entries, outputs}};
}

template <typename acc_t>
std::vector<InlaidRoi<acc_t>> inlay_rois(const Roi* begin, const Roi* end, int crop_height,
                                         int crop_width, Direction direction) {
  std::vector<InlaidRoi<acc_t>> inlaid;
  for (const Roi* roi = begin; roi != end; ++roi) {
    if (roi->y.begin == roi->y.end || roi->x.begin == roi->x.end) continue;
    inlaid.push_back(inlay_roi<acc_t>(*roi, crop_height, crop_width, direction));
  }
  return inlaid;
}

// 1 / (number of RoIs that cover the pixel), 1 where there is none. (H, W) of one image.
template <typename acc_t>
std::vector<acc_t> inverse_counts(const std::vector<Roi>& rois, int height, int width) {
  std::vector<int32_t> counts(static_cast<size_t>(height) * width);
  for (const Roi& roi : rois) {
    for (int p = roi.y.begin; p < roi.y.end; ++p) {
      int32_t* const row = counts.data() + static_cast<size_t>(p) * width;
      for (int q = roi.x.begin; q < roi.x.end; ++q) ++row[q];
    }
  }
  std::vector<acc_t> inverse(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    inverse[i] = acc_t(1) / static_cast<acc_t>(std::max(counts[i], 1));
  }
  return inverse;
}

// Elements as the accumulation type, converted into the buffer if need be.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE const acc_t* load(const scalar_t* values, int64_t size, acc_t* buffer) {
  if constexpr (std::is_same_v<scalar_t, acc_t>) {
    return values;
  } else {
    for (int64_t i = 0; i < size; ++i) buffer[i] = static_cast<acc_t>(values[i]);
    return buffer;
  }
}

// Consecutive rows of the map between the same two rows of sampling points.
template <typename acc_t>
MMBANET_INLINE int run_end(const InlaidRoi<acc_t>& roi, int begin, int end) {
  const int low = roi.row(begin).low;
  do {
    ++begin;
  } while (begin < end && roi.row(begin).low == low);
  return begin;
}

// Rows of the map that are processed together, padded to whole Lanes.
template <typename acc_t>
struct Band {
  Band(int height, int width)
      : stride(round_up(width, kLanes)), rows(std::clamp(kBandElements / stride, 1, height)) {}

  int stride;
  int rows;
};

// Scratch memory of a thread in the forward pass.
template <typename acc_t>
struct ForwardScratch {
  AlignedVector<acc_t> band, crop, low, high;
};

// Adds a RoI's pixels in rows begin .. end - 1 of the map to the band, whose first row is band_begin.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void add_crop(const InlaidRoi<acc_t>& roi, const scalar_t* crop, int crop_height,
                             int crop_width, int begin, int end, int band_begin, int64_t stride,
                             ForwardScratch<acc_t>& scratch) {
  const int64_t first_row = roi.row(begin).low;
  const int64_t rows = std::min(roi.row(end - 1).low + 2, crop_height) - first_row;
  const acc_t* const points =
      load(crop + first_row * crop_width, rows * crop_width, scratch.crop.data());
  const bool finite = all_finite(points, rows * crop_width);
  const auto expand = [&](int row, acc_t* to) MMBANET_INLINE_LAMBDA {
    const acc_t* const from = points + (row - first_row) * crop_width;
    finite ? roi.columns.multiply(from, to) : roi.columns.multiply_nonfinite(from, to);
  };

  const int64_t size = roi.columns.padded_outputs();
  acc_t* low = scratch.low.data();
  acc_t* high = scratch.high.data();
  int expanded = -1;  // row of the crop that `high` holds
  for (int run = begin; run < end;) {
    const int next_run = run_end(roi, run, end);
    const int row = roi.row(run).low;
    if (row == expanded) {
      std::swap(low, high);
    } else {
      expand(row, low);
    }
    const bool last_row = row + 1 == crop_height;
    if (!last_row) expand(row + 1, high);
    expanded = row + 1;

    const acc_t* MMBANET_RESTRICT above = low;
    const acc_t* MMBANET_RESTRICT below = last_row ? low : high;
    acc_t* MMBANET_RESTRICT band =
        scratch.band.data() + (run - band_begin) * stride + roi.column_begin;
    const RowTap<acc_t>* MMBANET_RESTRICT taps = &roi.row(run);
    for (int64_t q = 0; q < size; q += kLanes) {
      const Lanes<acc_t> value = lanes(above + q);
      const Lanes<acc_t> difference = lanes(below + q) - value;
      acc_t* to = band + q;
      for (int i = 0; i < next_run - run; ++i, to += stride) {
        lanes(to) += value + taps[i].fraction * difference;
      }
    }
    run = next_run;
  }
}

template <typename scalar_t>
void inlay_image(const scalar_t* input, const std::vector<Roi>& rois, int64_t channels,
                 int crop_height, int crop_width, int height, int width, scalar_t* output) {
  using acc_t = at::opmath_type<scalar_t>;
  const auto inlaid = inlay_rois<acc_t>(rois.data(), rois.data() + rois.size(), crop_height,
                                        crop_width, Direction::kToMap);
  const std::vector<acc_t> inverse = inverse_counts<acc_t>(rois, height, width);
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  const Band<acc_t> band(height, width);
  const int64_t bands = (height + band.rows - 1) / band.rows;

  at::parallel_for(0, channels * bands, 1, [&](int64_t task_begin, int64_t task_end) {
    ForwardScratch<acc_t> scratch;
    scratch.band.resize(static_cast<int64_t>(band.rows) * band.stride);
    scratch.low.resize(band.stride);
    scratch.high.resize(band.stride);
    if constexpr (!std::is_same_v<scalar_t, acc_t>) scratch.crop.resize(crop_plane);
    run_vectorized([&]() MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t channel = task / bands;
        const int band_begin = static_cast<int>(task % bands) * band.rows;
        const int band_end = std::min(band_begin + band.rows, height);
        std::fill(scratch.band.begin(), scratch.band.end(), acc_t(0));
        for (const auto& roi : inlaid) {
          const int begin = std::max(roi.row_begin, band_begin);
          const int end = std::min(roi.row_end, band_end);
          if (begin >= end) continue;
          add_crop(roi, input + (roi.index * channels + channel) * crop_plane, crop_height,
                   crop_width, begin, end, band_begin, band.stride, scratch);
        }
        const acc_t* sum = scratch.band.data();
        for (int64_t p = band_begin; p < band_end; ++p, sum += band.stride) {
          const acc_t* MMBANET_RESTRICT factor = inverse.data() + p * width;
          scalar_t* MMBANET_RESTRICT to = output + (channel * height + p) * width;
          for (int q = 0; q < width; ++q) to[q] = static_cast<scalar_t>(sum[q] * factor[q]);
        }
      }
    });
  });
}

// Scratch memory of a thread in the backward pass.
template <typename acc_t>
struct BackwardScratch {
  AlignedVector<acc_t> band, crop_row, carried_rows;
};

// Sums over the pixels seen so far for two rows of sampling points: those between which the last
// pixel lay. Bands are visited from top to bottom, and a RoI carries these from one to the next.
template <typename acc_t>
struct Carried {
  acc_t* low;
  acc_t* high;
};

// Gathers a RoI's pixels in rows begin .. end - 1 of the band. Rows first: pixels between two rows of
// sampling points are summed into both; a complete row goes through the transposed column matrix.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void gather_crop(const InlaidRoi<acc_t>& roi, int begin, int end, int band_begin,
                                int64_t stride, int crop_height, int crop_width,
                                Carried<acc_t>& carried, scalar_t* grad_crop,
                                BackwardScratch<acc_t>& scratch) {
  const int64_t size = round_up(roi.column_end - roi.column_begin, kLanes);
  const auto clear = [&](acc_t* row) MMBANET_INLINE_LAMBDA { std::fill(row, row + size, acc_t(0)); };
  const auto finish = [&](int64_t row, const acc_t* from) MMBANET_INLINE_LAMBDA {
    acc_t* const crop_row = scratch.crop_row.data();
    all_finite(from, size) ? roi.columns.multiply(from, crop_row)
                           : roi.columns.multiply_nonfinite(from, crop_row);
    scalar_t* const to = grad_crop + row * crop_width;
    for (int j = 0; j < crop_width; ++j) to[j] = static_cast<scalar_t>(crop_row[j]);
  };

  if (begin == roi.row_begin) {
    clear(carried.low);
    clear(carried.high);
  }
  for (int run = begin; run < end;) {
    const int next_run = run_end(roi, run, end);
    const int row = roi.row(run).low;
    const int row_before = run == roi.row_begin ? row : roi.row(run - 1).low;
    if (row != row_before) {
      finish(row_before, carried.low);
      if (row == row_before + 1) {
        std::swap(carried.low, carried.high);
      } else {
        finish(row_before + 1, carried.high);
        clear(carried.low);
      }
      clear(carried.high);
    }
    const acc_t* MMBANET_RESTRICT band =
        scratch.band.data() + (run - band_begin) * stride + roi.column_begin;
    const RowTap<acc_t>* MMBANET_RESTRICT taps = &roi.row(run);
    for (int64_t q = 0; q < size; q += kLanes) {
      Lanes<acc_t> low = lanes(carried.low + q);
      Lanes<acc_t> high = lanes(carried.high + q);
      const acc_t* from = band + q;
      for (int i = 0; i < next_run - run; ++i, from += stride) {
        const Lanes<acc_t> part = taps[i].fraction * lanes(from);
        low += lanes(from) - part;
        high += part;
      }
      lanes(carried.low + q) = low;
      lanes(carried.high + q) = high;
    }
    run = next_run;
  }
  if (end == roi.row_end) {
    const int row = roi.row(end - 1).low;
    finish(row, carried.low);
    if (row + 1 < crop_height) finish(row + 1, carried.high);
  }
}

template <typename scalar_t>
void inlay_image_backward(const scalar_t* grad, const std::vector<Roi>& rois, int64_t channels,
                          int height, int width, int crop_height, int crop_width,
                          scalar_t* grad_input) {
  using acc_t = at::opmath_type<scalar_t>;
  const std::vector<acc_t> inverse = inverse_counts<acc_t>(rois, height, width);
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  const Band<acc_t> band(height, width);
  for (size_t group = 0; group < rois.size(); group += kRoiGroup) {
    const size_t group_end = std::min(group + kRoiGroup, rois.size());
    const auto inlaid = inlay_rois<acc_t>(rois.data() + group, rois.data() + group_end, crop_height,
                                          crop_width, Direction::kToCrop);
    at::parallel_for(0, channels, 1, [&](int64_t channel_begin, int64_t channel_end) {
      BackwardScratch<acc_t> scratch;
      scratch.band.resize(static_cast<int64_t>(band.rows) * band.stride);
      scratch.crop_row.resize(round_up(crop_width, kLanes));
      scratch.carried_rows.resize(inlaid.size() * 2 * band.stride);
      std::vector<Carried<acc_t>> carried;
      for (size_t i = 0; i < inlaid.size(); ++i) {
        acc_t* const rows = scratch.carried_rows.data() + i * 2 * band.stride;
        carried.push_back({rows, rows + band.stride});
      }
      run_vectorized([&]() MMBANET_INLINE_LAMBDA {
        for (int64_t channel = channel_begin; channel < channel_end; ++channel) {
          for (int band_begin = 0; band_begin < height; band_begin += band.rows) {
            const int band_end = std::min(band_begin + band.rows, height);
            acc_t* MMBANET_RESTRICT to = scratch.band.data();
            for (int64_t p = band_begin; p < band_end; ++p, to += band.stride) {
              const acc_t* MMBANET_RESTRICT factor = inverse.data() + p * width;
              const scalar_t* MMBANET_RESTRICT from = grad + (channel * height + p) * width;
              for (int q = 0; q < width; ++q) to[q] = static_cast<acc_t>(from[q]) * factor[q];
            }
            for (size_t i = 0; i < inlaid.size(); ++i) {
              const auto& roi = inlaid[i];
              const int begin = std::max(roi.row_begin, band_begin);
              const int end = std::min(roi.row_end, band_end);
              if (begin >= end) continue;
              gather_crop(roi, begin, end, band_begin, band.stride, crop_height, crop_width,
                          carried[i], grad_input + (roi.index * channels + channel) * crop_plane,
                          scratch);
            }
          }
        }
      });
    });
  }
}

Tensor roi_inlay_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                     int64_t width, double spatial_scale, bool aligned) {
  const auto images =
      list_rois(rois, batch_size, height, width, spatial_scale, aligned, &input);
  const int64_t channels = input.size(1);
  Tensor output = empty_on_huge_pages({batch_size, channels, height, width}, input.options());
  if (output.numel() == 0) return output;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
        for (int64_t n = 0; n < batch_size; ++n) {
          inlay_image<scalar_t>(input.data_ptr<scalar_t>(), images[n], channels, input.size(2),
                                input.size(3), height, width,
                                output.data_ptr<scalar_t>() + n * channels * height * width);
        }
      });
  return output;
}

Tensor roi_inlay_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                              int64_t crop_width, double spatial_scale, bool aligned) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const auto images =
      list_rois(rois, grad.size(0), height, width, spatial_scale, aligned);
  Tensor grad_input =
      empty_on_huge_pages({rois.size(0), channels, crop_height, crop_width}, grad.options());
  grad_input.zero_();
  if (grad_input.numel() == 0 || grad.numel() == 0) return grad_input;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        for (int64_t n = 0; n < grad.size(0); ++n) {
          inlay_image_backward<scalar_t>(
              grad.data_ptr<scalar_t>() + n * channels * height * width, images[n], channels,
              height, width, crop_height, crop_width, grad_input.data_ptr<scalar_t>());
        }
      });
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_impl, CPU, roi_inlay_cpu);
REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CPU, roi_inlay_backward_cpu);

}  // namespace mmbanet
