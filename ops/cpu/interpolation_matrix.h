// Products with a sparse interpolation matrix: out[o] = sum over i of in[i] * M[i, o].
//
// There is one class for each layout of memory. Both compute kLanes results at a time, a "chunk",
// and give the same bits: they add the products of an output in the order of its inputs, starting
// from 0. If there are many, four sums are kept, of the inputs i, i + 4, i + 8 and so on, since one
// long chain of additions would be slow.
#pragma once

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include "simd.h"

namespace mmbanet {

struct MatrixEntry {
  int in;
  int out;
  double weight;
};

// Entries that acc_t does not round to 0, by output, then by input.
template <typename acc_t>
std::vector<MatrixEntry> sorted_entries(std::vector<MatrixEntry> entries) {
  const auto is_zero = [](const MatrixEntry& entry) {
    return static_cast<acc_t>(entry.weight) == 0;
  };
  entries.erase(std::remove_if(entries.begin(), entries.end(), is_zero), entries.end());
  std::sort(entries.begin(), entries.end(), [](const MatrixEntry& a, const MatrixEntry& b) {
    return a.out != b.out ? a.out < b.out : a.in < b.in;
  });
  return entries;
}

constexpr int kSums = 4;

inline bool needs_sums(const std::vector<MatrixEntry>& sorted) {
  size_t begin = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].out != sorted[begin].out) begin = i;
    if (i - begin >= kSums) return true;
  }
  return false;
}

template <typename acc_t>
MMBANET_INLINE Lanes<acc_t> total(const Lanes<acc_t> (&sums)[kSums]) {
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// For elements that are neighbours in memory: a chunk is kLanes neighbouring outputs, which need
// neighbouring inputs. Without gathers there are two ways to bring inputs to lanes, and each chunk
// takes the cheaper one: multiply every input that any lane needs with a vector of weights, most of
// them 0 (a band of the matrix), or permute the inputs once for each tap that a lane has.
template <typename acc_t>
class PixelMatrix {
 public:
  // Elements after the last input that product() may read; their values do not matter.
  static constexpr int kPadding = 2 * kLanes;

  PixelMatrix(const std::vector<MatrixEntry>& unsorted, int outputs) {
    const auto entries = sorted_entries<acc_t>(unsorted);
    several_sums_ = needs_sums(entries);
    chunks_.resize((outputs + kLanes - 1) / kLanes);
    auto begin = entries.begin();
    for (size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
      const auto end = std::find_if(begin, entries.end(), [&](const MatrixEntry& entry) {
        return entry.out / kLanes != static_cast<int>(chunk);
      });
      if (begin != end) add_chunk(chunks_[chunk], &*begin, &*begin + (end - begin));
      begin = end;
    }
  }

  int64_t chunks() const { return static_cast<int64_t>(chunks_.size()); }

  // in: the inputs and kPadding more. Unless all of them are finite, `finite` must be false: the
  // zeros in a band would spread an infinity or a NaN to outputs that do not depend on it.
  template <typename Target>
  MMBANET_INLINE Lanes<acc_t> product(const acc_t* in, int64_t index, bool finite) const {
    const Chunk& chunk = chunks_[index];
    const acc_t* weights = weights_.data() + chunk.weights;
    if (!finite) return nonfinite_product(in + chunk.begin, chunk, weights);
    if constexpr (Target::kPermutes && std::is_same_v<acc_t, float>) {
      if (chunk.permuted) {
        const int* const sources = sources_.data() + chunk.weights;
        Lanes<acc_t> sum = {};
        for (int i = 0; i < chunk.steps; ++i) {
          sum += lanes(weights + i * kLanes) *
                 permute<Target>(in + chunk.begin, lanes(sources + i * kLanes));
        }
        return sum;
      }
    }
    if (several_sums_) return banded_sums(in + chunk.begin, chunk.steps, weights);
    Lanes<acc_t> sum = {};
    for (int i = 0; i < chunk.steps; ++i) {
      sum += in[chunk.begin + i] * lanes(weights + i * kLanes);
    }
    return sum;
  }

 private:
  // steps x kLanes weights and sources (inputs relative to `begin`).
  struct Chunk {
    int begin = 0;
    int steps = 0;
    bool permuted = false;
    size_t weights = 0;  // offset in weights_ and sources_
  };

  MMBANET_INLINE static Lanes<acc_t> banded_sums(const acc_t* in, int steps, const acc_t* weights) {
    Lanes<acc_t> sums[kSums] = {};
    int i = 0;
    for (; i + kSums <= steps; i += kSums) {
      for (int k = 0; k < kSums; ++k) sums[k] += in[i + k] * lanes(weights + (i + k) * kLanes);
    }
    for (int k = 0; i + k < steps; ++k) sums[k] += in[i + k] * lanes(weights + (i + k) * kLanes);
    return total<acc_t>(sums);
  }

  Lanes<acc_t> nonfinite_product(const acc_t* in, const Chunk& chunk, const acc_t* weights) const {
    const int* const sources = sources_.data() + chunk.weights;
    acc_t sums[kSums][kLanes] = {};
    for (int i = 0; i < chunk.steps; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const acc_t weight = weights[i * kLanes + lane];
        const int source = sources[i * kLanes + lane];
        if (weight != 0) sums[several_sums_ ? source % kSums : 0][lane] += weight * in[source];
      }
    }
    Lanes<acc_t> loaded[kSums];
    for (int k = 0; k < kSums; ++k) loaded[k] = lanes(static_cast<const acc_t*>(sums[k]));
    return several_sums_ ? total<acc_t>(loaded) : loaded[0];
  }

  void add_chunk(Chunk& chunk, const MatrixEntry* begin, const MatrixEntry* end) {
    const auto by_input = [](const MatrixEntry& a, const MatrixEntry& b) { return a.in < b.in; };
    chunk.begin = std::min_element(begin, end, by_input)->in;
    if (several_sums_) chunk.begin = chunk.begin / kSums * kSums;
    const int span = std::max_element(begin, end, by_input)->in + 1 - chunk.begin;
    int taps[kLanes] = {};
    for (auto entry = begin; entry != end; ++entry) ++taps[entry->out % kLanes];
    const int most_taps = *std::max_element(taps, taps + kLanes);
    chunk.permuted = std::is_same_v<acc_t, float> && has_permutes() && !several_sums_ &&
                     span <= 2 * kLanes && span > most_taps + 1;
    chunk.steps = chunk.permuted ? most_taps : span;
    chunk.weights = weights_.size();
    weights_.resize(chunk.weights + static_cast<size_t>(chunk.steps) * kLanes, 0);
    sources_.resize(weights_.size(), 0);
    int seen[kLanes] = {};
    for (auto entry = begin; entry != end; ++entry) {
      const int lane = entry->out % kLanes;
      const int step = chunk.permuted ? seen[lane]++ : entry->in - chunk.begin;
      const size_t at = chunk.weights + static_cast<size_t>(step) * kLanes + lane;
      weights_[at] = static_cast<acc_t>(entry->weight);
      sources_[at] = entry->in - chunk.begin;
    }
  }

  bool several_sums_ = false;
  std::vector<Chunk> chunks_;
  AlignedVector<acc_t> weights_;
  AlignedVector<int> sources_;
};

