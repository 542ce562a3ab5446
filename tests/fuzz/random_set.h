// A random set of arguments for the operators: a function of its seed alone.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

namespace fuzz {

using at::Tensor;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Random {
 public:
  explicit Random(uint64_t seed)
      : engine_(seed), generator_(at::make_generator<at::CPUGeneratorImpl>(seed)) {}

  // Both ends are included.
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }
  double uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(engine_);
  }
  bool chance(double probability) { return uniform(0, 1) < probability; }
  template <typename T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[integer(0, static_cast<int64_t>(values.size()) - 1)];
  }
  at::Generator& for_tensors() { return generator_; }

 private:
  std::mt19937_64 engine_;
  at::Generator generator_;
};

struct RandomSet {
  Tensor input;  // (K, C, h, w)
  Tensor grad;   // (N, C, H, W)
  Tensor rois;   // (K, 5)
  double spatial_scale;
  bool aligned;
  bool mean;
  int64_t sampling_ratio;
  std::optional<Tensor> rows, columns;  // (.., H) and (.., W): resize the maps; none: they do not
  bool finite;                          // no NaN and no infinity in `input` and `grad`
  std::optional<int64_t> bad_roi;       // the first RoI whose image index is outside [0, N)
};

struct Sizes {
  int64_t rois, channels, crop_height, crop_width, batch_size, height, width;
};

inline Sizes draw_sizes(Random& random) {
  const auto size = [&](int64_t usual, int64_t rare) {
    return random.integer(1, random.chance(0.1) ? rare : usual);
  };
  const auto size_or_none = [&](int64_t usual, int64_t rare) {
    return random.chance(0.02) ? 0 : size(usual, rare);
  };
  Sizes sizes{size_or_none(20, 150), size_or_none(20, 150), size(12, 40),        size(12, 40),
              size_or_none(3, 3),    size_or_none(35, 70),  size_or_none(35, 70)};
  if (random.chance(0.01)) {  // larger than what the CPU kernels process at a time
    using Map = std::pair<int64_t, int64_t>;
    Map map = random.pick({Map(200, 190), Map(1, 40000), Map(40000, 1), Map(2, 33000)});
    if (random.chance(0.03)) map = {3000, 3000};  // allocated in another way
    std::tie(sizes.height, sizes.width) = map;
    sizes.channels = std::min<int64_t>(sizes.channels, 2);
    sizes.batch_size = std::min<int64_t>(sizes.batch_size, 1);
  }
  // The rare sizes together would take seconds.
  const int64_t crops = std::max<int64_t>(1, sizes.rois * sizes.crop_height * sizes.crop_width);
  sizes.channels = std::min(sizes.channels, std::max<int64_t>(1, 200000 / crops));
  return sizes;
}

// The same values in a random memory layout. Memory between and before them is NaN, so that a
// kernel that reads it gives itself away.
inline Tensor in_random_layout(const Tensor& values, Random& random) {
  const auto options = values.options();
  const auto format = random.pick({at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast});
  const int64_t n = values.size(0), c = values.size(1), h = values.size(2), w = values.size(3);
  Tensor view;
  switch (random.integer(0, 9)) {
    case 0: {  // starts where no vector is aligned
      const Tensor dense = values.contiguous(format);
      view = at::full({values.numel() + 1}, kNaN, options)
                 .as_strided(dense.sizes(), dense.strides(), 1);
      break;
    }
    case 1:  // part of a larger tensor
      view = at::empty({n, c + 3, h + 1, w + 2}, options, format)
                 .fill_(kNaN)
                 .slice(1, 2, 2 + c)
                 .slice(2, 1, 1 + h)
                 .slice(3, 1, 1 + w);
      break;
    case 2:  // every second column
      view = at::empty({n, c, h, 2 * w}, options, format).fill_(kNaN).slice(3, 0, 2 * w, 2);
      break;
    case 3:  // dimensions in an unusual order
      view = at::empty({h, n, w, c}, options).permute({1, 3, 0, 2});
      break;
    default:
      view = at::empty(values.sizes(), options, format);
  }
  return view.copy_(values);
}

inline Tensor draw_features(at::IntArrayRef shape, at::ScalarType dtype, bool finite,
                            Random& random) {
  Tensor values = at::empty(shape, dtype);
  values.uniform_(random.pick({-1.0, 0.0}), 1, random.for_tensors());
  values.mul_(random.pick({1e-30, 1.0, 1e4}));
  if (!finite && values.numel() > 0) {
    for (int64_t i = random.integer(1, 5); i > 0; --i) {
      const int64_t position = random.integer(0, values.numel() - 1);
      values.view(-1)[position].fill_(random.pick({kNaN, kInfinity, -kInfinity}));
    }
  }
  return in_random_layout(values, random);
}

