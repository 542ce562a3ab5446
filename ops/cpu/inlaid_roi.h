// What RoIInlay's forward and backward pass on the CPU share: a RoI's weights and how a map is divided.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "banded_matrix.h"
#include "roi_list.h"
#include "simd.h"

namespace mmbanet {

// Rows of the map that are accumulated together: they should stay in the second-level cache.
constexpr int kBandElements = 32 * 1024;

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

}  // namespace mmbanet
