// RoIAlign with average pooling on the CPU, forward and backward: mmcv's, with threads, and with
// work in proportion to a RoI's pixels instead of its samples.
//
// A task is a block of channels of an image, or of one of few RoIs: it copies that slice of the map
// to scratch memory, where RoIs find it in the cache. Every element of a result has one writer,
// which goes through the RoIs in order, so the result does not depend on the number of threads.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../mmbanet_ops.h"
#include "channel_slice.h"
#include "running_max.h"
#include "sampled_rois.h"
#include "simd.h"

namespace mmbanet {
namespace {

// Columns that are summed side by side.
constexpr int64_t kColumns = 4;

// Scratch memory of a thread.
template <typename acc_t>
struct Scratch {
  explicit Scratch(const Sizes& sizes)
      : columns((sizes.width + kColumns) * kLanes), crop(sizes.positions() * kLanes) {}

  AlignedVector<acc_t> slice;
  AlignedVector<acc_t> columns;  // of a RoI, summed over the rows of a row of bins
  AlignedVector<acc_t> crop;
};

// Calls body(q, columns) for all vectors of channels of the RoI's columns, kColumns at a time: for
// element q of the summed columns, and with the offsets of the columns in a row of the slice.
template <typename Target, typename acc_t, typename Body>
MMBANET_INLINE void for_columns(const SampledRoi<acc_t>& roi, const Body& body) {
  constexpr int64_t kCount = sizeof(Vector<acc_t, Target>) / sizeof(acc_t);
  const auto count = static_cast<int64_t>(roi.column_offsets.size());
  for (int64_t column = 0; column < count; column += kColumns) {
    int64_t offsets[kColumns];
    for (int64_t j = 0; j < kColumns; ++j) {
      offsets[j] = roi.column_offsets[std::min(column + j, count - 1)];
    }
    const int64_t columns = std::min(kColumns, count - column);
    for (int64_t lane = 0; lane < kLanes; lane += kCount) {
      body(column * kLanes + lane, lane, offsets, columns);
    }
  }
}

// One RoI's crop of the slice.
template <typename Target, typename acc_t>
MMBANET_INLINE void crop_slice(const SampledRoi<acc_t>& roi, const Sizes& sizes,
                               Scratch<acc_t>& scratch) {
  using Values = Vector<acc_t, Target>;
  constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);
  const acc_t* const slice = scratch.slice.data();
  acc_t* const columns = scratch.columns.data();
  acc_t* crop = scratch.crop.data();
  for (int64_t i = 0; i < sizes.crop_height; ++i) {
    for_columns<Target>(
        roi, [&](int64_t q, int64_t lane, const int64_t* offsets, int64_t) MMBANET_INLINE_LAMBDA {
          Values sums[kColumns] = {};
          for (auto row = roi.rows.begin(i); row != roi.rows.end(i); ++row) {
            const acc_t* const from = slice + roi.row_offsets[row->pixel] + lane;
            for (int64_t j = 0; j < kColumns; ++j) {
              sums[j] += row->weight * load_vector<Values, acc_t>(from + offsets[j]);
            }
          }
          for (int64_t j = 0; j < kColumns; ++j) store_vector(sums[j], columns + q + j * kLanes);
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

// Adds one RoI's gradient to that of the slice.
template <typename Target, typename acc_t>
MMBANET_INLINE void add_crop_gradient(const SampledRoi<acc_t>& roi, const Sizes& sizes,
                                      Scratch<acc_t>& scratch) {
  using Values = Vector<acc_t, Target>;
  constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);
  acc_t* const slice = scratch.slice.data();
  acc_t* const columns = scratch.columns.data();
  const acc_t* crop = scratch.crop.data();
  for (int64_t i = 0; i < sizes.crop_height; ++i) {
    std::fill_n(columns, roi.column_offsets.size() * kLanes, acc_t(0));
    for (int64_t j = 0; j < sizes.crop_width; ++j, crop += kLanes) {
      for (auto column = roi.columns.begin(j); column != roi.columns.end(j); ++column) {
        acc_t* const to = columns + column->pixel * kLanes;
        for (int64_t lane = 0; lane < kLanes; lane += kCount) {
          store_vector(load_vector<Values, acc_t>(to + lane) +
                           column->weight * load_vector<Values, acc_t>(crop + lane),
                       to + lane);
        }
      }
    }
    for_columns<Target>(roi, [&](int64_t q, int64_t lane, const int64_t* offsets,
                                 int64_t count) MMBANET_INLINE_LAMBDA {
      for (auto row = roi.rows.begin(i); row != roi.rows.end(i); ++row) {
        acc_t* const to = slice + roi.row_offsets[row->pixel] + lane;
        for (int64_t j = 0; j < count; ++j) {
          const auto value = load_vector<Values, acc_t>(columns + q + j * kLanes);
          store_vector(load_vector<Values, acc_t>(to + offsets[j]) + row->weight * value,
                       to + offsets[j]);
        }
      }
    });
  }
}

// A tensor (N, C, h, w), NCHW or channels-last.
template <typename scalar_t>
struct Planes {
  Planes(const Tensor& tensor, scalar_t* begin)
      : begin(begin),
        channels(tensor.size(1)),
        pixels(tensor.size(2) * tensor.size(3)),
        channels_last(tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast) {}

  BlockLayout block(int64_t channel) const {
    const int64_t size = std::min<int64_t>(kLanes, channels - channel);
    return channels_last ? BlockLayout{size, 1, channels} : BlockLayout{size, pixels, 1};
  }

  scalar_t* at(int64_t n, int64_t channel, int64_t pixel) const {
    const int64_t offset = n * channels * pixels;
    return begin + offset + (channels_last ? pixel * channels + channel : channel * pixels + pixel);
  }

  scalar_t* begin;
  int64_t channels, pixels;
  bool channels_last;
};

// Calls body(target, group, first channel, scratch) for every block of channels of every group.
template <typename acc_t, typename Body>
void for_blocks(const std::vector<Group<acc_t>>& groups, int64_t channels, const Sizes& sizes,
                const Body& body) {
  const int64_t blocks = (channels + kLanes - 1) / kLanes;
  const auto tasks = static_cast<int64_t>(groups.size()) * blocks;
  at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    Scratch<acc_t> scratch(sizes);
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t task = begin; task < end; ++task) {
        const auto& group = groups[task / blocks];
        scratch.slice.resize(group.box.area() * kLanes);
        body(target, group, task % blocks * kLanes, scratch);
      }
    });
  });
}

