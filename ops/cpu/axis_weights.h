// One axis of a RoI as a sparse matrix A: a row for each row (or column) of the crop, which names
// the pixels of the map that belong to it, and their weights.
//
// All operators are separable. RoIAlign and the backward passes of the others gather: the crop is
// A_y map A_x^T. RoIAlign's backward pass, RoIUpsample and RoIInlay scatter: the map is the sum of
// A_y^T crop A_x over RoIs. A change of a sampling rule is a change of the function that builds A.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "../roi_geometry.h"

namespace mmbanet {

// RoIs larger than this many pixels of the map, and NaN, have no samples.
constexpr double kLargestRoi = 1e9;

// How RoIAlign samples along an axis.
struct Sampling {
  double spatial_scale;
  int64_t samples;  // of a bin; if not positive, as many as the bin has pixels, rounded up
  bool aligned;
};

template <typename acc_t>
struct AxisWeights {
  struct Tap {
    int pixel;  // index into `pixels`
    acc_t weight;
  };

  const Tap* begin(int64_t point) const { return taps.data() + bounds[point]; }
  const Tap* end(int64_t point) const { return taps.data() + bounds[point + 1]; }

  // The same as a row for each of `pixels`, whose taps are points of the crop.
  AxisWeights transposed() const {
    AxisWeights result;
    result.bounds.assign(pixels.size() + 1, 0);
    for (const Tap& tap : taps) ++result.bounds[tap.pixel + 1];
    std::partial_sum(result.bounds.begin(), result.bounds.end(), result.bounds.begin());
    result.taps.resize(taps.size());
    auto next = result.bounds;
    for (size_t point = 0; point + 1 < bounds.size(); ++point) {
      for (auto tap = begin(point); tap != end(point); ++tap) {
        result.taps[next[tap->pixel]++] = {static_cast<int>(point), tap->weight};
      }
    }
    return result;
  }

  std::vector<int> pixels;  // that any point of the crop has, each once
  std::vector<Tap> taps;    // of all points
  std::vector<int64_t> bounds;
};

// Makes the weights of one axis after another, of as many pixels.
class WeightsBuilder {
 public:
  explicit WeightsBuilder(int size) : weights_(size), slots_(size, -1) {}

  // RoIAlign: a bin averages the bilinear weights of its samples. Positions of samples are rounded
  // as mmcv rounds them, in acc_t: the number of samples of a bin depends on that.
  template <typename acc_t>
  AxisWeights<acc_t> align(acc_t low, acc_t high, int64_t bins, const Sampling& sampling) {
    const auto scale = static_cast<acc_t>(sampling.spatial_scale);
    const auto offset = static_cast<acc_t>(sampling.aligned ? 0.5 : 0.0);
    const acc_t start = low * scale - offset;
    acc_t extent = high * scale - offset - start;
    if (!sampling.aligned) extent = std::max(extent, acc_t(1));
    AxisWeights<acc_t> axis;
    axis.bounds.assign(bins + 1, 0);
    if (!(std::abs(extent) <= kLargestRoi && std::abs(start) <= kLargestRoi)) return axis;

    const acc_t bin_size = extent / static_cast<acc_t>(bins);
    const bool adaptive = sampling.samples <= 0;
    const auto samples =
        adaptive ? static_cast<int64_t>(std::ceil(static_cast<float>(bin_size))) : sampling.samples;
    for (int64_t bin = 0; bin < bins; ++bin) {
      const acc_t bin_start = start + static_cast<acc_t>(bin) * bin_size;
      const auto [first, last] =
          adaptive ? samples_on_map(bin_start, bin_size, samples) : std::pair(int64_t(0), samples);
      for (int64_t i = first; i < last; ++i) {
        add_sample(bin_start +
                   (static_cast<acc_t>(i) + acc_t(0.5)) * bin_size / static_cast<acc_t>(samples));
      }
      take_taps(bin, samples, axis);
    }
    return finish(std::move(axis));
  }

