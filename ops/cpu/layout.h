// The two layouts of (K, C, h, w) tensors in memory, behind one interface.
//
// The kernels work on blocks of channels: a pixel's channels of one block are its "element" and are
// neighbours in scratch memory. Planar tensors have one channel to a block, interleaved ones many.
#pragma once

#include <ATen/OpMathType.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "interpolation_matrix.h"
#include "simd.h"

namespace mmbanet {

// Contiguous tensors (NCHW).
template <typename scalar_type>
struct Planar {
  using scalar_t = scalar_type;
  using acc_t = at::opmath_type<scalar_t>;
  using Matrix = PixelMatrix<acc_t>;
  static constexpr int element = 1;
  static constexpr int kAlignment = kLanes;  // pixels in a cache line
  static constexpr int kBandElements = 24 * 1024;

  explicit Planar(int64_t channels) : blocks(channels) {}

  Matrix matrix(const std::vector<MatrixEntry>& entries, int outputs) const {
    return Matrix(entries, outputs);
  }

  // Of the first pixel's element, in a tensor of planes of so many pixels.
  int64_t plane(int64_t index, int64_t block, int64_t pixels) const {
    return (index * blocks + block) * pixels;
  }

  // Of a pixel's element from the first one's.
  MMBANET_INLINE int64_t pixel(int64_t index) const { return index; }

  // Pixels as the matrix wants them: where they are, or copied to scratch memory. Reads nothing
  // from `end` on.
  MMBANET_INLINE const acc_t* load(const scalar_t* MMBANET_RESTRICT from, const scalar_t* end,
                                   int64_t pixels, int64_t /*block*/,
                                   acc_t* MMBANET_RESTRICT scratch) const {
    if constexpr (std::is_same_v<scalar_t, acc_t>) {
      if (end - from >= pixels + Matrix::kPadding) return from;
    }
    for (int64_t q = 0; q < pixels; ++q) scratch[q] = static_cast<acc_t>(from[q]);
    return scratch;
  }

  // Asks for pixels that will be loaded soon.
  MMBANET_INLINE void prefetch(const scalar_t* from, int64_t pixels) const {
    prefetch_lines(from, pixels);
  }

  // Whether none of the pixels is infinite or NaN.
  MMBANET_INLINE bool all_finite(const scalar_t* pixels, int64_t size) const {
    return mmbanet::all_finite<acc_t>(pixels, size);
  }

  // Writes pixels of scratch memory, each times factor(pixel).
  template <typename Factor>
  MMBANET_INLINE void store(const acc_t* MMBANET_RESTRICT from, const Factor& factor,
                            int64_t pixels, int64_t /*block*/,
                            scalar_t* MMBANET_RESTRICT to) const {
    for (int64_t q = 0; q < pixels; ++q) to[q] = static_cast<scalar_t>(from[q] * factor(q));
  }

  // Adds weight * pixel to an element of scratch memory.
  MMBANET_INLINE void add(const scalar_t* pixel, acc_t weight, int64_t /*block*/, acc_t* to) const {
    *to += weight * static_cast<acc_t>(*pixel);
  }

  MMBANET_INLINE void clear(scalar_t* to, int64_t pixels, int64_t /*block*/) const {
    std::fill(to, to + pixels, scalar_t(0));
  }

  int64_t channels() const { return blocks; }

  int64_t blocks;
};

// Channels-last tensors (NHWC).
template <typename scalar_type>
struct Interleaved {
  using scalar_t = scalar_type;
  using acc_t = at::opmath_type<scalar_t>;
  using Matrix = ChannelMatrix<acc_t>;
  static constexpr int kBandElements = 128 * 1024;
  static constexpr int kAlignment = kSums;  // as for planar tensors, which sums get which pixel

  explicit Interleaved(int64_t channels) : channels_(channels) {
    while (element < kMostChannels && element < channels) {
      element *= 2;
      ++shift_;
    }
    blocks = (channels + element - 1) / element;
  }

  Matrix matrix(const std::vector<MatrixEntry>& entries, int outputs) const {
    return Matrix(entries, outputs, shift_);
  }

  int64_t plane(int64_t index, int64_t block, int64_t pixels) const {
    return index * pixels * channels_ + block * element;
  }

  MMBANET_INLINE int64_t pixel(int64_t index) const { return index * channels_; }

  MMBANET_INLINE const acc_t* load(const scalar_t* MMBANET_RESTRICT from, const scalar_t* /*end*/,
                                   int64_t pixels, int64_t block,
                                   acc_t* MMBANET_RESTRICT scratch) const {
    const int64_t size = channels_of(block);
    acc_t* to = scratch;
    for (int64_t q = 0; q < pixels; ++q, from += channels_, to += element) {
      for (int64_t c = 0; c < size; ++c) to[c] = static_cast<acc_t>(from[c]);
    }
    return scratch;
  }

  MMBANET_INLINE void prefetch(const scalar_t* from, int64_t pixels) const {
    for (int64_t q = 0; q < pixels; ++q, from += channels_) prefetch_lines(from, element);
  }

  MMBANET_INLINE bool all_finite(const scalar_t*, int64_t) const {
    return true;  // the matrix does not ask
  }

  // A chunk of a row of pixels, each times its factor. Nothing is read from `end` on.
  MMBANET_INLINE Lanes<acc_t> load_chunk(const scalar_t* row, const acc_t* factors, int64_t chunk,
                                         const scalar_t* end) const {
    const int64_t q = chunk >> shift_;
    const int64_t channel = (chunk - (q << shift_)) * kLanes;
    return factors[q] * load_lanes<acc_t>(row + q * channels_ + channel, end);
  }

  template <typename Factor>
  MMBANET_INLINE void store(const acc_t* MMBANET_RESTRICT from, const Factor& factor,
                            int64_t pixels, int64_t block, scalar_t* MMBANET_RESTRICT to) const {
    const int64_t size = channels_of(block);
    for (int64_t q = 0; q < pixels; ++q, from += element, to += channels_) {
      const acc_t scale = factor(q);
      for (int64_t c = 0; c < size; ++c) to[c] = static_cast<scalar_t>(from[c] * scale);
    }
  }

  MMBANET_INLINE void add(const scalar_t* MMBANET_RESTRICT pixel, acc_t weight, int64_t block,
                          acc_t* MMBANET_RESTRICT to) const {
    const int64_t size = channels_of(block);
    for (int64_t c = 0; c < size; ++c) to[c] += weight * static_cast<acc_t>(pixel[c]);
  }

  MMBANET_INLINE void clear(scalar_t* to, int64_t pixels, int64_t block) const {
    const int64_t size = channels_of(block);
    for (int64_t q = 0; q < pixels; ++q, to += channels_) std::fill(to, to + size, scalar_t(0));
  }

  int64_t channels() const { return channels_; }

  int64_t blocks;
  int element = kLanes;  // channels of a block; those beyond the last channel are padding

 private:
  static constexpr int kMostChannels = 2 * kLanes;

  MMBANET_INLINE int64_t channels_of(int64_t block) const {
    return std::min<int64_t>(element, channels_ - block * element);
  }

  int64_t channels_;
  int shift_ = 0;  // an element is 2^shift_ chunks
};

// Calls body(layout) with the layout of a tensor of so many channels.
template <typename scalar_t, typename Body>
void dispatch_layout(at::MemoryFormat memory_format, int64_t channels, const Body& body) {
  if (memory_format == at::MemoryFormat::ChannelsLast) {
    body(Interleaved<scalar_t>(channels));
  } else {
    body(Planar<scalar_t>(channels));
  }
}

}  // namespace mmbanet
