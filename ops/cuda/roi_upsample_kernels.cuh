// RoIUpsample's CUDA kernels: a scatter with atomics and its gradient, a gather; needs no torch.
#pragma once

#include "device_roi.cuh"

namespace mmbanet {

// Where one sampling point of one channel goes.
struct Scatter {
  Splat y, x;
  bool any;
};

__device__ inline Scatter scatter_of(const DeviceRoi& roi, int64_t point, int crop_height,
                                     int crop_width, int height, int width) {
  Scatter scatter;
  scatter.y = splat_at(roi.y, int(point / crop_width), crop_height, height);
  scatter.x = splat_at(roi.x, int(point % crop_width), crop_width, width);
  scatter.any = (scatter.y.weight_low != 0 || scatter.y.weight_high != 0) &&
                (scatter.x.weight_low != 0 || scatter.x.weight_high != 0);
  return scatter;
}

// Calls visit(pixel, weight) for each of the four pixels that the point reaches.
template <typename Visit>
__device__ void for_each_contribution(const Scatter& scatter, int width, const Visit& visit) {
  for (int i = 0; i < 2; ++i) {
    const double row_weight = i == 0 ? scatter.y.weight_low : scatter.y.weight_high;
    if (row_weight == 0) continue;
    for (int j = 0; j < 2; ++j) {
      const double column_weight = j == 0 ? scatter.x.weight_low : scatter.x.weight_high;
      if (column_weight == 0) continue;
      visit(int64_t(scatter.y.low + i) * width + scatter.x.low + j, row_weight * column_weight);
    }
  }
}

// counts (N, H, W), zeroed: contributions to each pixel. Integers, so their order does not matter.
static __global__ void count_contributions_kernel(const DeviceRoi* __restrict__ rois,
                                                  int64_t num_rois, int crop_height, int crop_width,
                                                  int height, int width, int* __restrict__ counts) {
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < num_rois * crop_plane;
       i += int64_t(gridDim.x) * blockDim.x) {
    const DeviceRoi& roi = rois[i / crop_plane];
    if (roi.image < 0) continue;
    int* const to = counts + roi.image * int64_t(height) * width;
    const Scatter scatter = scatter_of(roi, i % crop_plane, crop_height, crop_width, height, width);
    if (!scatter.any) continue;
    for_each_contribution(scatter, width, [&](int64_t pixel, double) { atomicAdd(to + pixel, 1); });
  }
}

// input (K, C, h, w), sums (N, C, H, W), zeroed. One thread per sampling point and channel.
template <typename scalar_t, typename acc_t>
__global__ void roi_upsample_kernel(const scalar_t* __restrict__ input,
                                    const DeviceRoi* __restrict__ rois, int64_t num_rois,
                                    int64_t channels, int crop_height, int crop_width, int height,
                                    int width, acc_t* __restrict__ sums) {
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
       i < num_rois * channels * crop_plane; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t point = i % crop_plane, channel = i / crop_plane % channels;
    const DeviceRoi& roi = rois[i / (crop_plane * channels)];
    if (roi.image < 0) continue;
    const Scatter scatter = scatter_of(roi, point, crop_height, crop_width, height, width);
    if (!scatter.any) continue;
    const acc_t value = acc_t(input[(roi.index * channels + channel) * crop_plane + point]);
    acc_t* const to = sums + (roi.image * channels + channel) * height * int64_t(width);
    for_each_contribution(scatter, width, [&](int64_t pixel, double weight) {
      atomicAdd(to + pixel, acc_t(weight) * value);
    });
  }
}

// grad (N, C, H, W), counts (N, H, W) or null for the sum, grad_input (K, C, h, w).
template <typename scalar_t, typename acc_t>
__global__ void roi_upsample_backward_kernel(const scalar_t* __restrict__ grad,
                                             const int* __restrict__ counts,
                                             const DeviceRoi* __restrict__ rois, int64_t num_rois,
                                             int64_t channels, int crop_height, int crop_width,
                                             int height, int width,
                                             scalar_t* __restrict__ grad_input) {
  const int64_t plane = int64_t(height) * width;
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
       i < num_rois * channels * crop_plane; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t point = i % crop_plane, channel = i / crop_plane % channels;
    const DeviceRoi& roi = rois[i / (crop_plane * channels)];
    acc_t sum = 0;
    if (roi.image >= 0) {
      const Scatter scatter = scatter_of(roi, point, crop_height, crop_width, height, width);
      const scalar_t* const from = grad + (roi.image * channels + channel) * plane;
      for_each_contribution(scatter, width, [&](int64_t pixel, double weight) {
        acc_t part = acc_t(weight) * acc_t(from[pixel]);
        if (counts != nullptr) part /= acc_t(counts[roi.image * plane + pixel]);
        sum += part;
      });
    }
    grad_input[(roi.index * channels + channel) * crop_plane + point] = scalar_t(sum);
  }
}

}  // namespace mmbanet
