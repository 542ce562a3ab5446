// Rows of the logits in scratch memory, as resized_argmax reads them.
#pragma once

#include <ATen/OpMathType.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "running_max.h"
#include "simd.h"

namespace mmbanet {

// (C, h, w) with strides in elements.
template <typename scalar_t>
struct Logits {
  const scalar_t* begin;
  int64_t channels;
  int64_t channel_stride, row_stride, column_stride;
};

// One of them: its pixels, channels last, and the channel of each one's largest value.
template <typename acc_t>
struct SourceRow {
  const acc_t* pixels;
  const int32_t* argmax;
};

// The columns of some rows of the logits. As many rows are kept as a window has; channels are
// padded with NaN, which never wins.
template <typename scalar_t, typename Target>
class SourceRows {
 public:
  using acc_t = at::opmath_type<scalar_t>;

  SourceRows(const Logits<scalar_t>& logits, int64_t count, int64_t column_begin,
             int64_t column_end)
      : logits_(logits),
        column_begin_(column_begin),
        column_end_(column_end),
        pixel_((logits.channels + kLanes - 1) / kLanes * kLanes),
        held_(count, -1),
        rows_(count * row_size(), std::numeric_limits<acc_t>::quiet_NaN()),
        argmax_(count * columns()) {}

  int64_t columns() const { return column_end_ - column_begin_; }
  // Of one pixel, and of one row, with the padding.
  int64_t pixel_size() const { return pixel_; }
  int64_t row_size() const { return columns() * pixel_; }

  MMBANET_INLINE SourceRow<acc_t> row(int64_t i) {
    const int64_t slot = i % static_cast<int64_t>(held_.size());
    acc_t* const pixels = rows_.data() + slot * row_size();
    int32_t* const argmax = argmax_.data() + slot * columns();
    if (held_[slot] != i) {
      copy(i, pixels);
      for (int64_t j = 0; j < columns(); ++j) argmax[j] = argmax_of(pixels + j * pixel_);
    }
    held_[slot] = i;
    return {pixels, argmax};
  }

 private:
  MMBANET_INLINE void copy(int64_t row, acc_t* to) const {
    const scalar_t* const from = logits_.begin + row * logits_.row_stride;
    if (logits_.channel_stride == 1) {
      for (int64_t j = column_begin_; j < column_end_; ++j, to += pixel_) {
        copy_channels(from + j * logits_.column_stride, to);
      }
      return;
    }
    // A block of columns at a time, so that memory is read and written a cache line at a time.
    for (int64_t begin = column_begin_; begin < column_end_; begin += kLanes) {
      const int64_t end = std::min<int64_t>(begin + kLanes, column_end_);
      for (int64_t c = 0; c < logits_.channels; ++c) {
        const scalar_t* const values = from + c * logits_.channel_stride;
        for (int64_t j = begin; j < end; ++j) {
          to[(j - column_begin_) * pixel_ + c] =
              static_cast<acc_t>(values[j * logits_.column_stride]);
        }
      }
    }
  }

  MMBANET_INLINE int32_t argmax_of(const acc_t* pixel) const {
    using Max = ChannelMax<acc_t, Target>;
    Max max(pixel_);
    for (int64_t c = pixel_ - Max::kCount; c >= 0; c -= Max::kCount) {
      max.offer_previous(load_vector<typename Max::Values, acc_t>(pixel + c));
    }
    return max.channel();
  }

  // Of one pixel, where they are neighbours.
  MMBANET_INLINE void copy_channels(const scalar_t* MMBANET_RESTRICT from,
                                    acc_t* MMBANET_RESTRICT to) const {
    for (int64_t c = 0; c < logits_.channels; ++c) to[c] = static_cast<acc_t>(from[c]);
  }

  const Logits<scalar_t>& logits_;
  int64_t column_begin_, column_end_, pixel_;
  std::vector<int64_t> held_;
  AlignedVector<acc_t> rows_;
  std::vector<int32_t> argmax_;
};

}  // namespace mmbanet
