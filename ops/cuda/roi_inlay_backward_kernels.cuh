// RoIInlay's CUDA kernels, backward: gathers without atomics, every element written once; needs no
// torch.
//
// The interpolation is separable, and so is its transpose: for one row of a crop the pixels of each
// column of the map are summed first, then the columns next to each sampling point, from left to
// right. Both memory formats sum in this order. acc_t is float, or double for double.
#pragma once

#include <limits>

#include "memory_format.cuh"
#include "tile_rois.cuh"

namespace mmbanet {

constexpr int kCountTile = 32;
// Of one row of a crop: the sampling points that a warp (planar) or thread (channels-last) makes.
// Where crops have the size of their RoIs, 28 points have their pixels in about 30 columns: one
// for each lane.
constexpr int kPlanarPoints = 28;
constexpr int kChannelsLastPoints = 8;
// Channels that a warp makes of planar crops.
constexpr int kWarpChannels = 32;

// inverse (N, H, W): 1 / (number of RoIs that cover the pixel), 1 where there is none. One block
// for each tile of kCountTile x kCountTile pixels.
template <typename acc_t>
__global__ void __launch_bounds__(kThreads)
    inverse_counts_kernel(const DeviceRoi* __restrict__ rois, int num_rois, int height, int width,
                          acc_t* __restrict__ inverse) {
  __shared__ TileRois page;
  constexpr int kPixels = kCountTile * kCountTile / kThreads;  // of a thread, one below the other
  const int64_t tiles_x = ceil_div(width, kCountTile), tiles_y = ceil_div(height, kCountTile);
  const Tile tile = {blockIdx.x / (tiles_x * tiles_y),
                     int(blockIdx.x / tiles_x % tiles_y) * kCountTile,
                     int(blockIdx.x % tiles_x) * kCountTile, kCountTile, kCountTile};
  const int q = tile.x + threadIdx.x % kCountTile;
  const int first_row = tile.y + threadIdx.x / kCountTile * kPixels;
  int counts[kPixels] = {};
  for (int first = 0; first < num_rois; first = page.next) {
    list_page(rois, num_rois, first, tile, page);
    for (int r = 0; r < page.count; ++r) {
      const Axis y = rois[page.rois[r]].y, x = rois[page.rois[r]].x;
      if (q < x.begin || q >= x.end) continue;
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        counts[i] += first_row + i >= y.begin && first_row + i < y.end;
      }
    }
  }
  if (q >= width) return;
#pragma unroll
  for (int i = 0; i < kPixels; ++i) {
    const int p = first_row + i;
    if (p >= height) continue;
    inverse[(tile.image * height + p) * width + q] = acc_t(1) / acc_t(max(counts[i], 1));
  }
}

struct PixelRange {
  int begin, end;
};

// The pixels along one axis that interpolate any of the sampling points first .. last - 1; generous
// by up to two pixels on either side.
__device__ inline PixelRange pixels_around(const Axis& axis, int first, int last, int samples) {
  const double bin = axis.extent / samples;
  // Compared as double, since RoIs may be huge.
  const double low = axis.start + (first - 0.5) * bin - 1;
  const double high = axis.start + (last + 0.5) * bin + 1;
  PixelRange range = {axis.begin, axis.end};
  if (first > 0 && low > axis.begin) range.begin = low < axis.end ? int(low) : axis.end;
  if (last < samples && high < axis.end) {
    range.end = high > range.begin ? int(high) + 1 : range.begin;
  }
  return range;
}

// The same for the columns of a RoI; none if it takes no part.
__device__ inline PixelRange pixels_around(const DeviceRoi& roi, int first, int last, int samples) {
  return roi.image < 0 ? PixelRange{0, 0} : pixels_around(roi.x, first, last, samples);
}

// The pixels along one axis whose interpolation uses a sampling point, and their weights.
template <typename acc_t>
struct Reach {
  int begin, end;
  int origin;
  acc_t base, step;  // in the coordinates of the sampling points, relative to the point
  acc_t low, high;   // pixels beyond the outermost points are clamped to them

  __device__ Reach(const Axis& axis, int sample, int samples) {
    const PixelRange range = pixels_around(axis, sample, sample + 1, samples);
    origin = begin = range.begin;
    end = range.end;
    base = acc_t((origin - axis.start) / axis.extent * samples - 0.5 - sample);
    // A RoI of less than one pixel covers at most one, so there is no step to take.
    step = axis.extent >= 1 ? acc_t(samples / axis.extent) : acc_t(0);
    low = acc_t(-sample);
    high = acc_t(samples - 1 - sample);
    while (begin < end && weight(begin) <= 0) ++begin;
    while (begin < end && weight(end - 1) <= 0) --end;
  }

