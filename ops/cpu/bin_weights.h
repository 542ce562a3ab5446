// One axis of RoIAlign: the pixels that each bin averages, and their weights.
//
// The sampling grid is regular, so the crop is A_y map A_x^T. A has a row for every bin, the mean
// of the bilinear weights of its samples, and few of its elements are not zero. Positions of
// samples are rounded as mmcv rounds them, in acc_t: the number of samples of a bin depends on
// that.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

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
struct BinWeights {
  struct Tap {
    int pixel;  // index into `pixels`
    acc_t weight;
  };

  const Tap* begin(int64_t bin) const { return taps.data() + bounds[bin]; }
  const Tap* end(int64_t bin) const { return taps.data() + bounds[bin + 1]; }

  std::vector<int> pixels;  // that any bin has, each once
  std::vector<Tap> taps;    // of all bins
  std::vector<int64_t> bounds;
};

// Collects the weights of a bin; reused for all RoIs.
class BinBuilder {
 public:
  explicit BinBuilder(int size) : weights_(size), slots_(size, -1) {}

  // Along an axis of `size` pixels.
  template <typename acc_t>
  BinWeights<acc_t> build(acc_t low, acc_t high, int64_t bins, const Sampling& sampling) {
    const auto scale = static_cast<acc_t>(sampling.spatial_scale);
    const auto offset = static_cast<acc_t>(sampling.aligned ? 0.5 : 0.0);
    const acc_t start = low * scale - offset;
    acc_t extent = high * scale - offset - start;
    if (!sampling.aligned) extent = std::max(extent, acc_t(1));
    BinWeights<acc_t> axis;
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
      take_taps(samples, axis);
      axis.bounds[bin + 1] = static_cast<int64_t>(axis.taps.size());
    }
    for (const int pixel : axis.pixels) slots_[pixel] = -1;
    return axis;
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
    if (fraction > 0) add(low + 1, fraction);
  }

  void add(int pixel, double weight) {
    if (weights_[pixel] == 0) touched_.push_back(pixel);
    weights_[pixel] += weight;
  }

  template <typename acc_t>
  void take_taps(int64_t samples, BinWeights<acc_t>& axis) {
    for (const int pixel : touched_) {
      if (slots_[pixel] < 0) {
        slots_[pixel] = static_cast<int>(axis.pixels.size());
        axis.pixels.push_back(pixel);
      }
      const double weight = weights_[pixel] / static_cast<double>(samples);
      axis.taps.push_back({slots_[pixel], static_cast<acc_t>(weight)});
      weights_[pixel] = 0;
    }
    touched_.clear();
  }

  std::vector<double> weights_;  // of the bin, 0 between bins
  std::vector<int> touched_;     // pixels with a weight
  std::vector<int> slots_;       // of the pixels in BinWeights::pixels, or -1
};

}  // namespace mmbanet
