// RoIs as the CUDA kernels read them, and the kernel that prepares them; needs no torch.
#pragma once

#include <cstdint>
#include <cstring>

#include "../roi_geometry.h"

namespace mmbanet {

constexpr int kThreads = 256;

struct DeviceRoi {
  int64_t index;  // row of `rois`, crop of `input`
  int64_t image;  // -1: takes no part (bad image index, or nothing of positive, finite size)
  Axis y;
  Axis x;
};

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

// One thread per RoI. The prepared RoIs are sorted by value, so that sums over them do not depend
// on the order in which the caller listed them (RoIs of one and the same box keep theirs).
static __global__ void prepare_rois_kernel(const double* rois, int64_t num_rois, int64_t batch_size,
                                           int height, int width, double spatial_scale,
                                           bool aligned, DeviceRoi* prepared) {
  for (int64_t k = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; k < num_rois;
       k += int64_t(gridDim.x) * blockDim.x) {
    const double* const box = rois + k * 5;
    DeviceRoi roi;
    roi.index = k;
    roi.x = make_axis(box[1], box[3], spatial_scale, aligned, width);
    roi.y = make_axis(box[2], box[4], spatial_scale, aligned, height);
    const bool valid = box[0] >= 0 && box[0] < double(batch_size);  // false for NaN
    roi.image = valid && roi.x.extent > 0 && roi.y.extent > 0 ? int64_t(box[0]) : -1;
    int64_t rank = 0;
    for (int64_t other = 0; other < num_rois; ++other) rank += precedes(rois, other, k);
    prepared[rank] = roi;
  }
}

}  // namespace mmbanet
