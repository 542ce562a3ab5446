// A part of a map in scratch memory: kLanes of its channels, channels last, and a box of its
// pixels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace mmbanet {

// Pixels of a map: rows row_begin .. row_end - 1, and so on.
struct PixelBox {
  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
  int64_t area() const { return rows() * columns(); }

  // Makes it the smallest that holds the other one too.
  void join(const PixelBox& other) {
    if (other.area() == 0) return;
    if (area() == 0) *this = other;
    row_begin = std::min(row_begin, other.row_begin);
    row_end = std::max(row_end, other.row_end);
    column_begin = std::min(column_begin, other.column_begin);
    column_end = std::max(column_end, other.column_end);
  }

  int row_begin = 0, row_end = 0;
  int column_begin = 0, column_end = 0;
};

// Pixels or positions of one block of channels in a tensor, with strides in elements.
struct BlockLayout {
  int64_t channels;  // at most kLanes
  int64_t channel_stride;
  int64_t pixel_stride;
};

// Neighbouring pixels whose channels are copied together if channels are not neighbours: tiles of
// them stay in the nearest cache.
constexpr int64_t kTile = 64;

// Calls body(pixel, channel) for `size` pixels, such that memory is accessed in order.
template <bool kWhole, typename Body>
MMBANET_INLINE void for_elements(const BlockLayout& layout, int64_t size, const Body& body) {
  const int64_t channels = kWhole ? kLanes : layout.channels;
  if (layout.channel_stride == 1) {
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t c = 0; c < channels; ++c) body(i, c);
    }
    return;
  }
  for (int64_t begin = 0; begin < size; begin += kTile) {
    const int64_t end = std::min(begin + kTile, size);
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = begin; i < end; ++i) body(i, c);
    }
  }
}

// Copies `size` neighbouring pixels to scratch memory; channels beyond the block's stay as they
// are.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void load_pixels(const scalar_t* MMBANET_RESTRICT from, const BlockLayout& layout,
                                int64_t size, acc_t* MMBANET_RESTRICT to) {
  const auto copy = [&](int64_t i, int64_t c) MMBANET_INLINE_LAMBDA {
    to[i * kLanes + c] =
        static_cast<acc_t>(from[i * layout.pixel_stride + c * layout.channel_stride]);
  };
  if (layout.channels == kLanes) {
    for_elements<true>(layout, size, copy);
  } else {
    for_elements<false>(layout, size, copy);
  }
}

template <typename scalar_t, typename acc_t>
MMBANET_INLINE void store_pixels(const acc_t* MMBANET_RESTRICT from, const BlockLayout& layout,
                                 int64_t size, scalar_t* MMBANET_RESTRICT to) {
  const auto copy = [&](int64_t i, int64_t c) MMBANET_INLINE_LAMBDA {
    to[i * layout.pixel_stride + c * layout.channel_stride] =
        static_cast<scalar_t>(from[i * kLanes + c]);
  };
  if (layout.channels == kLanes) {
    for_elements<true>(layout, size, copy);
  } else {
    for_elements<false>(layout, size, copy);
  }
}

}  // namespace mmbanet
