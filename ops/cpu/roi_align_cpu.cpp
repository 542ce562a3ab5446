// RoIAlign with average pooling on the CPU, forward and backward: mmcv's, with threads, and with
// work in proportion to a RoI's pixels instead of its samples.
//
// A task is a block of channels of an image: it copies that slice of the map to scratch memory,
// where the RoIs find it in the cache. Every element of a result has one writer, which goes through
// the RoIs in order, so the result does not depend on the number of threads.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../mmbanet_ops.h"
#include "bin_weights.h"
#include "channel_slice.h"
#include "running_max.h"
#include "simd.h"

namespace mmbanet {
namespace {

// Columns that are summed side by side.
constexpr int64_t kColumns = 4;

// One RoI of an image. Offsets are in elements of the slice.
template <typename acc_t>
struct SampledRoi {
  int64_t index;
  BinWeights<acc_t> rows, columns;
  std::vector<int64_t> row_offsets, column_offsets;  // of rows.pixels and columns.pixels
};

// The RoIs of an image, and the pixels that they sample.
template <typename acc_t>
struct SampledImage {
  std::vector<SampledRoi<acc_t>> rois;
  PixelBox box;
};

// Sizes of the crops and of the map.
struct Sizes {
  int64_t crop_height, crop_width;
  int height, width;

  int64_t positions() const { return crop_height * crop_width; }
  int64_t pixels() const { return static_cast<int64_t>(height) * width; }
};

void extend(const std::vector<int>& pixels, int& begin, int& end) {
  for (const int pixel : pixels) {
    begin = std::min(begin, pixel);
    end = std::max(end, pixel + 1);
  }
}

// rois: float64 (K, 5) with valid image indices.
template <typename acc_t>
std::vector<SampledImage<acc_t>> sample_images(const Tensor& rois, int64_t batch_size,
                                               const Sizes& sizes, const Sampling& sampling) {
  std::vector<SampledImage<acc_t>> images(batch_size);
  for (auto& image : images) image.box = {sizes.height, 0, sizes.width, 0};
  BinBuilder row_builder(sizes.height), column_builder(sizes.width);
  const double* const boxes = rois.const_data_ptr<double>();
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double* const box = boxes + k * 5;
    const auto side = [&](int i) { return static_cast<acc_t>(box[i]); };
    SampledRoi<acc_t> roi;
    roi.index = k;
    roi.rows = row_builder.build(side(2), side(4), sizes.crop_height, sampling);
    roi.columns = column_builder.build(side(1), side(3), sizes.crop_width, sampling);
    auto& image = images[static_cast<int64_t>(box[0])];
    if (!roi.rows.pixels.empty() && !roi.columns.pixels.empty()) {
      extend(roi.rows.pixels, image.box.row_begin, image.box.row_end);
      extend(roi.columns.pixels, image.box.column_begin, image.box.column_end);
    }
    image.rois.push_back(std::move(roi));
  }
  for (auto& image : images) {
    for (auto& roi : image.rois) {
      for (const int row : roi.rows.pixels) {
        roi.row_offsets.push_back((row - image.box.row_begin) * image.box.columns() * kLanes);
      }
      for (const int column : roi.columns.pixels) {
        roi.column_offsets.push_back((column - image.box.column_begin) * kLanes);
      }
    }
  }
  return images;
}

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

// Calls body(target, image, first channel, scratch) for every block of channels of every image.
template <typename acc_t, typename Body>
void for_blocks(const std::vector<SampledImage<acc_t>>& images, int64_t channels,
                const Sizes& sizes, const Body& body) {
  const int64_t blocks = (channels + kLanes - 1) / kLanes;
  const auto tasks = static_cast<int64_t>(images.size()) * blocks;
  at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    Scratch<acc_t> scratch(sizes);
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t task = begin; task < end; ++task) {
        const PixelBox& box = images[task / blocks].box;
        if (box.rows() > 0) scratch.slice.resize(box.rows() * box.columns() * kLanes);
        body(target, task / blocks, task % blocks * kLanes, scratch);
      }
    });
  });
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
    const auto images =
        sample_images<acc_t>(rois, input.size(0), sizes, {spatial_scale, sampling_ratio, aligned});
    const Planes<const scalar_t> map(input, input.const_data_ptr<scalar_t>());
    const Planes<scalar_t> crops(output, output.mutable_data_ptr<scalar_t>());
    for_blocks(
        images, map.channels, sizes,
        [&](auto target, int64_t n, int64_t channel, Scratch<acc_t>& scratch)
            MMBANET_INLINE_LAMBDA {
              const auto& image = images[n];
              const PixelBox& box = image.box;
              for (int row = box.row_begin; row < box.row_end; ++row) {
                load_pixels(
                    map.at(n, channel, static_cast<int64_t>(row) * sizes.width + box.column_begin),
                    map.block(channel), box.columns(),
                    scratch.slice.data() + (row - box.row_begin) * box.columns() * kLanes);
              }
              for (const auto& roi : image.rois) {
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
        const auto images =
            sample_images<acc_t>(rois, batch_size, sizes, {spatial_scale, sampling_ratio, aligned});
        const Planes<const scalar_t> crops(grad, grad.const_data_ptr<scalar_t>());
        const Planes<scalar_t> map(output, output.mutable_data_ptr<scalar_t>());
        for_blocks(
            images, map.channels, sizes,
            [&](auto target, int64_t n, int64_t channel,
                Scratch<acc_t>& scratch) MMBANET_INLINE_LAMBDA {
              const auto& image = images[n];
              const PixelBox& box = image.box;
              std::fill(scratch.slice.begin(), scratch.slice.end(), acc_t(0));
              for (const auto& roi : image.rois) {
                load_pixels(crops.at(roi.index, channel, 0), crops.block(channel),
                            sizes.positions(), scratch.crop.data());
                add_crop_gradient<decltype(target)>(roi, sizes, scratch);
              }
              for (int row = box.row_begin; row < box.row_end; ++row) {
                store_pixels(
                    scratch.slice.data() + (row - box.row_begin) * box.columns() * kLanes,
                    map.block(channel), box.columns(),
                    map.at(n, channel, static_cast<int64_t>(row) * sizes.width + box.column_begin));
              }
            });
      });
  return output;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_align_impl, CPU, roi_align_cpu);
REGISTER_DEVICE_IMPL(roi_align_backward_impl, CPU, roi_align_backward_cpu);

}  // namespace mmbanet
