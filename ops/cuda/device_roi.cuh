// RoIs as the CUDA kernels read them, and the kernel that prepares them; needs no torch.
#pragma once

#include <cstdint>
#include <cstring>

#include "../roi_geometry.h"

namespace mmbanet {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;

struct DeviceRoi {
  int64_t index;  // row of `rois`, crop of `input`
  int64_t image;  // -1: takes no part (bad image index, or nothing of positive, finite size)
  Axis y;
  Axis x;
};

// A tap as the kernels keep it.
template <typename acc_t>
struct DeviceTap {
  int low;  // -1: the RoI does not cover the pixel
  acc_t fraction;
};

template <typename acc_t>
__device__ DeviceTap<acc_t> device_tap(const Axis& axis, int pixel, int samples) {
  if (pixel < axis.begin || pixel >= axis.end) return {-1, acc_t(0)};
  const Tap tap = tap_at(axis, pixel, samples);
  return {tap.low, acc_t(tap.fraction)};
}

// Integers in the order of the doubles; unlike the doubles, NaN has its place in that order.
__device__ inline int64_t ordered_bits(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits < 0 ? bits ^ INT64_MAX : bits;
}

__device__ inline bool precedes(const double* rois, int64_t a, int64_t b) {
  for (int i = 0; i < 5; ++i) {
    const int64_t bits_a = ordered_bits(rois[a * 5 + i]);
    const int64_t bits_b = ordered_bits(rois[b * 5 + i]);
    if (bits_a != bits_b) return bits_a < bits_b;
  }
  return a < b;
}

// One warp per RoI. The prepared RoIs are sorted by value, so that sums over them do not depend
// on the order in which the caller listed them (RoIs of one and the same box keep theirs).
static __global__ void __launch_bounds__(kThreads)
    prepare_rois_kernel(const double* rois, int num_rois, int64_t batch_size, int height, int width,
                        double spatial_scale, bool aligned, DeviceRoi* prepared) {
  const int lane = threadIdx.x % kWarp;
  const int64_t k = blockIdx.x * int64_t(kWarps) + threadIdx.x / kWarp;
  if (k >= num_rois) return;
  int64_t rank = 0;
  for (int first = 0; first < num_rois; first += kWarp) {
    const int other = first + lane;
    rank += __popc(__ballot_sync(0xffffffffu, other < num_rois && precedes(rois, other, k)));
  }
  if (lane != 0) return;
  const double* const box = rois + k * 5;
  DeviceRoi roi;
  roi.index = k;
  roi.x = make_axis(box[1], box[3], spatial_scale, aligned, width);
  roi.y = make_axis(box[2], box[4], spatial_scale, aligned, height);
  const bool valid = box[0] >= 0 && box[0] < double(batch_size);  // false for NaN
  roi.image = valid && roi.x.extent > 0 && roi.y.extent > 0 ? int64_t(box[0]) : -1;
  prepared[rank] = roi;
}

}  // namespace mmbanet
