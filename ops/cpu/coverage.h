// How the forward passes divide a map, and which parts of it they need to write.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "roi_list.h"
#include "simd.h"

namespace mmbanet {

// Consecutive rows of the map.
struct Band {
  int begin, end;

  Band intersect(int other_begin, int other_end) const {
    return {std::max(begin, other_begin), std::min(end, other_end)};
  }
};

// Sums over RoIs are made band by band in scratch memory, which should stay in the nearer caches. A
// task is one band of one block of channels; the bands of a block follow each other, so that memory
// is written in order.
class Bands {
 public:
  template <typename Layout>
  Bands(const Layout& layout, int height, int width)
      : height_(height),
        stride_(static_cast<int64_t>(round_up(width, Layout::kAlignment)) * layout.element),
        rows_(static_cast<int>(std::clamp<int64_t>(Layout::kBandElements / stride_, 1, height))),
        count_((static_cast<int64_t>(height) + rows_ - 1) / rows_),
        blocks_(layout.blocks) {}

  int64_t count() const { return count_; }
  Band operator[](int64_t index) const {
    const int64_t begin = index * rows_;
    const int64_t end = std::min<int64_t>(begin + rows_, height_);
    return {static_cast<int>(begin), static_cast<int>(end)};
  }

  int64_t tasks() const { return blocks_ * count_; }
  int64_t block_of(int64_t task) const { return task / count_; }
  int64_t index_of(int64_t task) const { return task % count_; }

  int64_t stride() const { return stride_; }  // of a row in scratch memory
  int64_t size() const { return rows_ * stride_; }

 private:
  int height_;
  int64_t stride_;
  int rows_;
  int64_t count_, blocks_;
};

// Which pixels of a band are covered, and how often. Runs of covered pixels, "spans", are widened
// to multiples of the layout's alignment.
template <typename Layout>
class Coverage {
 public:
  using acc_t = typename Layout::acc_t;

  // count(band, row) increments row(p)[q] for each time that a pixel (p, q) is covered.
  template <typename Count>
  Coverage(Band band, int width, const Count& count)
      : begin_(band.begin),
        width_(width),
        inverse_counts_(static_cast<size_t>(band.end - band.begin) * width) {
    const auto row = [&](int p) { return inverse_counts_.data() + offset(p); };
    count(band, row);
    for (int p = band.begin; p < band.end; ++p) add_spans(row(p));
  }

  // (rows, width): 1 / count, 0 where that is 0.
  const acc_t* inverse_counts(int p) const { return inverse_counts_.data() + offset(p); }

  // Calls visit(begin, end) for the spans of a row.
  template <typename Visit>
  MMBANET_INLINE void for_each_span(int p, const Visit& visit) const {
    const size_t end = span_ends_[p - begin_];
    for (size_t i = p == begin_ ? 0 : span_ends_[p - begin_ - 1]; i < end; ++i) {
      visit(spans_[i].begin, spans_[i].end);
    }
  }

  // Writes the band to one block of the map: sums times their factors (covered pixels only), and 0
  // elsewhere, unless the map is `zeroed` already. Clears the sums.
  //   factor(inverse count): what a sum is multiplied with.
  template <typename Factor>
  MMBANET_INLINE void store(const Layout& layout, Band band, acc_t* sums, int64_t stride,
                            int64_t block, bool zeroed, const Factor& factor,
                            typename Layout::scalar_t* plane) const {
    for (int p = band.begin; p < band.end; ++p, sums += stride) {
      const acc_t* const inverse = inverse_counts(p);
      auto* const to = plane + layout.pixel(static_cast<int64_t>(p) * width_);
      int column = 0;
      for_each_span(p, [&](int begin, int end) MMBANET_INLINE_LAMBDA {
        if (!zeroed) layout.clear(to + layout.pixel(column), begin - column, block);
        acc_t* const from = sums + static_cast<int64_t>(begin) * layout.element;
        layout.store(
            from, [&](int64_t q) MMBANET_INLINE_LAMBDA { return factor(inverse[begin + q]); },
            end - begin, block, to + layout.pixel(begin));
        std::fill(from, from + static_cast<int64_t>(end - begin) * layout.element, acc_t(0));
        column = end;
      });
      if (!zeroed) layout.clear(to + layout.pixel(column), width_ - column, block);
    }
  }

 private:
  struct Span {
    int begin, end;
  };

  size_t offset(int p) const { return static_cast<size_t>(p - begin_) * width_; }

  void add_spans(acc_t* counts) {
    const size_t first = spans_.size();
    for (int begin = 0; begin < width_; begin += Layout::kAlignment) {
      const int end = std::min(begin + Layout::kAlignment, width_);
      const auto is_covered = [](acc_t count) { return count != 0; };
      if (std::none_of(counts + begin, counts + end, is_covered)) continue;
      for (int q = begin; q < end; ++q)
        counts[q] = counts[q] == 0 ? acc_t(0) : acc_t(1) / counts[q];
      if (spans_.size() > first && spans_.back().end == begin) {
        spans_.back().end = end;
      } else {
        spans_.push_back({begin, end});
      }
    }
    span_ends_.push_back(spans_.size());
  }

  int begin_, width_;
  std::vector<acc_t> inverse_counts_;
  std::vector<Span> spans_;        // of all rows, one after the other
  std::vector<size_t> span_ends_;  // of each row
};

// For Coverage: how often RoIs cover pixels.
inline auto count_rois(const std::vector<Roi>& rois) {
  return [&rois](Band band, const auto& row) {
    for (const auto& roi : rois) {
      const Band rows = band.intersect(roi.y.begin, roi.y.end);
      for (int p = rows.begin; p < rows.end; ++p) {
        auto* const counts = row(p);
        for (int q = roi.x.begin; q < roi.x.end; ++q) counts[q] += 1;
      }
    }
  };
}

// The coverage of each band.
template <typename Layout, typename Count>
std::vector<Coverage<Layout>> cover(const Bands& bands, int width, const Count& count) {
  std::vector<Coverage<Layout>> coverage;
  coverage.reserve(bands.count());
  for (int64_t i = 0; i < bands.count(); ++i) coverage.emplace_back(bands[i], width, count);
  return coverage;
}

}  // namespace mmbanet