  __device__ acc_t weight(int pixel) const {
    acc_t distance = base + acc_t(pixel - origin) * step;
    distance = distance > low ? distance : low;
    distance = distance < high ? distance : high;
    return acc_t(1) - (distance < 0 ? -distance : distance);
  }
};

// The sum over the pixels of one column that interpolate one row of a crop. `grad` and `inverse`
// point to the column.
template <typename Access, typename acc_t>
__device__ void sum_column(const Access& access, const typename Access::scalar_t* grad,
                           const Strides& strides, int count, const acc_t* inverse, int width,
                           const Reach<acc_t>& rows, acc_t (&sums)[Access::kSlots]) {
#pragma unroll
  for (int c = 0; c < Access::kSlots; ++c) sums[c] = 0;
#pragma unroll 2
  for (int p = rows.begin; p < rows.end; ++p) {
    acc_t values[Access::kSlots];
    access.load(grad + p * strides.row, strides.channel, count, values);
    const acc_t weight = rows.weight(p) * inverse[int64_t(p) * width];
#pragma unroll
    for (int c = 0; c < Access::kSlots; ++c) sums[c] += weight * values[c];
  }
}

// The weight of a sampling point in a pixel that is next to it.
template <typename acc_t>
__device__ acc_t weight_of(int point, const DeviceTap<acc_t>& tap) {
  return tap.low == point ? acc_t(1) - tap.fraction : tap.fraction;
}

// A column of the map for each lane of a warp, from left to right.
template <typename acc_t, int kSlots>
struct Segment {
  DeviceTap<acc_t> taps[kWarp];
  acc_t sums[kSlots][kWarp];

