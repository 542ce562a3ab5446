// The RoIs that touch a tile of the map, listed in shared memory; needs no torch.
#pragma once

#include "device_roi.cuh"

namespace mmbanet {

// RoIs that are listed at a time: a page.
constexpr int kPage = 32;

struct Tile {
  int64_t image;
  int y, x, height, width;  // parts of it may lie below and right of the map
};

struct TileRois {
  int count;
  int rois[kPage];
  int next;         // RoI from which the next page is to be listed, num_rois if there is none
  bool all_listed;  // this is the only page
};

__device__ inline bool touches(const DeviceRoi& roi, const Tile& tile) {
  return roi.image == tile.image && roi.y.begin < roi.y.end && roi.x.begin < roi.x.end &&
         roi.y.begin < tile.y + tile.height && roi.y.end > tile.y &&
         roi.x.begin < tile.x + tile.width && roi.x.end > tile.x;
}

// Lists, in order, up to kPage of the RoIs from `start` on that touch the tile. Called by all
// threads of a block.
__device__ inline void list_page(const DeviceRoi* rois, int num_rois, int start, const Tile& tile,
                                 TileRois& page) {
  __shared__ unsigned warp_hits[kWarps];
  __shared__ int left_out;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  __syncthreads();  // the page before may still be in use
  int listed = 0;
  int next = start;
  while (next < num_rois && listed < kPage) {
    const int r = next + int(threadIdx.x);
    const bool hit = r < num_rois && touches(rois[r], tile);
    const unsigned hits = __ballot_sync(0xffffffffu, hit);
    if (lane == 0) warp_hits[warp] = hits;
    __syncthreads();
    int position = listed + __popc(hits & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; ++w) {
      const int count = __popc(warp_hits[w]);
      if (w < warp) position += count;
      listed += count;
    }
    if (hit && position < kPage) page.rois[position] = r;
    if (hit && position == kPage) left_out = r;
    __syncthreads();
    next = listed > kPage ? left_out : min(next + kThreads, num_rois);
  }
  if (threadIdx.x == 0) {
    page.count = min(listed, kPage);
    page.next = next;
    page.all_listed = start == 0 && next == num_rois;
  }
  __syncthreads();
}

}  // namespace mmbanet
