// What has to hold for the operators' results. A check that fails throws std::runtime_error.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "operators.h"
#include "random_set.h"

namespace fuzz {

template <typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline double epsilon(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return std::numeric_limits<double>::epsilon();
    case at::kFloat:
      return std::numeric_limits<float>::epsilon();
    case at::kHalf:
      return std::numeric_limits<at::Half>::epsilon();
    default:
      return std::numeric_limits<at::BFloat16>::epsilon();
  }
}

inline double largest(at::ScalarType dtype) {
  if (dtype == at::kDouble) return std::numeric_limits<double>::max();
  return dtype == at::kHalf ? 65504.0 : 3.3e38;
}

// The halves accumulate in float32.
inline double accumulation_epsilon(at::ScalarType dtype) {
  return epsilon(dtype == at::kDouble ? at::kDouble : at::kFloat);
}

inline double largest_magnitude(const Tensor& tensor) {
  return tensor.numel() == 0 ? 0 : tensor.abs().max().item<double>();
}

inline void check_raises(const Operator& op, const RandomSet& set) {
  const std::string expected = "rois[" + std::to_string(*set.bad_roi) + ", 0] must be an image";
  try {
    op.call(op.features(set), set);
  } catch (const c10::ValueError& error) {
    const std::string message = error.what_without_backtrace();
    require(message.find(expected) == 0, op.name, " should say '", expected,
            "', but says: ", message);
    return;
  }
  require(false, op.name, " did not raise ValueError for the image index of RoI ", *set.bad_roi);
}

inline void check_shape(const Operator& op, const RandomSet& set, const Tensor& result) {
  const Tensor& like = op.backward ? set.input : set.grad;
  require(result.sizes() == like.sizes(), op.name, " has shape ", result.sizes(), ", expected ",
          like.sizes());
  require(result.scalar_type() == like.scalar_type(), op.name, " has dtype ", result.scalar_type(),
          ", expected ", like.scalar_type());
}

// NaN, also that of memory which no kernel has written, is outside of any range.
inline void check_range(const Operator& op, const Tensor& result, double low, double high) {
  const auto dtype = result.scalar_type();
  const double magnitude = std::max(std::fabs(low), std::fabs(high));
  const double tolerance = magnitude * (epsilon(dtype) + 256 * accumulation_epsilon(dtype));
  if (result.numel() == 0 || magnitude + tolerance > largest(dtype)) return;
  const double least = result.min().item<double>(), most = result.max().item<double>();
  require(least >= low - tolerance && most <= high + tolerance, op.name, " is in [", least, ", ",
          most, "], expected [", low, ", ", high, "]");
}

inline void check_magnitude(const Operator& op, const RandomSet& set, const Tensor& result) {
  const double bound = op.gain(set) * largest_magnitude(op.features(set));
  check_range(op, result, -bound, bound);
}

// The covered pixels of an axis, from the definition.
inline std::vector<bool> covered_pixels(double low, double high, const RandomSet& set,
                                        int64_t pixels) {
  const double offset = set.aligned ? 0.5 : 0;
  const double start = low * set.spatial_scale - offset;
  const double end = high * set.spatial_scale - offset;
  const double extent = high * set.spatial_scale - low * set.spatial_scale;
  std::vector<bool> covered(pixels);
  for (int64_t p = 0; p < pixels; ++p) {
    covered[p] = extent > 0 && std::isfinite(extent) && start <= p && p <= end;
  }
  return covered;
}

// (N, 1, H, W).
inline Tensor covered_by_any(const RandomSet& set) {
  const int64_t height = set.grad.size(2), width = set.grad.size(3);
  Tensor mask = at::zeros({set.grad.size(0), 1, height, width}, at::kBool);
  const Tensor rois = set.rois.to(at::kDouble).contiguous();
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double* const roi = rois.data_ptr<double>() + k * 5;
    const auto columns = covered_pixels(roi[1], roi[3], set, width);
    const auto rows = covered_pixels(roi[2], roi[4], set, height);
    bool* const image = mask.data_ptr<bool>() + static_cast<int64_t>(roi[0]) * height * width;
    for (int64_t p = 0; p < height; ++p) {
      if (!rows[p]) continue;
      for (int64_t q = 0; q < width; ++q) image[p * width + q] |= columns[q];
    }
  }
  return mask;
}

