// The RoIs that cover anything, grouped by image, on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "../roi_geometry.h"

namespace mmbanet {

struct Roi {
  int64_t index;  // row of `rois`, crop of `input`
  Axis y;
  Axis x;
};

// For each image its RoIs of positive, finite size. `rois` is (K, 5), float64, contiguous.
// Image indices must be in [0, batch_size).
//
// With `crops` (K, ...) the RoIs of an image come in an order that depends only on their values, so
// that sums over them do not depend on the order in which the caller listed them. RoIs with equal
// boxes are ordered by the bytes of their crops.
std::vector<std::vector<Roi>> list_rois(const at::Tensor& rois, int64_t batch_size, int height,
                                        int width, double spatial_scale, bool aligned,
                                        const at::Tensor* crops = nullptr);

}  // namespace mmbanet
