// How the forward passes divide a map, and which parts of it they need to write.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace mmbanet {

// Consecutive rows of the map.
struct Band {
  int begin, end;

  Band intersect(int other_begin, int other_end) const {
    return {std::max(begin, other_begin), std::min(end, other_end)};
  }
};

// Sums over RoIs are made band by band in scratch memory, which should stay in the nearer caches; a
// task is one band and some blocks of channels, which share the band's coverage.
class Bands {
 public:
  template <typename Layout>
  Bands(const Layout& layout, int height, int width)
      : height_(height),
        stride_(static_cast<int64_t>(round_up(width, Layout::kAlignment)) * layout.element),
        rows_(static_cast<int>(std::clamp<int64_t>(Layout::kBandElements / stride_, 1, height))),
        bands_((height + rows_ - 1) / rows_),
        blocks_(layout.blocks),
        task_blocks_(std::max<int64_t>(kTaskChannels / layout.element, 1)) {}

  int64_t tasks() const { return (blocks_ + task_blocks_ - 1) / task_blocks_ * bands_; }
  Band band(int64_t task) const {
    const int begin = static_cast<int>(task % bands_) * rows_;
    return {begin, std::min(begin + rows_, height_)};
  }
  int64_t block_begin(int64_t task) const { return task / bands_ * task_blocks_; }
  int64_t block_end(int64_t task) const {
    return std::min(block_begin(task) + task_blocks_, blocks_);
  }

  int64_t stride() const { return stride_; }  // of a row in scratch memory
  int64_t size() const { return rows_ * stride_; }

 private:
  static constexpr int64_t kTaskChannels = 64;

  int height_;
  int64_t stride_;
  int rows_;
  int64_t bands_, blocks_, task_blocks_;
};

// Which pixels of a band are covered, and how often.
template <typename acc_t>
class Coverage {
 public:
  // count(row) increments row(p)[q] for each time that a pixel (p, q) is covered.
  template <typename Count>
  void reset(Band band, int width, const Count& count) {
    begin_ = band.begin;
    width_ = width;
    inverse_counts_.assign(static_cast<size_t>(band.end - band.begin) * width, acc_t(0));
    const auto row = [&](int p) {
      return inverse_counts_.data() + static_cast<size_t>(p - begin_) * width_;
    };
    count(row);
    spans_.clear();
    span_ends_.clear();
    for (int p = band.begin; p < band.end; ++p) add_spans(row(p));
  }

  // Writes the band to one block of the map: sums times their factors (covered pixels only), and 0
  // elsewhere, unless the map is `zeroed` already. Clears the sums.
  //   factor(inverse count): what a sum is multiplied with.
  template <typename Layout, typename Factor>
  MMBANET_INLINE void store(const Layout& layout, Band band, acc_t* sums, int64_t stride,
                            int64_t block, bool zeroed, const Factor& factor,
                            typename Layout::scalar_t* plane) const {
    size_t span = 0;
    for (int p = band.begin; p < band.end; ++p, sums += stride) {
      const acc_t* const inverse =
          inverse_counts_.data() + static_cast<size_t>(p - begin_) * width_;
      auto* const to = plane + layout.pixel(static_cast<int64_t>(p) * width_);
      int column = 0;
      for (; span < span_ends_[p - begin_]; ++span) {
        const auto [begin, end] = spans_[span];
        if (!zeroed) layout.clear(to + layout.pixel(column), begin - column, block);
        acc_t* const from = sums + static_cast<int64_t>(begin) * layout.element;
        layout.store(
            from,
            [&, begin = begin](int64_t q)
                MMBANET_INLINE_LAMBDA { return factor(inverse[begin + q]); },
            end - begin, block, to + layout.pixel(begin));
        std::fill(from, from + static_cast<int64_t>(end - begin) * layout.element, acc_t(0));
        column = end;
      }
      if (!zeroed) layout.clear(to + layout.pixel(column), width_ - column, block);
    }
  }

 private:
  struct Span {
    int begin, end;
  };

  void add_spans(acc_t* counts) {
    for (int q = 0; q < width_;) {
      if (counts[q] == 0) {
        ++q;
        continue;
      }
      const int begin = q;
      for (; q < width_ && counts[q] != 0; ++q) counts[q] = acc_t(1) / counts[q];
      spans_.push_back({begin, q});
    }
    span_ends_.push_back(spans_.size());
  }

  int begin_ = 0, width_ = 0;
  std::vector<acc_t> inverse_counts_;  // 0 where nothing is
  std::vector<Span> spans_;            // runs of covered pixels, of all rows one after the other
  std::vector<size_t> span_ends_;      // of each row
};

}  // namespace mmbanet
