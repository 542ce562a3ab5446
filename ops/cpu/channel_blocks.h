// Both layouts of (N, C, h, w) tensors behind one interface: blocks of kLanes channels that are
// copied to scratch memory, where they are neighbours, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace mmbanet {

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

// A tensor (N, C, h, w), NCHW or channels-last.
template <typename scalar_t>
struct ChannelBlocks {
  ChannelBlocks(const at::Tensor& tensor, scalar_t* begin)
      : begin(begin),
        channels(tensor.size(1)),
        pixels(tensor.size(2) * tensor.size(3)),
        channels_last(tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast) {}

  int64_t count() const { return (channels + kLanes - 1) / kLanes; }

  // Of the block that begins with this channel.
  BlockLayout block(int64_t channel) const {
    const int64_t size = std::min<int64_t>(kLanes, channels - channel);
    return channels_last ? BlockLayout{size, 1, channels} : BlockLayout{size, pixels, 1};
  }

  scalar_t* at(int64_t n, int64_t channel, int64_t pixel) const {
    const int64_t offset = n * channels * pixels;
    return begin + offset + (channels_last ? pixel * channels + channel : channel * pixels + pixel);
  }

  // Clears neighbouring pixels of one block; those of all blocks with the first one if channels are
  // neighbours.
  MMBANET_INLINE void clear(int64_t n, int64_t channel, int64_t pixel, int64_t size) const {
    if (channels_last) {
      if (channel == 0) std::fill_n(at(n, 0, pixel), size * channels, scalar_t(0));
      return;
    }
    for (int64_t c = 0; c < block(channel).channels; ++c) {
      std::fill_n(at(n, channel + c, pixel), size, scalar_t(0));
    }
  }

  scalar_t* begin;
  int64_t channels, pixels;
  bool channels_last;
};

}  // namespace mmbanet
