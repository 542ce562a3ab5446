// What the launches of both operators share.
#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstdint>
#include <limits>

#include "../mmbanet_ops.h"
#include "device_roi.cuh"
#include "pytorch_cpp_helper.hpp"
#include "pytorch_device_registry.hpp"

namespace mmbanet {

// RoIs are counted in ints, in steps of up to kThreads.
constexpr int64_t kMaxRois = int64_t(1) << 30;

inline unsigned grid_for(int64_t blocks) {
  TORCH_CHECK(blocks <= std::numeric_limits<int>::max(), "mmbanet: ", blocks,
              " blocks are more than CUDA launches at a time; split the batch");
  return static_cast<unsigned>(blocks);
}

inline unsigned grid_for_threads(int64_t threads) {
  return grid_for((threads + kThreads - 1) / kThreads);
}

// Of a tensor that is contiguous in one of the two formats: whether in the second one.
inline bool is_channels_last(const at::Tensor& features) {
  return features.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
}

inline DeviceRoi* device_rois(const at::Tensor& prepared) {
  return static_cast<DeviceRoi*>(prepared.data_ptr());
}

// (K * sizeof(DeviceRoi),) bytes on the device of `rois`, K > 0.
inline at::Tensor prepare_rois(const at::Tensor& rois, int64_t batch_size, int64_t height,
                               int64_t width, double spatial_scale, bool aligned) {
  const int64_t num_rois = rois.size(0);
  TORCH_CHECK_VALUE(num_rois <= kMaxRois, "rois must have at most ", kMaxRois,
                    " rows on CUDA, got ", num_rois);
  at::Tensor prepared = at::empty({num_rois * static_cast<int64_t>(sizeof(DeviceRoi))},
                                  rois.options().dtype(at::kByte));
  prepare_rois_kernel<<<grid_for_threads(num_rois * kWarp), kThreads, 0,
                        c10::cuda::getCurrentCUDAStream()>>>(
      rois.data_ptr<double>(), num_rois, batch_size, static_cast<int>(height),
      static_cast<int>(width), spatial_scale, aligned, device_rois(prepared));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return prepared;
}

}  // namespace mmbanet