// Writes x1, y1, x2, y2.
inline void draw_box(const Sizes& sizes, double spatial_scale, double* box, Random& random) {
  const auto power_of_ten = [&](double low, double high) {
    return std::pow(10.0, random.uniform(low, high));
  };
  const int64_t kind = random.integer(0, 9);
  const double far = kind == 0 ? random.pick({-1, 1}) * power_of_ten(2, 12) : 0;
  for (int axis = 0; axis < 2; ++axis) {
    const double pixels = static_cast<double>(axis == 0 ? sizes.width : sizes.height);
    const double start = random.uniform(-0.5, 1.2) * pixels + far;
    double side = power_of_ten(-1, 2);
    if (kind == 1) side = power_of_ten(-15, -2);
    if (kind == 2) side = random.pick({0.0, -1.0, -pixels});
    if (kind == 3) side = power_of_ten(2, 12);
    box[axis] = start / spatial_scale;
    box[axis + 2] = (start + side) / spatial_scale;
    if (kind == 4 || kind == 5) {  // edges on pixels
      box[axis] = std::round(start) / spatial_scale;
      box[axis + 2] = std::round(start + side) / spatial_scale;
    }
  }
  if (kind != 6) return;
  for (int i = 0; i < 4; ++i) {
    constexpr double kFloatMax = std::numeric_limits<float>::max();
    constexpr double kDoubleMax = std::numeric_limits<double>::max();
    if (random.chance(0.5)) {
      box[i] = random.pick({0.0, -0.0, kNaN, kInfinity, -kInfinity, 1e30, -1e30, kFloatMax,
                            -kFloatMax, kDoubleMax, -kDoubleMax, 2147483647.0, -2147483648.0,
                            9.3e18, -9.3e18, 1e-40, -1e-40, 5e-324});
    }
  }
}

inline Tensor draw_rois(const Sizes& sizes, double spatial_scale, Random& random) {
  Tensor rois = at::empty({sizes.rois, 5}, at::kDouble);
  double* const values = rois.data_ptr<double>();
  const double batch_size = static_cast<double>(sizes.batch_size);
  for (int64_t k = 0; k < sizes.rois; ++k) {
    double* const roi = values + k * 5;
    roi[0] = static_cast<double>(random.integer(0, std::max<int64_t>(0, sizes.batch_size - 1)));
    draw_box(sizes, spatial_scale, roi + 1, random);
    if (k > 0 && random.chance(0.2)) {
      std::copy_n(values + random.integer(0, k - 1) * 5, 5, roi);
    }
  }
  if (sizes.rois > 0 && random.chance(0.15)) {
    for (int64_t i = random.integer(1, 3); i > 0; --i) {
      values[random.integer(0, sizes.rois - 1) * 5] =
          random.pick({-1.0, -0.5, -1e-40, batch_size, batch_size + 1, 2147483648.0, 9.3e18, 1e30,
                       -1e30, kNaN, kInfinity, -kInfinity});
    }
  }
  rois = rois.to(random.pick({at::kFloat, at::kDouble}));
  switch (random.integer(0, 3)) {
    case 0:
      return at::full({sizes.rois, 7}, kNaN, rois.options()).slice(1, 1, 6).copy_(rois);
    case 1:
      return rois.t().contiguous().t();
    default:
      return rois;
  }
}

inline std::optional<int64_t> first_bad_roi(const Tensor& rois, int64_t batch_size) {
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double image = rois[k][0].item<double>();
    if (!(image >= 0 && image < static_cast<double>(batch_size))) return k;
  }
  return std::nullopt;
}

// Weights in a band that may leave the matrix, or none.
inline std::optional<Tensor> draw_matrix(int64_t size, Random& random) {
  if (random.chance(0.3)) return std::nullopt;
  const int64_t begin = random.integer(-9, size);
  return at::randn({random.integer(0, 40), size}, random.for_tensors())
      .triu(begin)
      .tril(begin + random.integer(-1, 8));
}

inline RandomSet draw_set(uint64_t seed) {
  Random random(seed);
  const Sizes sizes = draw_sizes(random);
  RandomSet set;
  set.spatial_scale = random.chance(0.03) ? random.pick({5e-324, 1e-300, 1e-30, 1e30, 1e300})
                                          : random.pick({1.0, 0.5, 0.25, 0.0625, 0.3, 7.3});
  set.aligned = random.chance(0.5);
  set.mean = random.chance(0.5);
  set.finite = random.chance(0.8);
  set.rois = draw_rois(sizes, set.spatial_scale, random);
  set.bad_roi = first_bad_roi(set.rois, sizes.batch_size);
  const auto dtype = random.pick({at::kFloat, at::kDouble, at::kHalf, at::kBFloat16});
  set.input = draw_features({sizes.rois, sizes.channels, sizes.crop_height, sizes.crop_width},
                            dtype, set.finite, random);
  set.grad = draw_features({sizes.batch_size, sizes.channels, sizes.height, sizes.width}, dtype,
                           set.finite, random);
  set.rows = draw_matrix(sizes.height, random);
  set.columns = draw_matrix(sizes.width, random);
  set.sampling_ratio = random.pick({-1, 0, 0, 1, 2, 5});
  return set;
}

}  // namespace fuzz
