// RoIUpsample's CUDA kernels: a scatter with atomics and its gradient, a gather; needs no torch.
#pragma once

#include "device_roi.cuh"
#include "memory_format.cuh"

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
// One thread per sampling point.
static __global__ void __launch_bounds__(kThreads)
    count_contributions_kernel(const DeviceRoi* __restrict__ rois, int num_rois, int crop_height,
                               int crop_width, int height, int width, int* __restrict__ counts) {
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  const int64_t thread = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (thread >= num_rois * crop_plane) return;
  const DeviceRoi& roi = rois[thread / crop_plane];
  if (roi.image < 0) return;
  const Scatter scatter =
      scatter_of(roi, thread % crop_plane, crop_height, crop_width, height, width);
  if (!scatter.any) return;
  counts += roi.image * height * width;
  for_each_contribution(scatter, width,
                        [&](int64_t pixel, double) { atomicAdd(counts + pixel, 1); });
}

// What a thread makes: kSlots channels of one sampling point. Neighbours in memory are neighbours.
template <typename Access>
struct PointTask {
  __device__ PointTask(const Access& access, int num_rois, int64_t crop_plane) {
    const int64_t thread = blockIdx.x * int64_t(kThreads) + threadIdx.x;
    const int64_t groups = ceil_div(access.channels, Access::kGroup);
    const int64_t task = thread / Access::kChannelLanes;
    const int64_t group = Access::kChannelsLast ? task % groups : task / crop_plane % groups;
    point = Access::kChannelsLast ? task / groups % crop_plane : task % crop_plane;
    roi = task / (groups * crop_plane);
    channel = group * Access::kGroup + thread % Access::kChannelLanes * Access::kLaneStep;
    count = roi < num_rois ? access.count(channel) : 0;
  }

  int64_t roi, point, channel;
  int count;  // of channels
};

template <typename Access>
int64_t point_threads(const Access& access, int num_rois, int64_t crop_plane) {
  return ceil_div(access.channels, Access::kGroup) * Access::kChannelLanes * num_rois * crop_plane;
}

// input (K, C, h, w), sums (N, C, H, W), zeroed; both in the memory format of `access`. To be
// launched with point_threads or more.
template <typename Access, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    roi_upsample_kernel(Access access, const typename Access::scalar_t* __restrict__ input,
                        const DeviceRoi* __restrict__ rois, int num_rois, int crop_height,
                        int crop_width, int height, int width, acc_t* __restrict__ sums) {
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  const PointTask<Access> task(access, num_rois, crop_plane);
  if (task.count == 0) return;
  const DeviceRoi& roi = rois[task.roi];
  if (roi.image < 0) return;
  const Scatter scatter = scatter_of(roi, task.point, crop_height, crop_width, height, width);
  if (!scatter.any) return;
  const Strides from = access.strides(crop_height, crop_width);
  const Strides to = access.strides(height, width);
  acc_t values[Access::kSlots];
  access.load(
      input + roi.index * from.item + task.channel * from.channel + task.point * from.column,
      from.channel, task.count, values);
  sums += roi.image * to.item + task.channel * to.channel;
  for_each_contribution(scatter, width, [&](int64_t pixel, double weight) {
#pragma unroll
    for (int c = 0; c < Access::kSlots; ++c) {
      if (c >= task.count) continue;
      atomicAdd(sums + pixel * to.column + c * Access::slot_stride(to.channel),
                acc_t(weight) * values[c]);
    }
  });
}

// grad (N, C, H, W), grad_input (K, C, h, w), both in the memory format of `access`; counts
// (N, H, W), or null for the sum. To be launched with point_threads or more.
template <typename Access, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    roi_upsample_backward_kernel(Access access, const typename Access::scalar_t* __restrict__ grad,
                                 const int* __restrict__ counts, const DeviceRoi* __restrict__ rois,
                                 int num_rois, int crop_height, int crop_width, int height,
                                 int width, typename Access::scalar_t* __restrict__ grad_input) {
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  const PointTask<Access> task(access, num_rois, crop_plane);
  if (task.count == 0) return;
  const DeviceRoi& roi = rois[task.roi];
  const Strides from = access.strides(height, width);
  const Strides to = access.strides(crop_height, crop_width);
  acc_t sums[Access::kSlots] = {};
  if (roi.image >= 0) {
    const Scatter scatter = scatter_of(roi, task.point, crop_height, crop_width, height, width);
    const auto* const plane = grad + roi.image * from.item + task.channel * from.channel;
    for_each_contribution(scatter, width, [&](int64_t pixel, double weight) {
      acc_t factor = acc_t(weight);
      if (counts != nullptr) factor /= acc_t(counts[roi.image * height * width + pixel]);
      acc_t values[Access::kSlots];
      access.load(plane + pixel * from.column, from.channel, task.count, values);
#pragma unroll
      for (int c = 0; c < Access::kSlots; ++c) sums[c] += factor * values[c];
    });
  }
  access.store(
      grad_input + roi.index * to.item + task.channel * to.channel + task.point * to.column,
      to.channel, task.count, sums);
}

}  // namespace mmbanet
