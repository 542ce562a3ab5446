// The non-zero parts of the rows of an interpolation matrix, and vectors to combine by them; needs
// no torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace mmbanet {

// What an output is made of: the inputs from the first to the last non-zero weight.
template <typename acc_t>
struct Window {
  int64_t begin, size;
  const acc_t* weights;

  int64_t end() const { return begin + size; }
};

template <typename acc_t>
class Windows {
 public:
  // matrix: (outputs, inputs), contiguous.
  Windows(const float* matrix, int64_t outputs, int64_t inputs) {
    places_.reserve(outputs);
    const auto is_zero = [](float weight) { return weight == 0; };
    for (int64_t i = 0; i < outputs; ++i) {
      const float *row = matrix + i * inputs, *row_end = row + inputs;
      const float* const begin = std::find_if_not(row, row_end, is_zero);
      while (row_end > begin && is_zero(row_end[-1])) --row_end;
      add(begin - row, begin, row_end);
    }
  }

  // Of the identity.
  explicit Windows(int64_t size) {
    const float one = 1;
    for (int64_t i = 0; i < size; ++i) add(i, &one, &one + 1);
  }

  int64_t count() const { return static_cast<int64_t>(places_.size()); }
  Window<acc_t> operator[](int64_t i) const {
    const Place& place = places_[i];
    return {place.begin, place.size, weights_.data() + place.first_weight};
  }

  int64_t largest() const { return largest_; }
  bool has_negative_weights() const {
    return std::any_of(weights_.begin(), weights_.end(), [](acc_t weight) { return weight < 0; });
  }
  // The inputs that any output is made of lie in begin <= i < end.
  int64_t begin() const { return std::min(begin_, end_); }
  int64_t end() const { return end_; }

 private:
  struct Place {
    int64_t begin, size, first_weight;
  };

  void add(int64_t begin, const float* weights, const float* weights_end) {
    const int64_t size = weights_end - weights;
    places_.push_back({begin, size, static_cast<int64_t>(weights_.size())});
    weights_.insert(weights_.end(), weights, weights_end);
    if (size == 0) return;
    largest_ = std::max(largest_, size);
    begin_ = std::min(begin_, begin);
    end_ = std::max(end_, begin + size);
  }

  std::vector<Place> places_;
  std::vector<acc_t> weights_;
  int64_t largest_ = 0;
  int64_t begin_ = INT64_MAX, end_ = 0;
};

// Vectors to add up, one for each weight of a window. kSize: their number, 0 if it is not known.
template <typename acc_t, int kSize>
struct Taps {
  static constexpr int64_t size = kSize;
  const acc_t* from[kSize];
  acc_t weights[kSize];

  MMBANET_INLINE Taps(const acc_t* const* vectors, const Window<acc_t>& window) {
    std::copy_n(vectors, kSize, from);
    std::copy_n(window.weights, kSize, weights);
  }
};

template <typename acc_t>
struct Taps<acc_t, 0> {
  int64_t size;
  const acc_t* const* from;
  const acc_t* weights;

  MMBANET_INLINE Taps(const acc_t* const* vectors, const Window<acc_t>& window)
      : size(window.size), from(vectors), weights(window.weights) {}
};

// Calls body(taps) for a window that is not empty. Usual sizes are known to the compiler.
template <typename acc_t, typename Body>
MMBANET_INLINE void with_taps(const acc_t* const* vectors, const Window<acc_t>& window,
                              const Body& body) {
  switch (window.size) {
    case 1:
      return body(Taps<acc_t, 1>(vectors, window));
    case 2:
      return body(Taps<acc_t, 2>(vectors, window));
    case 3:
      return body(Taps<acc_t, 3>(vectors, window));
    case 4:
      return body(Taps<acc_t, 4>(vectors, window));
    default:
      return body(Taps<acc_t, 0>(vectors, window));
  }
}

}  // namespace mmbanet