// Calls copy(pixels in the map, pixels in the slice) for the rows of a group's box.
template <typename scalar_t, typename acc_t, typename Copy>
MMBANET_INLINE void for_rows(const Planes<scalar_t>& map, const Group<acc_t>& group,
                             int64_t channel, int64_t width, Scratch<acc_t>& scratch,
                             const Copy& copy) {
  const PixelBox& box = group.box;
  acc_t* slice = scratch.slice.data();
  for (int64_t row = box.row_begin; row < box.row_end; ++row, slice += box.columns() * kLanes) {
    copy(map.at(group.image, channel, row * width + box.column_begin), slice);
  }
}

Tensor roi_align_cpu(const Tensor& input, const Tensor& rois, int64_t crop_height,
                     int64_t crop_width, double spatial_scale, int64_t sampling_ratio,
                     bool aligned) {
  const Sizes sizes{crop_height, crop_width, static_cast<int>(input.size(2)),
                    static_cast<int>(input.size(3))};
  Tensor output = at::empty({rois.size(0), input.size(1), crop_height, crop_width},
                            input.options().memory_format(input.suggest_memory_format()));
  if (output.numel() == 0 || input.numel() == 0) return output.zero_();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_align", [&] {
    using acc_t = at::opmath_type<scalar_t>;
    auto groups = split_sparse(group_by_image<acc_t>(rois, input.size(0), sizes,
                                                     {spatial_scale, sampling_ratio, aligned}));
    set_offsets(groups);
    const Planes<const scalar_t> map(input, input.const_data_ptr<scalar_t>());
    const Planes<scalar_t> crops(output, output.mutable_data_ptr<scalar_t>());
    for_blocks(groups, map.channels, sizes,
               [&](auto target, const auto& group, int64_t channel, auto& scratch)
                   MMBANET_INLINE_LAMBDA {
                     for_rows(map, group, channel, sizes.width, scratch,
                              [&](const scalar_t* pixels, acc_t* slice) MMBANET_INLINE_LAMBDA {
                                load_pixels(pixels, map.block(channel), group.box.columns(), slice);
                              });
                     for (const auto& roi : group.rois) {
                       crop_slice<decltype(target)>(roi, sizes, scratch);
                       store_pixels(scratch.crop.data(), crops.block(channel), sizes.positions(),
                                    crops.at(roi.index, channel, 0));
                     }
                   });
  });
  return output;
}

Tensor roi_align_backward_cpu(const Tensor& grad, const Tensor& rois, int64_t batch_size,
                              int64_t height, int64_t width, double spatial_scale,
                              int64_t sampling_ratio, bool aligned) {
  const Sizes sizes{grad.size(2), grad.size(3), static_cast<int>(height), static_cast<int>(width)};
  Tensor output = at::empty({batch_size, grad.size(1), height, width},
                            grad.options().memory_format(grad.suggest_memory_format()))
                      .zero_();
  if (output.numel() == 0 || grad.numel() == 0) return output;
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, grad.scalar_type(), "roi_align_backward", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        auto images = group_by_image<acc_t>(rois, batch_size, sizes,
                                            {spatial_scale, sampling_ratio, aligned});
        set_offsets(images);
        const Planes<const scalar_t> crops(grad, grad.const_data_ptr<scalar_t>());
        const Planes<scalar_t> map(output, output.mutable_data_ptr<scalar_t>());
        for_blocks(images, map.channels, sizes,
                   [&](auto target, const auto& image, int64_t channel, auto& scratch)
                       MMBANET_INLINE_LAMBDA {
                         std::fill(scratch.slice.begin(), scratch.slice.end(), acc_t(0));
                         for (const auto& roi : image.rois) {
                           load_pixels(crops.at(roi.index, channel, 0), crops.block(channel),
                                       sizes.positions(), scratch.crop.data());
                           add_crop_gradient<decltype(target)>(roi, sizes, scratch);
                         }
                         for_rows(map, image, channel, sizes.width, scratch,
                                  [&](scalar_t* pixels, const acc_t* slice) MMBANET_INLINE_LAMBDA {
                                    store_pixels(slice, map.block(channel), image.box.columns(),
                                                 pixels);
                                  });
                       });
      });
  return output;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_align_impl, CPU, roi_align_cpu);
REGISTER_DEVICE_IMPL(roi_align_backward_impl, CPU, roi_align_backward_cpu);

}  // namespace mmbanet
