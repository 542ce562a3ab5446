// resized_argmax on the CPU.
//
// The interpolation is separable. Work is split over rows of the output. A thread copies the rows
// of the logits that it needs to scratch memory, channels last. A channel that is the largest of
// all pixels which one is made of is the largest of that one, too: inside of segments, which is
// nearly everywhere, nothing is combined. Elsewhere the rows are, just before a pixel needs it, and
// then their columns, for a vector of channels at a time. No map of all channels is made.
//
// Without interpolation, the planes of the channels are compared in tiles that stay in the cache.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "../mmbanet_ops.h"
#include "running_max.h"
#include "simd.h"
#include "source_rows.h"
#include "windows.h"

namespace mmbanet {
namespace {

// The largest values of so many pixels, and their channels, stay in the nearest cache.
template <typename acc_t>
constexpr int64_t kTilePixels = 8192 / sizeof(acc_t);

// Elements of the sum, as many as Values has, from `offset` on.
template <typename Values, typename acc_t, int kSize>
MMBANET_INLINE Values weighted_sum(const Taps<acc_t, kSize>& taps, int64_t offset) {
  Values sum = taps.weights[0] * load_vector<Values, acc_t>(taps.from[0] + offset);
  for (int64_t k = 1; k < taps.size; ++k) {
    sum += taps.weights[k] * load_vector<Values, acc_t>(taps.from[k] + offset);
  }
  return sum;
}

// The channels of one pixel of a row: the weighted sum of those of several rows, from `offset` on.
template <typename Values, typename acc_t>
MMBANET_INLINE void combine_rows(const acc_t* const* rows, const Window<acc_t>& window,
                                 int64_t offset, int64_t pixel_size, acc_t* to) {
  constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);
  with_taps(rows, window, [&](const auto& taps) MMBANET_INLINE_LAMBDA {
    for (int64_t c = 0; c < pixel_size; c += kCount) {
      store_vector(weighted_sum<Values>(taps, offset + c), to + c);
    }
  });
}

// The channel of the largest weighted sum of several pixels.
template <typename Max, typename acc_t>
MMBANET_INLINE int32_t argmax_of_sum(const acc_t* const* pixels, const Window<acc_t>& window,
                                     int64_t pixel_size) {
  Max max(pixel_size);
  with_taps(pixels, window, [&](const auto& taps) MMBANET_INLINE_LAMBDA {
    for (int64_t c = pixel_size - Max::kCount; c >= 0; c -= Max::kCount) {
      max.offer_previous(weighted_sum<typename Max::Values>(taps, c));
    }
  });
  return max.channel();
}

// Rows begin .. end - 1 of the output.
template <typename Target, typename scalar_t, typename acc_t>
MMBANET_INLINE void argmax_rows(const Logits<scalar_t>& logits, const Windows<acc_t>& rows,
                                const Windows<acc_t>& columns, int64_t begin, int64_t end,
                                int32_t* output) {
  using Max = ChannelMax<acc_t, Target>;
  constexpr int32_t kSeveral = -1;
  const bool is_average = !rows.has_negative_weights() && !columns.has_negative_weights();
  const int64_t first_column = columns.begin();
  SourceRows<scalar_t, Target> source(logits, rows.largest(), first_column, columns.end());
  const int64_t pixel_size = source.pixel_size();
  std::vector<const acc_t*> source_rows(rows.largest());
  AlignedVector<acc_t> combined(source.row_size());
  std::vector<const acc_t*> pixels;
  for (int64_t i = 0; i < source.row_size(); i += pixel_size) pixels.push_back(&combined[i]);
  // By column: the channel that is the largest in all rows, and the output row it was combined for.
  std::vector<int32_t> largest(pixels.size());
  std::vector<int64_t> combined_for(pixels.size(), -1);

  for (int64_t p = begin; p < end; ++p) {
    const auto row = rows[p];
    for (int64_t k = 0; k < row.size; ++k) {
      const auto [of_row, argmax] = source.row(row.begin + k);
      source_rows[k] = of_row;
      for (size_t j = 0; j < largest.size(); ++j) {
        if (k == 0) largest[j] = is_average ? argmax[j] : kSeveral;
        if (largest[j] != argmax[j]) largest[j] = kSeveral;
      }
    }
    for (int64_t q = 0; q < columns.count(); ++q) {
      int32_t& channel = output[p * columns.count() + q];
      const auto column = columns[q];
      const int64_t first = column.begin - first_column, last = first + column.size - 1;
      if (row.size == 0 || column.size == 0) {
        channel = 0;
        continue;
      }
      channel = largest[first];
      for (int64_t j = first + 1; j <= last; ++j) {
        if (largest[j] != channel) channel = kSeveral;
      }
      if (channel != kSeveral) continue;
      for (int64_t j = first; j <= last; ++j) {
        if (combined_for[j] == p) continue;
        combine_rows<typename Max::Values>(source_rows.data(), row, j * pixel_size, pixel_size,
                                           &combined[j * pixel_size]);
        combined_for[j] = p;
      }
      channel = argmax_of_sum<Max>(&pixels[first], column, pixel_size);
    }
  }
}

// `size` neighbouring pixels without interpolation.
template <typename Target, typename scalar_t>
MMBANET_INLINE void argmax_tile(const Logits<scalar_t>& logits, const scalar_t* from, int size,
                                int32_t* output) {
  using acc_t = at::opmath_type<scalar_t>;
  using Channel = IntOf<acc_t>;
  using Values = Vector<acc_t, Target>;
  using Channels = Vector<Channel, Target>;
  constexpr int kCount = sizeof(Values) / sizeof(acc_t);
  alignas(64) acc_t best[kTilePixels<acc_t>];
  alignas(64) Channel best_channel[kTilePixels<acc_t>];
  std::fill_n(best, size, -std::numeric_limits<acc_t>::infinity());
  std::fill_n(best_channel, size, Channel(0));
  for (int64_t c = logits.channels - 1; c >= 0; --c) {
    const scalar_t* const plane = from + c * logits.channel_stride;
    const Channels channels = Channels{} + Channel(c);
    int q = 0;
    for (; q + kCount <= size; q += kCount) {
      auto values = load_vector<Values, acc_t>(best + q);
      auto numbers = load_vector<Channels, Channel>(best_channel + q);
      offer(load_vector<Values, acc_t>(plane + q), channels, values, numbers);
      store_vector(values, best + q);
      store_vector(numbers, best_channel + q);
    }
    for (; q < size; ++q) {
      offer(static_cast<acc_t>(plane[q]), Channel(c), best[q], best_channel[q]);
    }
  }
  for (int q = 0; q < size; ++q) output[q] = static_cast<int32_t>(best_channel[q]);
}

template <typename scalar_t>
void argmax_planes(const Logits<scalar_t>& logits, int64_t height, int64_t width, int32_t* output) {
  constexpr int64_t kTile = kTilePixels<at::opmath_type<scalar_t>>;
  if (logits.row_stride == width) {
    width *= height;
    height = 1;
  }
  const int64_t row_tiles = (width + kTile - 1) / kTile;
  at::parallel_for(0, height * row_tiles, 1, [&](int64_t begin, int64_t end) {
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t row = tile / row_tiles, column = tile % row_tiles * kTile;
        argmax_tile<decltype(target)>(logits, logits.begin + row * logits.row_stride + column,
                                      static_cast<int>(std::min(kTile, width - column)),
                                      output + row * width + column);
      }
    });
  });
}

