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

// Scratch memory of a thread.
template <typename acc_t>
struct Scratch {
  AlignedVector<acc_t> band, source, low, high;
};

// A crop's row as the accumulation type.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE const acc_t* load_row(const scalar_t* row, int size, AlignedVector<acc_t>& buffer) {
  if constexpr (std::is_same_v<scalar_t, acc_t>) {
    return row;
  } else {
    for (int i = 0; i < size; ++i) buffer[i] = static_cast<acc_t>(row[i]);
    return buffer.data();
  }
}

// Adds a RoI's pixels in rows begin .. end - 1 to the band, whose first row is band_begin.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void add_crop(const InlaidRoi<acc_t>& roi, const scalar_t* crop, int crop_height,
                             int crop_width, int begin, int end, int band_begin, int stride,
                             Scratch<acc_t>& scratch) {
  const int size = roi.columns.padded_outputs();
  acc_t* low = scratch.low.data();
  acc_t* high = scratch.high.data();
  const auto expand = [&](int row, acc_t* to) MMBANET_INLINE_LAMBDA {
    const scalar_t* const from = crop + static_cast<int64_t>(row) * crop_width;
    const acc_t* const values = load_row(from, crop_width, scratch.source);
    if (all_finite(values, crop_width)) {
      roi.columns.multiply(values, to);
    } else {
      roi.columns.multiply_nonfinite(values, to);
    }
  };
  int current = -2;
  for (int p = begin; p < end; ++p) {
    const RowTap<acc_t> tap = roi.rows[p - roi.row_begin];
    if (tap.low != current) {
      if (tap.low == current + 1) {
        std::swap(low, high);
      } else {
        expand(tap.low, low);
      }
      if (tap.low + 1 < crop_height) expand(tap.low + 1, high);
      current = tap.low;
    }
    const acc_t* MMBANET_RESTRICT above = low;
    const acc_t* MMBANET_RESTRICT below = current + 1 < crop_height ? high : low;
    acc_t* MMBANET_RESTRICT to =
        scratch.band.data() + static_cast<int64_t>(p - band_begin) * stride + roi.column_begin;
    const acc_t fraction = tap.fraction;
    for (int q = 0; q < size; q += kLanes) {
      const Lanes<acc_t> from = lanes(above + q);
      lanes(to + q) += from + fraction * (lanes(below + q) - from);
    }
  }
}

template <typename scalar_t>
void inlay_image(const scalar_t* input, const std::vector<Roi>& rois, int64_t channels,
                 int crop_height, int crop_width, int height, int width, scalar_t* output) {
  using acc_t = at::opmath_type<scalar_t>;
  const auto inlaid = inlay_rois<acc_t>(rois.data(), rois.data() + rois.size(), crop_height,
                                        crop_width, Direction::kToMap);
  const std::vector<acc_t> inverse = inverse_counts<acc_t>(rois, height, width);
  const int64_t plane = static_cast<int64_t>(height) * width;
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  const int stride = round_up(width, 64 / static_cast<int>(sizeof(acc_t)));
  const int band_rows = std::clamp(kBandElements / stride, 1, height);
  const int64_t bands = (height + band_rows - 1) / band_rows;

  at::parallel_for(0, channels * bands, 1, [&](int64_t task_begin, int64_t task_end) {
    Scratch<acc_t> scratch;
    scratch.band.resize(static_cast<size_t>(band_rows) * stride);
    scratch.source.resize(crop_width);
    scratch.low.resize(stride);
    scratch.high.resize(stride);
    run_vectorized([&]() MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t channel = task / bands;
        const int band_begin = static_cast<int>(task % bands) * band_rows;
        const int band_end = std::min(band_begin + band_rows, height);
        std::fill(scratch.band.begin(), scratch.band.end(), acc_t(0));
        for (const auto& roi : inlaid) {
          const int begin = std::max(roi.row_begin, band_begin);
          const int end = std::min(roi.row_end, band_end);
          if (begin >= end) continue;
          add_crop(roi, input + (roi.index * channels + channel) * crop_plane, crop_height,
                   crop_width, begin, end, band_begin, stride, scratch);
        }
        for (int p = band_begin; p < band_end; ++p) {
          const acc_t* MMBANET_RESTRICT sum =
              scratch.band.data() + static_cast<int64_t>(p - band_begin) * stride;
          const acc_t* MMBANET_RESTRICT factor =
              inverse.data() + static_cast<int64_t>(p) * width;
          scalar_t* MMBANET_RESTRICT to = output + channel * plane + static_cast<int64_t>(p) * width;
          for (int q = 0; q < width; ++q) to[q] = static_cast<scalar_t>(sum[q] * factor[q]);
        }
      }
    });
  });
}

