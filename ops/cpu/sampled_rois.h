// RoIs as RoIAlign samples them, in groups that share a slice of the map.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "bin_weights.h"
#include "channel_slice.h"

namespace mmbanet {

// Sizes of the crops and of the map.
struct Sizes {
  int64_t crop_height, crop_width;
  int height, width;

  int64_t positions() const { return crop_height * crop_width; }
};

// Offsets are in elements of the group's slice.
template <typename acc_t>
struct SampledRoi {
  int64_t index;
  BinWeights<acc_t> rows, columns;
  PixelBox box;                                      // of the pixels that it samples
  std::vector<int64_t> row_offsets, column_offsets;  // of rows.pixels and columns.pixels
};

// RoIs of an image.
template <typename acc_t>
struct Group {
  void add(SampledRoi<acc_t>&& roi) {
    box.join(roi.box);
    rois.push_back(std::move(roi));
  }

  int64_t image;
  PixelBox box;
  std::vector<SampledRoi<acc_t>> rois;
};

template <typename acc_t>
PixelBox box_of(const BinWeights<acc_t>& rows, const BinWeights<acc_t>& columns) {
  if (rows.pixels.empty() || columns.pixels.empty()) return {};
  const auto [top, bottom] = std::minmax_element(rows.pixels.begin(), rows.pixels.end());
  const auto [left, right] = std::minmax_element(columns.pixels.begin(), columns.pixels.end());
  return {*top, *bottom + 1, *left, *right + 1};
}

// A group for each image. rois: float64 (K, 5) with valid image indices.
template <typename acc_t>
std::vector<Group<acc_t>> group_by_image(const at::Tensor& rois, int64_t batch_size,
                                         const Sizes& sizes, const Sampling& sampling) {
  std::vector<Group<acc_t>> images(batch_size);
  for (int64_t n = 0; n < batch_size; ++n) images[n].image = n;
  BinBuilder row_builder(sizes.height), column_builder(sizes.width);
  const double* const boxes = rois.const_data_ptr<double>();
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double* const box = boxes + k * 5;
    const auto side = [&](int i) { return static_cast<acc_t>(box[i]); };
    SampledRoi<acc_t> roi;
    roi.index = k;
    roi.rows = row_builder.build(side(2), side(4), sizes.crop_height, sampling);
    roi.columns = column_builder.build(side(1), side(3), sizes.crop_width, sampling);
    roi.box = box_of(roi.rows, roi.columns);
    images[static_cast<int64_t>(box[0])].add(std::move(roi));
  }
  return images;
}

// Few RoIs get a group each, so that pixels between them are not copied.
template <typename acc_t>
std::vector<Group<acc_t>> split_sparse(std::vector<Group<acc_t>>&& images) {
  std::vector<Group<acc_t>> groups;
  for (auto& image : images) {
    int64_t area = 0;
    for (const auto& roi : image.rois) area += roi.box.area();
    if (area >= image.box.area() && area > 0) {
      groups.push_back(std::move(image));
      continue;
    }
    for (auto& roi : image.rois) {
      groups.emplace_back().image = image.image;
      groups.back().add(std::move(roi));
    }
  }
  return groups;
}

template <typename acc_t>
void set_offsets(std::vector<Group<acc_t>>& groups) {
  for (auto& group : groups) {
    const PixelBox& box = group.box;
    for (auto& roi : group.rois) {
      for (const int row : roi.rows.pixels) {
        roi.row_offsets.push_back((row - box.row_begin) * box.columns() * kLanes);
      }
      for (const int column : roi.columns.pixels) {
        roi.column_offsets.push_back((column - box.column_begin) * kLanes);
      }
    }
  }
}

}  // namespace mmbanet