template <typename acc_t>
Windows<acc_t> windows_of(const std::optional<Tensor>& matrix, int64_t size) {
  if (!matrix) return Windows<acc_t>(size);
  return Windows<acc_t>(matrix->const_data_ptr<float>(), matrix->size(0), matrix->size(1));
}

}  // namespace

Tensor resized_argmax_cpu(const Tensor& logits, const std::optional<Tensor>& row_matrix,
                          const std::optional<Tensor>& column_matrix) {
  const int64_t height = row_matrix ? row_matrix->size(0) : logits.size(1);
  const int64_t width = column_matrix ? column_matrix->size(0) : logits.size(2);
  Tensor output = at::empty({height, width}, logits.options().dtype(at::kInt));
  if (output.numel() == 0) return output;
  auto* const to = output.mutable_data_ptr<int32_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "resized_argmax", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        const Logits<scalar_t> from = {logits.const_data_ptr<scalar_t>(), logits.size(0),
                                       logits.stride(0), logits.stride(1), logits.stride(2)};
        if (!row_matrix && !column_matrix && from.column_stride == 1) {
          return argmax_planes(from, height, width, to);
        }
        const auto rows = windows_of<acc_t>(row_matrix, height);
        const auto columns = windows_of<acc_t>(column_matrix, width);
        at::parallel_for(0, height, 1, [&](int64_t begin, int64_t end) {
          run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
            argmax_rows<decltype(target)>(from, rows, columns, begin, end, to);
          });
        });
      });
  return output;
}

}  // namespace mmbanet
