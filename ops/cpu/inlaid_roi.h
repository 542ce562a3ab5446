// What RoIInlay's forward and backward pass on the CPU share: a RoI's weights on both axes, and how
// a map is divided.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "banded_matrix.h"
#include "roi_list.h"
#include "simd.h"

namespace mmbanet {

// Elements of the map that are processed together; they should stay in the second-level cache.
constexpr int kBandElements = 32 * 1024;

// Consecutive rows of the map, padded to whole Lanes.
struct Band {
  Band(int height, int width)
      : stride(round_up(width, kLanes)), rows(std::clamp(kBandElements / stride, 1, height)) {}

  int stride;
  int rows;
};

// Tap of one row of pixels.
template <typename acc_t>
struct RowTap {
  int low;
  acc_t fraction;
};

enum class Direction { kToMap, kToCrop };

// A RoI that covers at least one pixel.
template <typename acc_t>
struct InlaidRoi {
  InlaidRoi(const Roi& roi, int crop_height, int crop_width, Direction direction)
      : index(roi.index),
        row_begin(roi.y.begin),
        row_end(roi.y.end),
        column_begin(roi.x.begin / kLanes * kLanes),
        column_end(roi.x.end),
        columns(column_entries(roi.x, crop_width, direction),
                direction == Direction::kToMap ? column_end - column_begin : crop_width) {
    rows.reserve(row_end - row_begin);
    for (int p = row_begin; p < row_end; ++p) {
      const Tap tap = tap_at(roi.y, p, crop_height);
      rows.push_back({tap.low, static_cast<acc_t>(tap.fraction)});
    }
  }

  const RowTap<acc_t>& row(int pixel) const { return rows[pixel - row_begin]; }

  // The end of the run of rows, from `begin` on, that lie between the same rows of sampling points.
  MMBANET_INLINE int run_end(int begin, int end) const {
    const int low = row(begin).low;
    do {
      ++begin;
    } while (begin < end && row(begin).low == low);
    return begin;
  }

  int64_t index;  // row of `rois`
  int row_begin, row_end;
  int column_begin, column_end;  // column_begin is aligned, so that bands are read in whole Lanes
  std::vector<RowTap<acc_t>> rows;  // of row_begin .. row_end - 1
  BandedMatrix<acc_t> columns;  // sampling points to pixels from column_begin on, or the reverse

 private:
  std::vector<MatrixEntry> column_entries(const Axis& x, int crop_width,
                                          Direction direction) const {
    std::vector<MatrixEntry> entries;
    for (int q = x.begin; q < x.end; ++q) {
      const Tap tap = tap_at(x, q, crop_width);
      entries.push_back({tap.low, q - column_begin, 1 - tap.fraction});
      entries.push_back({tap.low + 1, q - column_begin, tap.fraction});
    }
    if (direction == Direction::kToCrop) {
      for (auto& entry : entries) std::swap(entry.in, entry.out);
    }
    return entries;
  }
};

template <typename acc_t>
std::vector<InlaidRoi<acc_t>> inlay_rois(const Roi* begin, const Roi* end, int crop_height,
                                         int crop_width, Direction direction) {
  std::vector<InlaidRoi<acc_t>> inlaid;
  for (const Roi* roi = begin; roi != end; ++roi) {
    if (roi->y.begin == roi->y.end || roi->x.begin == roi->x.end) continue;
    inlaid.emplace_back(*roi, crop_height, crop_width, direction);
  }
  return inlaid;
}

// 1 / (number of RoIs that cover the pixel), 1 where there is none. (H, W) of one image.
template <typename acc_t>
std::vector<acc_t> inverse_counts(const std::vector<Roi>& rois, int height, int width) {
  std::vector<acc_t> counts(static_cast<size_t>(height) * width);
  for (const Roi& roi : rois) {
    for (int p = roi.y.begin; p < roi.y.end; ++p) {
      acc_t* const row = counts.data() + static_cast<size_t>(p) * width;
      for (int q = roi.x.begin; q < roi.x.end; ++q) row[q] += 1;
    }
  }
  for (acc_t& count : counts) count = acc_t(1) / std::max(count, acc_t(1));
  return counts;
}

}  // namespace mmbanet
