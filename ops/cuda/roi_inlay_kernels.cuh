// RoIInlay's CUDA kernel, forward: a gather without atomics, every element written once; needs no
// torch.
//
// A block makes one tile of the map for some channels. The RoIs that touch the tile and their taps
// on its rows and columns are found once, in shared memory. A thread makes a strip: kRows pixels,
// one below the other, for kSlots channels. Going down it interpolates a row of the crop once for
// all pixels that lie next to it. acc_t is float, or double for double.
#pragma once

#include "memory_format.cuh"
#include "tile_rois.cuh"

namespace mmbanet {

// How a block of kThreads is laid over its tile and channels.
template <typename Access, typename acc_t>
struct InlayLayout {
  static constexpr int kRows = 64 / (Access::kSlots * sizeof(acc_t));
  static constexpr int kColumns = kWarp / Access::kChannelLanes;  // of a warp
  static constexpr int kTileWidth = Access::kChannelsLast ? 16 : 32;
  static constexpr int kTileHeight = Access::kChannelsLast ? 16 : 32;
  static constexpr int kStrips = kTileHeight / kRows;
  static constexpr int kPlaces = kTileWidth / kColumns * kStrips;  // of a warp in the tile
  static constexpr int kBlockChannels = Access::kChannelsLast ? 128 : 32;
  static_assert(kPlaces % kWarps == 0);
};

// The listed RoIs' crops, and their taps on the tile's rows and columns.
template <typename acc_t, int kHeight, int kWidth>
struct TileTaps {
  int64_t crops[kPage];  // where they begin, in elements of the input
  DeviceTap<acc_t> rows[kPage][kHeight];
  DeviceTap<acc_t> columns[kPage][kWidth];

  // Called by all threads of a block.
  __device__ void fill(const DeviceRoi* rois, const TileRois& page, const Tile& tile,
                       int64_t crop_size, int crop_height, int crop_width) {
    for (int i = threadIdx.x; i < page.count; i += kThreads) {
      crops[i] = rois[page.rois[i]].index * crop_size;
    }
    fill_axis(rows, &DeviceRoi::y, rois, page, tile.y, crop_height);
    fill_axis(columns, &DeviceRoi::x, rois, page, tile.x, crop_width);
    __syncthreads();
  }

 private:
  template <int kPixels>
  __device__ static void fill_axis(DeviceTap<acc_t> (&taps)[kPage][kPixels], Axis DeviceRoi::* axis,
                                   const DeviceRoi* rois, const TileRois& page, int first_pixel,
                                   int samples) {
#pragma unroll 1
    for (int i = threadIdx.x; i < page.count * kPixels; i += kThreads) {
      const int r = i / kPixels, pixel = i % kPixels;
      taps[r][pixel] = device_tap<acc_t>(rois[page.rois[r]].*axis, first_pixel + pixel, samples);
    }
  }
};

// What a thread makes.
template <typename acc_t, int kRows, int kSlots>
struct Strip {
  acc_t sums[kRows][kSlots] = {};
  int covering[kRows] = {};  // RoIs
};

// The channels of one row of a crop between two of its columns.
template <typename Access, typename acc_t>
__device__ void interpolate(const Access& access, const typename Access::scalar_t* left,
                            const typename Access::scalar_t* right, acc_t fraction,
                            int64_t channel_stride, int count, acc_t (&values)[Access::kSlots]) {
  acc_t right_values[Access::kSlots];
  access.load(left, channel_stride, count, values);
  access.load(right, channel_stride, count, right_values);
#pragma unroll
  for (int c = 0; c < Access::kSlots; ++c) values[c] += fraction * (right_values[c] - values[c]);
}

// Adds a crop to a strip. `crop` points to the thread's first channel, `rows` to the strip's taps.
template <typename Access, typename acc_t, int kRows>
__device__ void add_crop(const Access& access, const typename Access::scalar_t* crop,
                         const Strides& strides, int crop_height, int crop_width, int count,
                         const DeviceTap<acc_t>* rows, DeviceTap<acc_t> column,
                         Strip<acc_t, kRows, Access::kSlots>& strip) {
  const auto* const left = crop + column.low * strides.column;
  const auto* const right = left + (column.low + 1 < crop_width ? strides.column : 0);
  acc_t top[Access::kSlots], bottom[Access::kSlots];  // the rows low and low + 1
  int low = -2;
  // Unrolled, since an array with variable indices would not be kept in registers.
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const DeviceTap<acc_t> row = rows[i];
    if (row.low < 0) continue;
    if (row.low != low) {
      if (row.low == low + 1) {
#pragma unroll
        for (int c = 0; c < Access::kSlots; ++c) top[c] = bottom[c];
      } else {
        const int64_t offset = row.low * strides.row;
        interpolate(access, left + offset, right + offset, column.fraction, strides.channel, count,
                    top);
      }
      const int64_t offset = min(row.low + 1, crop_height - 1) * strides.row;
      interpolate(access, left + offset, right + offset, column.fraction, strides.channel, count,
                  bottom);
      low = row.low;
    }
    ++strip.covering[i];
#pragma unroll
    for (int c = 0; c < Access::kSlots; ++c) {
      strip.sums[i][c] += top[c] + row.fraction * (bottom[c] - top[c]);
    }
  }
}

// What a block makes. Tiles of the same channels are neighbours, since they read the same crops.
template <typename Layout>
struct InlayTask {
  Tile tile;
  int64_t channel;  // the first one
  int channels;

