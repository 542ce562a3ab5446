// A part of a map in scratch memory: kLanes of its channels, channels last, and a box of its
// pixels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace mmbanet {

// Pixels of a map: rows row_begin .. row_end - 1, and so on.
struct PixelBox {
  int row_begin = 0, row_end = 0;
  int column_begin = 0, column_end = 0;

  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
};

// Pixels or positions of one block of channels in a tensor, with strides in elements.
struct BlockLayout {
  int64_t channels;  // at most kLanes
  int64_t channel_stride;
  int64_t pixel_stride;
};

// Copies `size` neighbouring pixels to scratch memory; channels beyond the block's stay as they
// are.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void load_pixels(const scalar_t* from, const BlockLayout& layout, int64_t size,
                                acc_t* MMBANET_RESTRICT to) {
  if (layout.channel_stride == 1) {
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t c = 0; c < layout.channels; ++c) {
        to[i * kLanes + c] = static_cast<acc_t>(from[i * layout.pixel_stride + c]);
      }
    }
    return;
  }
  // Tiles, so that memory is read and written a cache line at a time.
  for (int64_t begin = 0; begin < size; begin += kLanes) {
    const int64_t end = std::min<int64_t>(begin + kLanes, size);
    for (int64_t c = 0; c < layout.channels; ++c) {
      const scalar_t* const plane = from + c * layout.channel_stride;
      for (int64_t i = begin; i < end; ++i) {
        to[i * kLanes + c] = static_cast<acc_t>(plane[i * layout.pixel_stride]);
      }
    }
  }
}

template <typename scalar_t, typename acc_t>
MMBANET_INLINE void store_pixels(const acc_t* from, const BlockLayout& layout, int64_t size,
                                 scalar_t* MMBANET_RESTRICT to) {
  if (layout.channel_stride == 1) {
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t c = 0; c < layout.channels; ++c) {
        to[i * layout.pixel_stride + c] = static_cast<scalar_t>(from[i * kLanes + c]);
      }
    }
    return;
  }
  for (int64_t begin = 0; begin < size; begin += kLanes) {
    const int64_t end = std::min<int64_t>(begin + kLanes, size);
    for (int64_t c = 0; c < layout.channels; ++c) {
      scalar_t* const plane = to + c * layout.channel_stride;
      for (int64_t i = begin; i < end; ++i) {
        plane[i * layout.pixel_stride] = static_cast<scalar_t>(from[i * kLanes + c]);
      }
    }
  }
}

}  // namespace mmbanet