// RoIInlay's output is a mean of convex combinations of the crops' values, and 0 where no RoI is.
inline void check_inlay(const Operator& op, const RandomSet& set, const Tensor& output) {
  const Tensor covered = covered_by_any(set);
  require(!output.masked_fill(covered, 0).any().item<bool>(), op.name,
          " is not 0 where there is no RoI");
  if (!set.finite || set.input.numel() == 0) return;
  const double low = set.input.min().item<double>(), high = set.input.max().item<double>();
  check_range(op, output.masked_fill(covered.logical_not(), low), low, high);
}

inline void check_layout_does_not_matter(const Operator& op, const RandomSet& set,
                                         const Tensor& result) {
  const Tensor& features = op.features(set);
  if (features.is_contiguous() && set.rois.is_contiguous()) return;
  RandomSet contiguous = set;
  contiguous.rois = set.rois.contiguous();
  require(at::equal(op.call(features.contiguous(), contiguous), result), op.name,
          " differs for contiguous arguments of the same values");
}

// <output, grad> = <input, grad_input>.
inline void check_adjoint(const Operator& op, const RandomSet& set, const Tensor& output,
                          const Tensor& grad_input) {
  const auto dtype = output.scalar_type();
  if (dtype != at::kFloat && dtype != at::kDouble) return;
  const Tensor grad = set.grad.to(at::kDouble), input = set.input.to(at::kDouble);
  const double forward = output.mul(grad).sum().item<double>();
  const double backward = input.mul(grad_input).sum().item<double>();
  const double scale = op.gain(set) * largest_magnitude(input) * grad.abs().sum().item<double>();
  require(std::fabs(forward - backward) <= 1000 * epsilon(dtype) * scale, op.name,
          " and its backward pass are not adjoint: ", forward, " and ", backward);
}

// rows @ maps @ columns^T in float64.
inline Tensor resized(const Tensor& maps, const std::optional<Tensor>& rows,
                      const std::optional<Tensor>& columns) {
  Tensor values = maps.to(at::kDouble);
  if (rows) values = at::matmul(rows->to(at::kDouble), values);
  if (columns) values = at::matmul(values, columns->to(at::kDouble).t());
  return values;
}

// The values of resized_argmax's classes are the largest, but for rounding and underflow.
inline void check_argmax(const RandomSet& set) {
  const auto magnitude = [](const std::optional<Tensor>& weights) {
    return weights ? std::optional<Tensor>(weights->abs()) : std::nullopt;
  };
  const int64_t channels = set.grad.size(1);
  if (channels == 0) return;
  for (const Tensor& maps : set.grad.unbind()) {
    const Tensor classes = resized_argmax(maps, set);
    require(classes.ge(0).logical_and(classes.lt(channels)).all().item<bool>(),
            "resized_argmax: a class is not in [0, ", channels, ")");
    if (!set.finite || classes.numel() == 0) continue;
    const Tensor values = resized(maps, set.rows, set.columns);
    const Tensor chosen = values.gather(0, classes.to(at::kLong).unsqueeze(0)).squeeze(0);
    const Tensor scale =
        resized(maps.to(at::kDouble).abs(), magnitude(set.rows), magnitude(set.columns)).amax(0);
    const Tensor allowed = scale.mul(100 * accumulation_epsilon(maps.scalar_type())).add(1e-37);
    require(values.amax(0).sub(chosen).le(allowed).all().item<bool>(),
            "resized_argmax: a class is not that of the largest value");
  }
}

}  // namespace fuzz
