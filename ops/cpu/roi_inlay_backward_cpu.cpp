// RoIInlay on the CPU, backward: the transpose of the forward pass, gathered by the sampling
// points.
//
// Work is split over channels, so every element has one writer.
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

// The matrices of so many RoIs exist at a time, which bounds the memory.
constexpr size_t kRoiGroup = 64;

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

// Gathers a RoI's pixels in rows begin .. end - 1 of the band. Rows first: pixels between two rows
// of sampling points are summed into both; a complete row goes through the transposed column
// matrix.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void gather_crop(const InlaidRoi<acc_t>& roi, int begin, int end, int band_begin,
                                int64_t stride, int crop_height, int crop_width,
                                Carried<acc_t>& carried, scalar_t* grad_crop,
                                BackwardScratch<acc_t>& scratch) {
  const int64_t size = round_up(roi.column_end - roi.column_begin, kLanes);
  const auto clear = [&](acc_t* row)
                         MMBANET_INLINE_LAMBDA { std::fill(row, row + size, acc_t(0)); };
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
    const int next_run = roi.run_end(run, end);
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
  const Band band(height, width);
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

Tensor roi_inlay_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                              int64_t crop_width, double spatial_scale, bool aligned) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const auto images = list_rois(rois, grad.size(0), height, width, spatial_scale, aligned);
  Tensor grad_input =
      empty_on_huge_pages({rois.size(0), channels, crop_height, crop_width}, grad.options());
  grad_input.zero_();
  if (grad_input.numel() == 0 || grad.numel() == 0) return grad_input;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_inlay_backward", [&] {
        for (int64_t n = 0; n < grad.size(0); ++n) {
          inlay_image_backward<scalar_t>(grad.data_ptr<scalar_t>() + n * channels * height * width,
                                         images[n], channels, height, width, crop_height,
                                         crop_width, grad_input.data_ptr<scalar_t>());
        }
      });
  return grad_input;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CPU, roi_inlay_backward_cpu);

}  // namespace mmbanet
