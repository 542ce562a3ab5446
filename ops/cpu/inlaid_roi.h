// What RoIInlay's forward and backward pass on the CPU share: a RoI's weights on both axes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "interpolation_matrix.h"
#include "roi_list.h"

namespace mmbanet {

// Tap of one row of pixels.
template <typename acc_t>
struct RowTap {
  int low;
  acc_t fraction;
};

enum class Direction { kToMap, kToCrop };

// A RoI that covers at least one pixel.
template <typename Layout>
struct InlaidRoi {
  using acc_t = typename Layout::acc_t;

  InlaidRoi(const Roi& roi, int crop_height, int crop_width, Direction direction,
            const Layout& layout)
      : index(roi.index),
        row_begin(roi.y.begin),
        row_end(roi.y.end),
        first_column(roi.x.begin / Layout::kAlignment * Layout::kAlignment),
        column_end(roi.x.end),
        columns(layout.matrix(
            column_entries(roi.x, crop_width, direction),
            direction == Direction::kToMap ? column_end - first_column : crop_width)) {
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
  int first_column, column_end;     // the first one may be a little before the RoI
  std::vector<RowTap<acc_t>> rows;  // of row_begin .. row_end - 1
  // Sampling points to pixels first_column .. column_end - 1, or the reverse.
  typename Layout::Matrix columns;

 private:
  std::vector<MatrixEntry> column_entries(const Axis& x, int crop_width,
                                          Direction direction) const {
    std::vector<MatrixEntry> entries;
    for (int q = x.begin; q < x.end; ++q) {
      const Tap tap = tap_at(x, q, crop_width);
      entries.push_back({tap.low, q - first_column, 1 - tap.fraction});
      entries.push_back({tap.low + 1, q - first_column, tap.fraction});
    }
    if (direction == Direction::kToCrop) {
      for (auto& entry : entries) std::swap(entry.in, entry.out);
    }
    return entries;
  }
};

template <typename Layout>
std::vector<InlaidRoi<Layout>> inlay_rois(const Roi* begin, const Roi* end, int crop_height,
                                          int crop_width, Direction direction,
                                          const Layout& layout) {
  std::vector<InlaidRoi<Layout>> inlaid;
  for (const Roi* roi = begin; roi != end; ++roi) {
    if (roi->y.begin == roi->y.end || roi->x.begin == roi->x.end) continue;
    inlaid.emplace_back(*roi, crop_height, crop_width, direction, layout);
  }
  return inlaid;
}

}  // namespace mmbanet