// Gradient of one crop's channel. Rows first: `low` and `high` gather the map's rows that lie between
// two rows of sampling points; each row is then finished by the transposed column matrix.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void gather_crop(const InlaidRoi<acc_t>& roi, const scalar_t* grad,
                                const acc_t* inverse, int width, int crop_height, int crop_width,
                                scalar_t* grad_crop, Scratch<acc_t>& scratch) {
  const int size = roi.column_end - roi.column_begin;
  acc_t* low = scratch.low.data();
  acc_t* high = scratch.high.data();
  const auto finish = [&](int row, const acc_t* from) MMBANET_INLINE_LAMBDA {
    if (all_finite(from, size)) {
      roi.columns.multiply(from, scratch.source.data());
    } else {
      roi.columns.multiply_nonfinite(from, scratch.source.data());
    }
    scalar_t* const to = grad_crop + static_cast<int64_t>(row) * crop_width;
    for (int j = 0; j < crop_width; ++j) to[j] = static_cast<scalar_t>(scratch.source[j]);
  };
  const auto clear = [&](acc_t* row) MMBANET_INLINE_LAMBDA { std::fill(row, row + size, acc_t(0)); };

  int current = roi.rows.front().low;
  clear(low);
  clear(high);
  for (int p = roi.row_begin; p < roi.row_end; ++p) {
    const RowTap<acc_t> tap = roi.rows[p - roi.row_begin];
    if (tap.low != current) {
      finish(current, low);
      if (tap.low == current + 1) {
        std::swap(low, high);
      } else {
        finish(current + 1, high);
        clear(low);
      }
      clear(high);
      current = tap.low;
    }
    const int64_t offset = static_cast<int64_t>(p) * width + roi.column_begin;
    const scalar_t* MMBANET_RESTRICT from = grad + offset;
    const acc_t* MMBANET_RESTRICT factor = inverse + offset;
    acc_t* MMBANET_RESTRICT above = low;
    acc_t* MMBANET_RESTRICT below = high;
    const acc_t fraction = tap.fraction;
    for (int q = 0; q < size; ++q) {
      const acc_t value = static_cast<acc_t>(from[q]) * factor[q];
      const acc_t part = fraction * value;
      above[q] += value - part;
      below[q] += part;
    }
  }
  finish(current, low);
  if (current + 1 < crop_height) finish(current + 1, high);
}

template <typename scalar_t>
void inlay_image_backward(const scalar_t* grad, const std::vector<Roi>& rois, int64_t channels,
                          int height, int width, int crop_height, int crop_width,
                          scalar_t* grad_input) {
  using acc_t = at::opmath_type<scalar_t>;
  const std::vector<acc_t> inverse = inverse_counts<acc_t>(rois, height, width);
  const int64_t plane = static_cast<int64_t>(height) * width;
  const int64_t crop_plane = static_cast<int64_t>(crop_height) * crop_width;
  for (size_t group = 0; group < rois.size(); group += kRoiGroup) {
    const size_t group_end = std::min(group + kRoiGroup, rois.size());
    const auto inlaid = inlay_rois<acc_t>(rois.data() + group, rois.data() + group_end, crop_height,
                                          crop_width, Direction::kToCrop);
    at::parallel_for(0, channels, 1, [&](int64_t channel_begin, int64_t channel_end) {
      Scratch<acc_t> scratch;
      scratch.source.resize(round_up(crop_width, kLanes));
      scratch.low.resize(width);
      scratch.high.resize(width);
      run_vectorized([&]() MMBANET_INLINE_LAMBDA {
        for (int64_t channel = channel_begin; channel < channel_end; ++channel) {
          for (const auto& roi : inlaid) {
            gather_crop(roi, grad + channel * plane, inverse.data(), width, crop_height, crop_width,
                        grad_input + (roi.index * channels + channel) * crop_plane, scratch);
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
  Tensor output = at::empty({batch_size, channels, height, width}, input.options());
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
      at::zeros({rois.size(0), channels, crop_height, crop_width}, grad.options());
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
