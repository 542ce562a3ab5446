// The two passes that all operators are made of: gather (crop = A_y map A_x^T for each RoI) and its
// transpose, scatter (map = sum of A_y^T crop A_x over RoIs). See axis_weights.h for A.
//
// A task works on a block of channels of a part of the map in scratch memory. Every element of a
// result has one writer, which goes through the RoIs in order, so the result does not depend on the
// number of threads.
#pragma once

#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "axis_weights.h"
#include "channel_blocks.h"
#include "simd.h"

namespace mmbanet {

// Sizes of the crops and of the map.
struct Sizes {
  int64_t crop_height, crop_width;
  int height, width;

  int64_t pixels() const { return static_cast<int64_t>(height) * width; }
};

// Pixels of a map: rows row_begin .. row_end - 1, and so on.
struct PixelBox {
  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
  int64_t area() const { return rows() * columns(); }

  // Makes it the smallest that holds the other one too.
  void join(const PixelBox& other) {
    if (other.area() == 0) return;
    if (area() == 0) *this = other;
    row_begin = std::min(row_begin, other.row_begin);
    row_end = std::max(row_end, other.row_end);
    column_begin = std::min(column_begin, other.column_begin);
    column_end = std::max(column_end, other.column_end);
  }

  int row_begin = 0, row_end = 0;
  int column_begin = 0, column_end = 0;
};

template <typename acc_t>
struct SampledRoi {
  SampledRoi(int64_t index, AxisWeights<acc_t>&& y, AxisWeights<acc_t>&& x)
      : index(index), rows(std::move(y)), columns(std::move(x)) {
    if (rows.pixels.empty() || columns.pixels.empty()) return;
    const auto [top, bottom] = std::minmax_element(rows.pixels.begin(), rows.pixels.end());
    const auto [left, right] = std::minmax_element(columns.pixels.begin(), columns.pixels.end());
    box = {*top, *bottom + 1, *left, *right + 1};
  }

  int64_t index;  // row of `rois`, crop
  AxisWeights<acc_t> rows, columns;
  PixelBox box;  // of the pixels that it samples
};

// The RoIs of an image, or one of them.
template <typename acc_t>
struct Group {
  void add(SampledRoi<acc_t>&& roi) {
    box.join(roi.box);
    rois.push_back(std::move(roi));
  }

  int64_t image;
  PixelBox box;
  std::vector<SampledRoi<acc_t>> rois;
  std::vector<acc_t> factors;  // of the pixels (H, W) of the image's map; none: all are 1
};

template <typename acc_t>
std::vector<Group<acc_t>> make_images(int64_t batch_size) {
  std::vector<Group<acc_t>> images(batch_size);
  for (int64_t n = 0; n < batch_size; ++n) images[n].image = n;
  return images;
}

// Columns that are summed side by side.
constexpr int64_t kColumns = 4;

// Calls body(q, lane, columns) for all vectors of channels of a RoI's columns, kColumns at
// a time: q is the element of the first one in the RoI's own columns, `columns` their offsets in
// the map's.
template <typename Target, typename acc_t, typename Body>
MMBANET_INLINE void for_columns(const SampledRoi<acc_t>& roi, int64_t first_column,
                                const Body& body) {
  constexpr int64_t kCount = sizeof(Vector<acc_t, Target>) / sizeof(acc_t);
  const auto& pixels = roi.columns.pixels;
  const auto size = static_cast<int64_t>(pixels.size());
  for (int64_t column = 0; column < size; column += kColumns) {
    int64_t offsets[kColumns];
    for (int64_t j = 0; j < kColumns; ++j) {
      offsets[j] = (pixels[std::min(column + j, size - 1)] - first_column) * kLanes;
    }
    for (int64_t lane = 0; lane < kLanes; lane += kCount) {
      body(column * kLanes + lane, lane, offsets);
    }
  }
}

// One RoI's crop of a slice of the map: the pixels of `box`. `columns` is scratch memory.
template <typename Target, typename acc_t>
MMBANET_INLINE void gather_crop(const SampledRoi<acc_t>& roi, const Sizes& sizes,
                                const PixelBox& box, const acc_t* slice, acc_t* columns,
                                acc_t* crop) {
  using Values = Vector<acc_t, Target>;
  constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);
  for (int64_t i = 0; i < sizes.crop_height; ++i) {
    for_columns<Target>(roi, box.column_begin,
                        [&](int64_t q, int64_t lane, const int64_t* offsets) MMBANET_INLINE_LAMBDA {
                          Values sums[kColumns] = {};
                          for (auto row = roi.rows.begin(i); row != roi.rows.end(i); ++row) {
                            const int64_t p = roi.rows.pixels[row->pixel] - box.row_begin;
                            const acc_t* const from = slice + p * box.columns() * kLanes + lane;
                            for (int64_t j = 0; j < kColumns; ++j) {
                              sums[j] +=
                                  row->weight * load_vector<Values, acc_t>(from + offsets[j]);
                            }
                          }
                          for (int64_t j = 0; j < kColumns; ++j)
                            store_vector(sums[j], columns + q + j * kLanes);
                        });
    for (int64_t j = 0; j < sizes.crop_width; ++j, crop += kLanes) {
      for (int64_t lane = 0; lane < kLanes; lane += kCount) {
        Values sum = {};
        for (auto column = roi.columns.begin(j); column != roi.columns.end(j); ++column) {
          sum +=
              column->weight * load_vector<Values, acc_t>(columns + column->pixel * kLanes + lane);
        }
        store_vector(sum, crop + lane);
      }
    }
  }
}