  // Columns that lie left of a sampling point.
  __device__ int columns_before(int point) const {
    int begin = 0, end = kWarp;
    while (begin < end) {
      const int middle = (begin + end) / 2;
      if (taps[middle].low < point) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin;
  }
};

// grad (N, C, H, W), inverse (N, H, W), grad_input (K, C, h, w), planar; K > 0. A warp makes up to
// kPlanarPoints sampling points of one row for kWarpChannels channels. First each lane sums a
// column of the map, then each makes a sampling point.
template <typename Access, typename acc_t>
__global__ void __launch_bounds__(kThreads, 3)
    roi_inlay_backward_planar_kernel(Access access,
                                     const typename Access::scalar_t* __restrict__ grad,
                                     const acc_t* __restrict__ inverse,
                                     const DeviceRoi* __restrict__ rois, int num_rois,
                                     int crop_height, int crop_width, int height, int width,
                                     typename Access::scalar_t* __restrict__ grad_input) {
  constexpr int kSlots = Access::kSlots;
  __shared__ Segment<acc_t, kSlots> segments[kWarps];
  Segment<acc_t, kSlots>& segment = segments[threadIdx.x / kWarp];
  const int lane = threadIdx.x % kWarp;
  const int64_t parts = ceil_div(crop_width, kPlanarPoints);
  const int64_t channel_parts = ceil_div(access.channels, kWarpChannels);
  // Rows of one crop are neighbours, since they read the same rows of the map.
  const int64_t task = blockIdx.x * int64_t(kWarps) + threadIdx.x / kWarp;
  if (task >= parts * crop_height * channel_parts * num_rois) return;
  const int first_point = int(task % parts) * kPlanarPoints;
  const int last_point = min(first_point + kPlanarPoints, crop_width);
  const int crop_row = int(task / parts % crop_height);
  const int64_t first_channel = task / (parts * crop_height) % channel_parts * kWarpChannels;
  const int64_t last_channel = min(first_channel + kWarpChannels, access.channels);
  const DeviceRoi& roi = rois[task / (parts * crop_height * channel_parts)];

  const Strides from = access.strides(height, width);
  const Strides to = access.strides(crop_height, crop_width);
  const int64_t image = max(roi.image, int64_t(0));
  grad += image * from.item;
  inverse += image * height * width;
  grad_input += roi.index * to.item + crop_row * to.row;
  const Reach<acc_t> rows(roi.y, crop_row, crop_height);
  const PixelRange columns = pixels_around(roi, first_point, last_point, crop_width);
  const int point = first_point + lane;
  for (int64_t channel = first_channel; channel < last_channel; channel += kSlots) {
    const int count = access.count(channel);
    acc_t point_sums[kSlots] = {};
    for (int first = columns.begin; first < columns.end; first += kWarp) {
      const int q = first + lane;
      DeviceTap<acc_t> tap = {std::numeric_limits<int>::max(), 0};
      if (q < columns.end) {
        tap = device_tap<acc_t>(roi.x, q, crop_width);
        acc_t sums[kSlots];
        sum_column(access, grad + channel * from.channel + q, from, count, inverse + q, width, rows,
                   sums);
#pragma unroll
        for (int c = 0; c < kSlots; ++c) segment.sums[c][lane] = sums[c];
      }
      segment.taps[lane] = tap;
      __syncwarp();
      const int end = segment.columns_before(point + 1);
      for (int i = segment.columns_before(point - 1); i < end; ++i) {
        const acc_t weight = weight_of(point, segment.taps[i]);
#pragma unroll
        for (int c = 0; c < kSlots; ++c) point_sums[c] += weight * segment.sums[c][i];
      }
      __syncwarp();
    }
    if (point < last_point) {
      access.store(grad_input + channel * to.channel + point, to.channel, count, point_sums);
    }
  }
}

// The same in the channels-last format. A thread makes up to kChannelsLastPoints sampling points of
// one row for kSlots channels.
template <typename Access, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    roi_inlay_backward_channels_last_kernel(Access access,
                                            const typename Access::scalar_t* __restrict__ grad,
                                            const acc_t* __restrict__ inverse,
                                            const DeviceRoi* __restrict__ rois, int num_rois,
                                            int crop_height, int crop_width, int height, int width,
                                            typename Access::scalar_t* __restrict__ grad_input) {
  constexpr int kSlots = Access::kSlots;
  const int64_t parts = ceil_div(crop_width, kChannelsLastPoints);
  const int64_t groups = ceil_div(access.channels, Access::kGroup);
  const int64_t thread = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  const int64_t task = thread / Access::kChannelLanes;
  if (task >= groups * parts * crop_height * num_rois) return;
  const int64_t channel =
      task % groups * Access::kGroup + thread % Access::kChannelLanes * Access::kLaneStep;
  const int count = access.count(channel);
  if (count == 0) return;
  const int first_point = int(task / groups % parts) * kChannelsLastPoints;
  const int last_point = min(first_point + kChannelsLastPoints, crop_width);
  const int crop_row = int(task / (groups * parts) % crop_height);
  const DeviceRoi& roi = rois[task / (groups * parts * crop_height)];

  const Strides from = access.strides(height, width);
  const Strides to = access.strides(crop_height, crop_width);
  const int64_t image = max(roi.image, int64_t(0));
  grad += image * from.item + channel * from.channel;
  inverse += image * height * width;
  grad_input += roi.index * to.item + channel * to.channel + crop_row * to.row;
  const Reach<acc_t> rows(roi.y, crop_row, crop_height);
  const PixelRange columns = pixels_around(roi, first_point, last_point, crop_width);
  int point = first_point - 1;
  acc_t left[kSlots] = {}, right[kSlots] = {};  // the sums of `point` and of the next one
  const auto advance = [&] {
    if (point >= first_point) {
      access.store(grad_input + point * to.column, to.channel, count, left);
    }
#pragma unroll
    for (int c = 0; c < kSlots; ++c) {
      left[c] = right[c];
      right[c] = 0;
    }
    ++point;
  };
  for (int q = columns.begin; q < columns.end; ++q) {
    const DeviceTap<acc_t> tap = device_tap<acc_t>(roi.x, q, crop_width);
    if (tap.low < point) continue;
    if (tap.low >= last_point) break;
#pragma unroll 1
    while (point < tap.low) advance();
    acc_t sums[kSlots];
    sum_column(access, grad + q * from.column, from, count, inverse + q, width, rows, sums);
#pragma unroll
    for (int c = 0; c < kSlots; ++c) {
      left[c] += weight_of(tap.low, tap) * sums[c];
      right[c] += weight_of(tap.low + 1, tap) * sums[c];
    }
  }
#pragma unroll 1
  while (point < last_point) advance();
}

// The kernel for an access, to be launched with backward_threads or more.
template <typename Access, typename acc_t>
constexpr auto roi_inlay_backward_kernel() {
  if constexpr (Access::kChannelsLast) {
    return &roi_inlay_backward_channels_last_kernel<Access, acc_t>;
  } else {
    return &roi_inlay_backward_planar_kernel<Access, acc_t>;
  }
}

template <typename Access>
int64_t backward_threads(const Access& access, int num_rois, int64_t crop_height,
                         int64_t crop_width) {
  const int64_t rows = num_rois * crop_height;
  if constexpr (Access::kChannelsLast) {
    return rows * ceil_div(crop_width, kChannelsLastPoints) *
           ceil_div(access.channels, Access::kGroup) * Access::kChannelLanes;
  } else {
    return rows * ceil_div(crop_width, kPlanarPoints) * ceil_div(access.channels, kWarpChannels) *
           kWarp;
  }
}

}  // namespace mmbanet