  // RoIInlay: a pixel is interpolated from the two points between which it lies.
  template <typename acc_t>
  AxisWeights<acc_t> inlay(const Axis& roi, int points) {
    AxisWeights<acc_t> axis;
    axis.bounds.assign(points + 1, 0);
    int first = roi.begin;
    for (int point = 0; point < points; ++point) {
      for (int p = first; p < roi.end; ++p) {
        const mmbanet::Tap tap = tap_at(roi, p, points);
        if (tap.low > point) break;
        if (tap.low + 1 < point) {
          first = p + 1;
        } else {
          add(p, tap.low == point ? 1 - tap.fraction : tap.fraction);
        }
      }
      take_taps(point, 1, axis);
    }
    return finish(std::move(axis));
  }

  // RoIUpsample: a point reaches the two pixels nearest to it.
  template <typename acc_t>
  AxisWeights<acc_t> upsample(const Axis& roi, int points) {
    AxisWeights<acc_t> axis;
    axis.bounds.assign(points + 1, 0);
    for (int point = 0; point < points; ++point) {
      const Splat splat = splat_at(roi, point, points, size());
      add(splat.low, splat.weight_low);
      add(splat.low + 1, splat.weight_high);
      take_taps(point, 1, axis);
    }
    return finish(std::move(axis));
  }

 private:
  int size() const { return static_cast<int>(weights_.size()); }

  // Samples that may be on the map, and some more since positions are rounded: the others of a huge
  // RoI are skipped.
  std::pair<int64_t, int64_t> samples_on_map(double start, double bin_size, int64_t samples) const {
    if (samples <= 1) return {0, samples};
    const double step = bin_size / static_cast<double>(samples);
    const double margin = 2 + 1e-6 * (std::abs(start) + bin_size) / step;
    const auto limit = static_cast<double>(samples);
    const double first = (-1 - start) / step - margin, last = (size() - start) / step + margin;
    return {static_cast<int64_t>(std::clamp(first, 0.0, limit)),
            static_cast<int64_t>(std::clamp(last, 0.0, limit))};
  }

  // Samples up to a pixel outside of the map count as if on its edge, those farther out as 0.
  template <typename acc_t>
  void add_sample(acc_t position) {
    if (!(position >= -1 && position <= size())) return;
    position = std::max(position, acc_t(0));
    const int low = std::min(static_cast<int>(position), size() - 1);
    const acc_t fraction = low == size() - 1 ? acc_t(0) : position - static_cast<acc_t>(low);
    add(low, acc_t(1) - fraction);
    add(low + 1, fraction);
  }

  void add(int pixel, double weight) {
    if (weight == 0) return;
    if (weights_[pixel] == 0) touched_.push_back(pixel);
    weights_[pixel] += weight;
  }

  template <typename acc_t>
  void take_taps(int64_t point, int64_t samples, AxisWeights<acc_t>& axis) {
    for (const int pixel : touched_) {
      const auto weight = static_cast<acc_t>(weights_[pixel] / static_cast<double>(samples));
      weights_[pixel] = 0;
      if (weight == 0) continue;  // it would spread infinity and NaN
      if (slots_[pixel] < 0) {
        slots_[pixel] = static_cast<int>(axis.pixels.size());
        axis.pixels.push_back(pixel);
      }
      axis.taps.push_back({slots_[pixel], weight});
    }
    touched_.clear();
    axis.bounds[point + 1] = static_cast<int64_t>(axis.taps.size());
  }

  template <typename acc_t>
  AxisWeights<acc_t> finish(AxisWeights<acc_t>&& axis) {
    for (const int pixel : axis.pixels) slots_[pixel] = -1;
    return std::move(axis);
  }

  std::vector<double> weights_;  // of the point, 0 between points
  std::vector<int> touched_;     // pixels with a weight
  std::vector<int> slots_;       // of the pixels in AxisWeights::pixels, or -1
};

}  // namespace mmbanet