// Adds to one pixel's channels the weighted sum of those of others, which are `stride` apart.
template <typename Target, typename acc_t>
MMBANET_INLINE void add_weighted(const AxisWeights<acc_t>& axis, int64_t i, const acc_t* from,
                                 int64_t stride, acc_t* to) {
  using Values = Vector<acc_t, Target>;
  constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);
  Values sums[kLanes / kCount];
  for (int64_t v = 0; v < kLanes / kCount; ++v) {
    sums[v] = load_vector<Values, acc_t>(to + v * kCount);
  }
  for (auto tap = axis.begin(i); tap != axis.end(i); ++tap) {
    const acc_t* const values = from + tap->pixel * stride;
    for (int64_t v = 0; v < kLanes / kCount; ++v) {
      sums[v] += tap->weight * load_vector<Values, acc_t>(values + v * kCount);
    }
  }
  for (int64_t v = 0; v < kLanes / kCount; ++v) store_vector(sums[v], to + v * kCount);
}

// The points of the crop that each pixel is made of.
template <typename acc_t>
struct PixelWeights {
  AxisWeights<acc_t> rows, columns;
};

// Adds the part of one RoI's crop that lies in a band: rows begin .. end - 1 of the map. `points`
// and `combined`, a row of the crop, are scratch memory.
template <typename Target, typename scalar_t, typename acc_t>
MMBANET_INLINE void scatter_crop(const SampledRoi<acc_t>& roi, const PixelWeights<acc_t>& weights,
                                 const Sizes& sizes, const ChannelBlocks<const scalar_t>& crops,
                                 int64_t channel, int begin, int end, acc_t* points,
                                 acc_t* combined, acc_t* band) {
  if (roi.box.row_end <= begin || roi.box.row_begin >= end) return;
  const auto& rows = roi.rows.pixels;
  const auto& columns = roi.columns.pixels;
  const auto in_band = [&](size_t p)
                           MMBANET_INLINE_LAMBDA { return begin <= rows[p] && rows[p] < end; };
  int first = static_cast<int>(sizes.crop_height), last = 0;
  for (size_t p = 0; p < rows.size(); ++p) {
    if (!in_band(p)) continue;
    for (auto tap = weights.rows.begin(p); tap != weights.rows.end(p); ++tap) {
      first = std::min(first, tap->pixel);
      last = std::max(last, tap->pixel + 1);
    }
  }
  if (first >= last) return;
  const int64_t row_size = sizes.crop_width * kLanes;
  load_pixels(crops.at(roi.index, channel, first * sizes.crop_width), crops.block(channel),
              (last - first) * sizes.crop_width, points);
  for (size_t p = 0; p < rows.size(); ++p) {
    if (!in_band(p)) continue;
    std::fill_n(combined, row_size, acc_t(0));
    for (int64_t j = 0; j < row_size; j += kLanes) {
      add_weighted<Target>(weights.rows, p, points + j - first * row_size, row_size, combined + j);
    }
    acc_t* const row = band + static_cast<int64_t>(rows[p] - begin) * sizes.width * kLanes;
    for (size_t q = 0; q < columns.size(); ++q) {
      add_weighted<Target>(weights.columns, q, combined, kLanes, row + columns[q] * kLanes);
    }
  }
}