// For elements of several channels each: a chunk is kLanes channels of one output.
template <typename acc_t>
class ChannelMatrix {
 public:
  static constexpr int kPadding = 0;

  // An element is 2^shift chunks.
  ChannelMatrix(const std::vector<MatrixEntry>& unsorted, int outputs, int shift)
      : shift_(shift), ends_(static_cast<size_t>(outputs) + 1, 0) {
    const auto entries = sorted_entries<acc_t>(unsorted);
    several_sums_ = needs_sums(entries);
    for (const auto& entry : entries) {
      taps_.push_back({(static_cast<int64_t>(entry.in) << shift) * kLanes,
                       static_cast<acc_t>(entry.weight), entry.in % kSums});
      ++ends_[entry.out + 1];
    }
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
  }

  int64_t chunks() const { return static_cast<int64_t>(ends_.size() - 1) << shift_; }

  template <typename Target>
  MMBANET_INLINE Lanes<acc_t> product(const acc_t* in, int64_t index, bool /*finite*/) const {
    const int64_t out = index >> shift_;
    const acc_t* const channel = in + (index - (out << shift_)) * kLanes;
    const size_t begin = ends_[out], end = ends_[out + 1];
    Lanes<acc_t> sums[kSums] = {};
    if (!several_sums_ || begin == end) {
      for (size_t i = begin; i < end; ++i) {
        sums[0] += taps_[i].weight * lanes(channel + taps_[i].offset);
      }
      return sums[0];
    }
    for (int k = 0; k < kSums; ++k) {
      // The inputs of an output are neighbours.
      for (size_t i = begin + ((k - taps_[begin].sum) & (kSums - 1)); i < end; i += kSums) {
        sums[k] += taps_[i].weight * lanes(channel + taps_[i].offset);
      }
    }
    return total<acc_t>(sums);
  }

 private:
  struct Tap {
    int64_t offset;
    acc_t weight;
    int sum;
  };

  int shift_;
  bool several_sums_ = false;
  std::vector<size_t> ends_;  // taps_[ends_[out]] .. taps_[ends_[out + 1] - 1] are those of out
  std::vector<Tap> taps_;
};

}  // namespace mmbanet
