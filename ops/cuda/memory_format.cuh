// Both memory formats of a (N, C, H, W) tensor, and how threads are laid over its channels; needs
// no torch.
#pragma once

#include <cstdint>
#include <cstring>

#include "../roi_geometry.h"

namespace mmbanet {

MMBANET_HOST_DEVICE inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// In elements.
struct Strides {
  int64_t item, channel, row, column;
};

// Of a contiguous tensor.
MMBANET_HOST_DEVICE inline Strides strides_of(bool channels_last, int64_t channels, int64_t height,
                                              int64_t width) {
  const int64_t item = channels * height * width;
  return channels_last ? Strides{item, 1, width * channels, channels}
                       : Strides{item, height * width, width, 1};
}

// What one instruction loads or stores at the most.
constexpr int kVectorBytes = 16;

template <typename scalar_t>
struct Vector {
  static constexpr int kSize = kVectorBytes / sizeof(scalar_t);
  scalar_t values[kSize];

  __device__ static Vector load(const scalar_t* from) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    Vector vector;
    memcpy(vector.values, &bits, kVectorBytes);
    return vector;
  }

  // The intrinsic makes it one instruction; the compiler may split an assignment.
  __device__ void store(scalar_t* to) const {
    uint4 bits;
    memcpy(&bits, values, kVectorBytes);
    __stwb(reinterpret_cast<uint4*>(to), bits);
  }
};

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0;
}

// The channels of one thread: kSlots at a time. Threads with consecutive channels, kChannelLanes of
// them, are neighbours in channels-last tensors; together they make a group of channels. In planar
// tensors (NCHW) neighbours have consecutive pixels and the same channels.
template <typename scalar_t_, int kSlots_, int kChannelLanes_, bool kVector>
struct Access {
  using scalar_t = scalar_t_;
  static constexpr int kSlots = kSlots_;
  static constexpr int kChannelLanes = kChannelLanes_;
  static constexpr bool kChannelsLast = kChannelLanes > 1;
  static constexpr int kGroup = kSlots * kChannelLanes;
  static constexpr int kLaneStep = kVector ? kSlots : 1;  // channels from a thread to the next

  int64_t channels;

  __device__ Strides strides(int64_t height, int64_t width) const {
    return strides_of(kChannelsLast, channels, height, width);
  }

  // Slots, from this channel on, that exist.
  __device__ int count(int64_t channel) const {
    const int64_t step = kVector || !kChannelsLast ? 1 : kChannelLanes;
    const int64_t left = ceil_div(channels - channel, step);
    return int(max(int64_t(0), min(left, int64_t(kSlots))));
  }

  // From a slot's channel to the next one's.
  __device__ static int64_t slot_stride(int64_t channel_stride) {
    return kVector ? 1 : kChannelsLast ? kChannelLanes : channel_stride;
  }

  template <typename acc_t>
  __device__ void load(const scalar_t* from, int64_t channel_stride, int count,
                       acc_t (&values)[kSlots]) const {
    if constexpr (kVector) {
      const auto vector = Vector<scalar_t>::load(from);
#pragma unroll
      for (int c = 0; c < kSlots; ++c) values[c] = acc_t(vector.values[c]);
    } else {
      // Slots that do not exist repeat the last one that does.
#pragma unroll
      for (int c = 0; c < kSlots; ++c) {
        values[c] = acc_t(*from);
        if (c + 1 < count) from += slot_stride(channel_stride);
      }
    }
  }

  template <typename acc_t>
  __device__ void store(scalar_t* to, int64_t channel_stride, int count,
                        const acc_t (&values)[kSlots], acc_t factor = 1) const {
    if constexpr (kVector) {
      Vector<scalar_t> vector;
#pragma unroll
      for (int c = 0; c < kSlots; ++c) vector.values[c] = scalar_t(values[c] * factor);
      vector.store(to);
    } else {
#pragma unroll
      for (int c = 0; c < kSlots; ++c) {
        if (c < count) to[c * slot_stride(channel_stride)] = scalar_t(values[c] * factor);
      }
    }
  }
};

template <typename scalar_t>
using PlanarAccess = Access<scalar_t, sizeof(scalar_t) == 8 ? 4 : 8, 1, false>;
template <typename scalar_t>
using ChannelsLastAccess = Access<scalar_t, 4, 16, false>;
template <typename scalar_t>
using ChannelsLastVectorAccess = Access<scalar_t, Vector<scalar_t>::kSize, 16, true>;

// Calls launch(access) with the access that fits two tensors of as many channels.
template <typename scalar_t, typename Launch>
void with_access(bool channels_last, int64_t channels, const scalar_t* input,
                 const scalar_t* output, const Launch& launch) {
  if (!channels_last) {
    launch(PlanarAccess<scalar_t>{channels});
  } else if (channels % Vector<scalar_t>::kSize == 0 && is_aligned(input) && is_aligned(output)) {
    launch(ChannelsLastVectorAccess<scalar_t>{channels});
  } else {
    launch(ChannelsLastAccess<scalar_t>{channels});
  }
}

}  // namespace mmbanet