  __device__ void set(int64_t block, int64_t all_channels, int height, int width) {
    const int64_t tiles_x = ceil_div(width, Layout::kTileWidth);
    const int64_t tiles_y = ceil_div(height, Layout::kTileHeight);
    const int64_t parts = ceil_div(all_channels, Layout::kBlockChannels);
    tile = {block / (tiles_x * tiles_y * parts),
            int(block / tiles_x % tiles_y) * Layout::kTileHeight,
            int(block % tiles_x) * Layout::kTileWidth, Layout::kTileHeight, Layout::kTileWidth};
    channel = block / (tiles_x * tiles_y) % parts * Layout::kBlockChannels;
    channels = int(min(int64_t(Layout::kBlockChannels), all_channels - channel));
  }

  static int64_t blocks(int64_t batch_size, int64_t all_channels, int64_t height, int64_t width) {
    return ceil_div(width, Layout::kTileWidth) * ceil_div(height, Layout::kTileHeight) *
           ceil_div(all_channels, Layout::kBlockChannels) * batch_size;
  }
};

// Zeros for a planar tile; every row of the map is aligned. Called by all threads of a block.
template <typename Layout, typename scalar_t>
__device__ void clear_tile(const InlayTask<Layout>& task, const Strides& strides, int height,
                           int width, scalar_t* output) {
  constexpr int kSize = Vector<scalar_t>::kSize;
  constexpr int kRowVectors = Layout::kTileWidth / kSize;
  for (int i = threadIdx.x; i < task.channels * Layout::kTileHeight * kRowVectors; i += kThreads) {
    const int q = task.tile.x + i % kRowVectors * kSize;
    const int p = task.tile.y + i / kRowVectors % Layout::kTileHeight;
    const int64_t c = task.channel + i / (kRowVectors * Layout::kTileHeight);
    if (p >= height || q >= width) continue;
    scalar_t* const to =
        output + task.tile.image * strides.item + c * strides.channel + p * strides.row + q;
    Vector<scalar_t>{}.store(to);
  }
}

// input (K, C, h, w), output (N, C, H, W), both in the memory format of `access`; K > 0. One block
// for each InlayTask. `clearable`: the output is planar and its rows are aligned to kVectorBytes.
template <typename Access, typename acc_t>
__global__ void __launch_bounds__(kThreads, 3)
    roi_inlay_kernel(Access access, const typename Access::scalar_t* __restrict__ input,
                     const DeviceRoi* __restrict__ rois, int num_rois, int crop_height,
                     int crop_width, int height, int width, bool clearable,
                     typename Access::scalar_t* __restrict__ output) {
  using Layout = InlayLayout<Access, acc_t>;
  constexpr int kRows = Layout::kRows;
  __shared__ TileRois page;
  __shared__ TileTaps<acc_t, Layout::kTileHeight, Layout::kTileWidth> taps;
  __shared__ InlayTask<Layout> task;
  if (threadIdx.x == 0) {
    task.set(blockIdx.x, access.channels, height, width);
    page.all_listed = false;
  }
  __syncthreads();

  const int groups = int(ceil_div(task.channels, Access::kGroup));
  const int lane = threadIdx.x % kWarp;
  for (int item = threadIdx.x / kWarp; item < Layout::kPlaces * groups; item += kWarps) {
    // With the groups a warp changes places, since RoIs are not spread evenly over the tile.
    const int group = item / Layout::kPlaces;
    const int place = (item + group) % Layout::kPlaces;
    const int y = place % Layout::kStrips * kRows;
    const int x = place / Layout::kStrips * Layout::kColumns + lane / Access::kChannelLanes;
    const int64_t channel =
        task.channel + group * Access::kGroup + lane % Access::kChannelLanes * Access::kLaneStep;
    const int count = access.count(channel);

    Strip<acc_t, kRows, Access::kSlots> strip;
    for (int first = 0; first < num_rois; first = page.next) {
      if (!page.all_listed) {
        list_page(rois, num_rois, first, task.tile, page);
        if (!Access::kChannelsLast && clearable && page.all_listed && page.count == 0) {
          clear_tile<Layout>(task, access.strides(height, width), height, width, output);
          return;
        }
        const int64_t crop_size = access.channels * crop_height * crop_width;
        taps.fill(rois, page, task.tile, crop_size, crop_height, crop_width);
      }
      const Strides strides = access.strides(crop_height, crop_width);
      const auto* const crops = input + channel * strides.channel;
      for (int r = 0; r < page.count && count > 0; ++r) {
        const DeviceTap<acc_t> column = taps.columns[r][x];
        if (column.low < 0) continue;
        add_crop(access, crops + taps.crops[r], strides, crop_height, crop_width, count,
                 taps.rows[r] + y, column, strip);
      }
    }

    const Strides strides = access.strides(height, width);
    const int q = task.tile.x + x;
    if (q >= width || count == 0) continue;
    auto* const pixels =
        output + task.tile.image * strides.item + channel * strides.channel + q * strides.column;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int p = task.tile.y + y + i;
      if (p >= height) continue;
      const acc_t factor = acc_t(1) / acc_t(max(strip.covering[i], 1));
      access.store(pixels + p * strides.row, strides.channel, count, strip.sums[i], factor);
    }
  }
}

}  // namespace mmbanet