// Multiplies the channels of some pixels with their factors.
template <typename acc_t>
MMBANET_INLINE void multiply(acc_t* MMBANET_RESTRICT pixels, const acc_t* MMBANET_RESTRICT factors,
                             int64_t size) {
  for (int64_t q = 0; q < size; ++q) {
    for (int64_t c = 0; c < kLanes; ++c) pixels[q * kLanes + c] *= factors[q];
  }
}

// Writes a row of the map, whose first pixel is `pixel`. Where pixels have factors, those that are
// 0 say that nothing was added.
template <typename scalar_t, typename acc_t>
MMBANET_INLINE void store_row(acc_t* row, const Group<acc_t>& image, int64_t pixel, int64_t width,
                              const ChannelBlocks<scalar_t>& map, int64_t channel) {
  const auto store = [&](int64_t begin, int64_t end) MMBANET_INLINE_LAMBDA {
    store_pixels(row + begin * kLanes, map.block(channel), end - begin,
                 map.at(image.image, channel, pixel + begin));
  };
  if (image.factors.empty()) return store(0, width);
  const acc_t* const factors = image.factors.data() + pixel;
  for (int64_t begin = 0, end = 0; begin < width; begin = end) {
    const bool covered = factors[begin] != 0;
    while (end < width && (factors[end] != 0) == covered) ++end;
    if (covered) {
      multiply(row + begin * kLanes, factors + begin, end - begin);
      store(begin, end);
    } else {
      map.clear(image.image, channel, pixel + begin, end - begin);
    }
  }
}

// Few RoIs get a group each, so that pixels between them are not copied.
template <typename acc_t>
std::vector<Group<acc_t>> split_sparse(const std::vector<Group<acc_t>>& images) {
  std::vector<Group<acc_t>> groups;
  for (const auto& image : images) {
    int64_t area = 0;
    for (const auto& roi : image.rois) area += roi.box.area();
    if (area >= image.box.area() && area > 0) {
      groups.push_back({image.image, image.box, image.rois, {}});
      continue;
    }
    for (const auto& roi : image.rois) groups.push_back({image.image, roi.box, {roi}, {}});
  }
  return groups;
}

