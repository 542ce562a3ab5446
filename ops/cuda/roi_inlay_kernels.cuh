// RoIInlay's CUDA kernels: gathers without atomics, every element written once; needs no torch.
//
// The compiler sees them with scalar_t (storage) and acc_t (float, or double for double).
#pragma once

#include "device_roi.cuh"

namespace mmbanet {

// A block makes one tile of the map for kTileChannels channels, one pixel per thread.
constexpr int kTileWidth = 32;
constexpr int kTileHeight = kThreads / kTileWidth;
constexpr int kTileChannels = 8;
// RoIs whose taps are in shared memory at a time.
constexpr int kTappedRois = 16;
// Channels of one sampling point that a thread of the backward kernel makes.
constexpr int kPointChannels = 4;

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

// The RoIs among first .. first + kThreads - 1 that touch the tile, in order. Called by all
// threads.
__device__ inline int list_tile_rois(const DeviceRoi* rois, int64_t num_rois, int64_t first,
                                     int64_t image, int tile_y, int tile_x, int64_t* listed) {
  __shared__ unsigned warp_hits[kThreads / 32];
  const int64_t r = first + threadIdx.x;
  bool hit = false;
  if (r < num_rois && rois[r].image == image) {
    const Axis y = rois[r].y, x = rois[r].x;
    hit = y.begin < tile_y + kTileHeight && y.end > tile_y && y.begin < y.end &&
          x.begin < tile_x + kTileWidth && x.end > tile_x && x.begin < x.end;
  }
  const unsigned hits = __ballot_sync(0xffffffffu, hit);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane == 0) warp_hits[warp] = hits;
  __syncthreads();
  int position = __popc(hits & ((1u << lane) - 1));
  int total = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    const int count = __popc(warp_hits[w]);
    if (w < warp) position += count;
    total += count;
  }
  if (hit) listed[position] = r;
  __syncthreads();
  return total;
}

// input (K, C, h, w), output (N, C, H, W). One-dimensional blocks of kThreads, any grid.
template <typename scalar_t, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    roi_inlay_kernel(const scalar_t* __restrict__ input, const DeviceRoi* __restrict__ rois,
                     int64_t num_rois, int64_t batch_size, int64_t channels, int crop_height,
                     int crop_width, int height, int width, scalar_t* __restrict__ output) {
  __shared__ int64_t listed[kThreads];
  __shared__ DeviceTap<acc_t> rows[kTappedRois][kTileHeight];
  __shared__ DeviceTap<acc_t> columns[kTappedRois][kTileWidth];

  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  const int64_t tiles_x = (int64_t(width) + kTileWidth - 1) / kTileWidth;
  const int64_t tiles_y = (int64_t(height) + kTileHeight - 1) / kTileHeight;
  const int64_t groups = (channels + kTileChannels - 1) / kTileChannels;
  const int64_t tasks = tiles_x * tiles_y * groups * batch_size;
  const int thread_y = threadIdx.x / kTileWidth, thread_x = threadIdx.x % kTileWidth;

  // Tiles of one channel group are neighbours, since they read the same crops.
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int tile_x = int(task % tiles_x) * kTileWidth;
    const int tile_y = int(task / tiles_x % tiles_y) * kTileHeight;
    const int64_t first_channel = task / (tiles_x * tiles_y) % groups * kTileChannels;
    const int64_t image = task / (tiles_x * tiles_y * groups);
    const int group_channels = int(min(int64_t(kTileChannels), channels - first_channel));

    acc_t sums[kTileChannels] = {};
    int covering = 0;
    for (int64_t first = 0; first < num_rois; first += kThreads) {
      const int num_listed = list_tile_rois(rois, num_rois, first, image, tile_y, tile_x, listed);
      for (int tapped = 0; tapped < num_listed; tapped += kTappedRois) {
        const int num_tapped = min(kTappedRois, num_listed - tapped);
        for (int i = threadIdx.x; i < num_tapped * kTileHeight; i += kThreads) {
          const int r = i / kTileHeight, y = i % kTileHeight;
          rows[r][y] = device_tap<acc_t>(rois[listed[tapped + r]].y, tile_y + y, crop_height);
        }
        for (int i = threadIdx.x; i < num_tapped * kTileWidth; i += kThreads) {
          const int r = i / kTileWidth, x = i % kTileWidth;
          columns[r][x] = device_tap<acc_t>(rois[listed[tapped + r]].x, tile_x + x, crop_width);
        }
        __syncthreads();
        for (int r = 0; r < num_tapped; ++r) {
          const DeviceTap<acc_t> row = rows[r][thread_y], column = columns[r][thread_x];
          if (row.low < 0 || column.low < 0) continue;
          ++covering;
          const int64_t right = column.low + 1 < crop_width ? 1 : 0;
          const int64_t below = row.low + 1 < crop_height ? crop_width : 0;
          const scalar_t* point =
              input + (rois[listed[tapped + r]].index * channels + first_channel) * crop_plane +
              int64_t(row.low) * crop_width + column.low;
#pragma unroll
          for (int c = 0; c < kTileChannels; ++c, point += crop_plane) {
            if (c >= group_channels) continue;
            const acc_t top_left = acc_t(point[0]), bottom_left = acc_t(point[below]);
            const acc_t top = top_left + column.fraction * (acc_t(point[right]) - top_left);
            const acc_t bottom =
                bottom_left + column.fraction * (acc_t(point[below + right]) - bottom_left);
            sums[c] += top + row.fraction * (bottom - top);
          }
        }
        __syncthreads();
      }
    }

    const int p = tile_y + thread_y, q = tile_x + thread_x;
    if (p >= height || q >= width) continue;
    const acc_t factor = acc_t(1) / acc_t(max(covering, 1));
    scalar_t* to = output + ((image * channels + first_channel) * height + p) * int64_t(width) + q;
    // Unrolled, since an array with variable indices would not be kept in registers.
#pragma unroll
    for (int c = 0; c < kTileChannels; ++c, to += int64_t(height) * width) {
      if (c < group_channels) *to = scalar_t(sums[c] * factor);
    }
  }
}

