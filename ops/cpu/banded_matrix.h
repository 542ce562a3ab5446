// Products of a row with a sparse interpolation matrix, in vector instructions without gathers.
//
// out[o] = sum over i of in[i] * M[i, o]. The outputs are handled kLanes at a time: neighbouring
// outputs need neighbouring inputs, so the few rows of M that touch a chunk of outputs are stored
// densely, [input][lane], and every multiplication is a broadcast input times a vector of weights.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "simd.h"

namespace mmbanet {

struct MatrixEntry {
  int in;
  int out;
  double weight;
};

template <typename acc_t>
class BandedMatrix {
 public:
  BandedMatrix(const std::vector<MatrixEntry>& entries, int outputs) {
    chunks_.resize((outputs + kLanes - 1) / kLanes);
    for (const auto& entry : entries) {
      if (entry.weight == 0) continue;
      Chunk& chunk = chunks_[entry.out / kLanes];
      chunk.begin = std::min(chunk.begin, entry.in);
      chunk.end = std::max(chunk.end, entry.in + 1);
    }
    size_t size = 0;
    for (auto& chunk : chunks_) {
      chunk.weights = size;
      if (chunk.end > chunk.begin) size += static_cast<size_t>(chunk.end - chunk.begin) * kLanes;
    }
    weights_.assign(size, 0);
    for (const auto& entry : entries) {
      if (entry.weight == 0) continue;
      const Chunk& chunk = chunks_[entry.out / kLanes];
      weights_[chunk.weights + static_cast<size_t>(entry.in - chunk.begin) * kLanes +
               entry.out % kLanes] += static_cast<acc_t>(entry.weight);
    }
  }

  // Outputs padded to whole chunks; padding is set to 0.
  int padded_outputs() const { return static_cast<int>(chunks_.size()) * kLanes; }

  // in: as many elements as there are inputs, out: padded_outputs() elements.
  MMBANET_INLINE void multiply(const acc_t* MMBANET_RESTRICT in,
                               acc_t* MMBANET_RESTRICT out) const {
    for (const Chunk& chunk : chunks_) {
      const acc_t* MMBANET_RESTRICT weights = weights_.data() + chunk.weights;
      Lanes<acc_t> sum = {};
      for (int i = chunk.begin; i < chunk.end; ++i, weights += kLanes) {
        sum += in[i] * lanes(weights);
      }
      lanes(out) = sum;
      out += kLanes;
    }
  }

  // The same for inputs that are not all finite: the zeros that multiply() stores would spread an
  // infinity or a NaN to outputs that do not depend on it.
  void multiply_nonfinite(const acc_t* in, acc_t* out) const {
    for (const Chunk& chunk : chunks_) {
      const acc_t* weights = weights_.data() + chunk.weights;
      std::fill(out, out + kLanes, acc_t(0));
      for (int i = chunk.begin; i < chunk.end; ++i, weights += kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) {
          if (weights[lane] != 0) out[lane] += in[i] * weights[lane];
        }
      }
      out += kLanes;
    }
  }

 private:
  struct Chunk {
    int begin = std::numeric_limits<int>::max();  // inputs begin <= i < end have weights
    int end = 0;
    size_t weights = 0;  // offset in weights_
  };

  std::vector<Chunk> chunks_;
  AlignedVector<acc_t> weights_;
};

}  // namespace mmbanet
