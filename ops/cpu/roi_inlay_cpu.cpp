// RoIInlay on the CPU, forward (section 3.2 of the paper).
//
// The interpolation is separable. Work is split over parts of the map (image, channel, band of
// rows) and not over RoIs, so every element has one writer and the result does not depend on the
// number of threads.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "../mmbanet_ops.h"
#include "huge_pages.h"
#include "inlaid_roi.h"

namespace mmbanet {
namespace {

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

// Scratch memory of a thread in the forward pass.
template <typename acc_t>
struct ForwardScratch {
  AlignedVector<acc_t> band, crop, low, high;
};

// Adds a RoI's pixels in rows begin .. end - 1 of the map to the band, whose first row is
// band_begin.
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
    const int next_run = roi.run_end(run, end);
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
  const Band band(height, width);
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

Tensor roi_inlay_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                     int64_t width, double spatial_scale, bool aligned) {
  const auto images = list_rois(rois, batch_size, height, width, spatial_scale, aligned, &input);
  const int64_t channels = input.size(1);
  Tensor output = empty_on_huge_pages({batch_size, channels, height, width}, input.options());
  if (output.numel() == 0) return output;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
    for (int64_t n = 0; n < batch_size; ++n) {
      inlay_image<scalar_t>(input.data_ptr<scalar_t>(), images[n], channels, input.size(2),
                            input.size(3), height, width,
                            output.data_ptr<scalar_t>() + n * channels * height * width);
    }
  });
  return output;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_impl, CPU, roi_inlay_cpu);

}  // namespace mmbanet