// crops (K, C, h, w): each of them of the map (N, C, H, W), whose pixels are multiplied with the
// factors. Crops that are of no image stay as they are.
template <typename scalar_t>
void gather(const std::vector<Group<at::opmath_type<scalar_t>>>& images, const Sizes& sizes,
            const at::Tensor& map_tensor, const at::Tensor& crop_tensor) {
  using acc_t = at::opmath_type<scalar_t>;
  const ChannelBlocks<const scalar_t> map(map_tensor, map_tensor.const_data_ptr<scalar_t>());
  const ChannelBlocks<scalar_t> crops(crop_tensor, crop_tensor.mutable_data_ptr<scalar_t>());
  const auto groups = split_sparse(images);
  const int64_t blocks = map.count(), tasks = static_cast<int64_t>(groups.size()) * blocks;
  at::parallel_for(0, tasks, 1, [&](int64_t task_begin, int64_t task_end) {
    AlignedVector<acc_t> slice, columns((sizes.width + kColumns) * kLanes),
        crop(sizes.crop_height * sizes.crop_width * kLanes);
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const auto& group = groups[task / blocks];
        const int64_t channel = task % blocks * kLanes;
        const PixelBox& box = group.box;
        slice.resize(box.area() * kLanes);
        for (int64_t p = 0; p < box.rows(); ++p) {
          const int64_t pixel = (box.row_begin + p) * sizes.width + box.column_begin;
          acc_t* const row = slice.data() + p * box.columns() * kLanes;
          load_pixels(map.at(group.image, channel, pixel), map.block(channel), box.columns(), row);
          const auto& factors = images[group.image].factors;
          if (!factors.empty()) multiply(row, factors.data() + pixel, box.columns());
        }
        for (const auto& roi : group.rois) {
          gather_crop<decltype(target)>(roi, sizes, box, slice.data(), columns.data(), crop.data());
          store_pixels(crop.data(), crops.block(channel), sizes.crop_height * sizes.crop_width,
                       crops.at(roi.index, channel, 0));
        }
      }
    });
  });
}

// Bands of about so many elements stay in the nearer caches.
constexpr int64_t kBandElements = 64 * 1024;

// map (N, C, H, W): the sum of the crops (K, C, h, w), times the factors of the pixels. Crops are
// loaded again for every band of rows that they reach; RoIAlign's many take the map as one.
template <typename scalar_t>
void scatter(const std::vector<Group<at::opmath_type<scalar_t>>>& images, const Sizes& sizes,
             const at::Tensor& crop_tensor, const at::Tensor& map_tensor, bool bands_of_rows) {
  using acc_t = at::opmath_type<scalar_t>;
  const ChannelBlocks<const scalar_t> crops(crop_tensor, crop_tensor.const_data_ptr<scalar_t>());
  const ChannelBlocks<scalar_t> map(map_tensor, map_tensor.mutable_data_ptr<scalar_t>());
  const int64_t row_size = sizes.width * kLanes;
  const int64_t band_rows =
      bands_of_rows ? std::clamp<int64_t>(kBandElements / row_size, 1, sizes.height) : sizes.height;
  const int64_t bands = (sizes.height + band_rows - 1) / band_rows, blocks = map.count();
  const int64_t tasks = static_cast<int64_t>(images.size()) * blocks * bands;
  std::vector<std::vector<PixelWeights<acc_t>>> weights(images.size());
  for (size_t n = 0; n < images.size(); ++n) {
    for (const auto& roi : images[n].rois) {
      weights[n].push_back({roi.rows.transposed(), roi.columns.transposed()});
    }
  }
  at::parallel_for(0, tasks, 1, [&](int64_t task_begin, int64_t task_end) {
    AlignedVector<acc_t> band(band_rows * row_size),
        points(sizes.crop_height * sizes.crop_width * kLanes), combined(sizes.crop_width * kLanes);
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t n = task / (blocks * bands);
        const auto& image = images[n];
        // In the order of memory.
        const int64_t part = task % (blocks * bands);
        const int64_t channel = (map.channels_last ? part % blocks : part / bands) * kLanes;
        const int64_t begin = (map.channels_last ? part / blocks : part % bands) * band_rows;
        const int64_t end = std::min<int64_t>(begin + band_rows, sizes.height);
        std::fill(band.begin(), band.end(), acc_t(0));
        for (size_t k = 0; k < image.rois.size(); ++k) {
          scatter_crop<decltype(target)>(image.rois[k], weights[n][k], sizes, crops, channel,
                                         static_cast<int>(begin), static_cast<int>(end),
                                         points.data(), combined.data(), band.data());
        }
        for (int64_t p = begin; p < end; ++p) {
          store_row(band.data() + (p - begin) * row_size, image, p * sizes.width, sizes.width, map,
                    channel);
        }
      }
    });
  });
}

}  // namespace mmbanet