// inverse (N, H, W): 1 / (number of RoIs that cover the pixel), 1 where there is none.
template <typename acc_t>
__global__ void inverse_counts_kernel(const DeviceRoi* __restrict__ rois, int64_t num_rois,
                                      int64_t batch_size, int height, int width,
                                      acc_t* __restrict__ inverse) {
  const int64_t plane = int64_t(height) * width;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < batch_size * plane;
       i += int64_t(gridDim.x) * blockDim.x) {
    const int q = int(i % width), p = int(i / width % height);
    const int64_t image = i / plane;
    int count = 0;
    for (int64_t r = 0; r < num_rois; ++r) {
      count += rois[r].image == image && p >= rois[r].y.begin && p < rois[r].y.end &&
               q >= rois[r].x.begin && q < rois[r].x.end;
    }
    inverse[i] = acc_t(1) / acc_t(max(count, 1));
  }
}

// The pixels along one axis whose interpolation uses a sampling point, and their weights.
template <typename acc_t>
struct Reach {
  int begin, end;
  acc_t base, step;  // in the coordinates of the sampling points, relative to the point
  acc_t low, high;   // pixels beyond the outermost points are clamped to them

  __device__ acc_t weight(int pixel) const {
    acc_t distance = base + acc_t(pixel - begin) * step;
    distance = distance > low ? distance : low;
    distance = distance < high ? distance : high;
    return acc_t(1) - (distance < 0 ? -distance : distance);
  }
};

template <typename acc_t>
__device__ Reach<acc_t> reach_of(const Axis& axis, int sample, int samples) {
  Reach<acc_t> reach;
  const double bin = axis.extent / samples;
  // Generous by up to a pixel: the weights decide. Compared as double, since RoIs may be huge.
  const double first = axis.start + (sample - 0.5) * bin - 1;
  const double last = axis.start + (sample + 1.5) * bin + 1;
  reach.begin = axis.begin;
  reach.end = axis.end;
  if (sample > 0 && first > axis.begin) reach.begin = first < axis.end ? int(first) : axis.end;
  if (sample + 1 < samples && last < axis.end) {
    reach.end = last > reach.begin ? int(last) + 1 : reach.begin;
  }
  reach.base = acc_t((reach.begin - axis.start) / axis.extent * samples - 0.5 - sample);
  // A RoI of less than one pixel covers at most one, so there is no step to take.
  reach.step = axis.extent >= 1 ? acc_t(samples / axis.extent) : acc_t(0);
  reach.low = acc_t(-sample);
  reach.high = acc_t(samples - 1 - sample);
  return reach;
}

// grad (N, C, H, W), inverse (N, H, W), grad_input (K, C, h, w). One thread per sampling point and
// kPointChannels channels.
template <typename scalar_t, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    roi_inlay_backward_kernel(const scalar_t* __restrict__ grad, const acc_t* __restrict__ inverse,
                              const DeviceRoi* __restrict__ rois, int64_t num_rois,
                              int64_t channels, int crop_height, int crop_width, int height,
                              int width, scalar_t* __restrict__ grad_input) {
  const int64_t plane = int64_t(height) * width;
  const int64_t crop_plane = int64_t(crop_height) * crop_width;
  const int64_t groups = (channels + kPointChannels - 1) / kPointChannels;
  const int64_t tasks = num_rois * groups * crop_plane;
  for (int64_t task = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; task < tasks;
       task += int64_t(gridDim.x) * blockDim.x) {
    const int64_t point = task % crop_plane;
    const int64_t first_channel = task / crop_plane % groups * kPointChannels;
    const DeviceRoi& roi = rois[task / (crop_plane * groups)];
    const int group_channels = int(min(int64_t(kPointChannels), channels - first_channel));

    acc_t sums[kPointChannels] = {};
    if (roi.image >= 0) {
      const Reach<acc_t> y = reach_of<acc_t>(roi.y, int(point / crop_width), crop_height);
      const Reach<acc_t> x = reach_of<acc_t>(roi.x, int(point % crop_width), crop_width);
      const scalar_t* const from = grad + (roi.image * channels + first_channel) * plane;
      for (int p = y.begin; p < y.end; ++p) {
        const acc_t row_weight = y.weight(p);
        if (row_weight <= 0) continue;
        for (int q = x.begin; q < x.end; ++q) {
          const acc_t column_weight = x.weight(q);
          if (column_weight <= 0) continue;
          const int64_t pixel = int64_t(p) * width + q;
          const acc_t weight = row_weight * column_weight * inverse[roi.image * plane + pixel];
#pragma unroll
          for (int c = 0; c < kPointChannels; ++c) {
            if (c < group_channels) sums[c] += weight * acc_t(from[c * plane + pixel]);
          }
        }
      }
    }
    scalar_t* to = grad_input + (roi.index * channels + first_channel) * crop_plane + point;
#pragma unroll
    for (int c = 0; c < kPointChannels; ++c, to += crop_plane) {
      if (c < group_channels) *to = scalar_t(sums[c]);
    }
  }
}

}  // namespace mmbanet
