// Geometry of RoIs on a feature map, shared by the CPU and CUDA kernels; needs no torch.
//
// A RoI is handled one axis at a time: both operators are separable. Coordinates are those of the
// map, where pixel p sits at coordinate p. All of it is computed in double precision, so that which
// pixels a float32 RoI covers does not depend on rounding.
#pragma once

#include <cmath>
#include <limits>

#if defined(__CUDACC__)
#define MMBANET_HOST_DEVICE __host__ __device__
#else
#define MMBANET_HOST_DEVICE
#endif

namespace mmbanet {

// One axis of a RoI on a map of some number of pixels along that axis.
struct Axis {
  double start = 0;   // coordinate of the RoI's near edge
  double extent = 0;  // its width or height, 0 if it is not positive and finite
  int begin = 0;      // covered pixels: begin <= p < end
  int end = 0;
};

// A sampling point of the crop and its successor, as one pixel sees them.
struct Tap {
  int low;          // the pixel lies between the points low and low + 1
  double fraction;  // weight of low + 1; 0 if low is the last point
};

// The two pixels nearest to a sampling point, as RoIUpsample sees them.
struct Splat {
  int low;  // pixels low and low + 1; a weight of 0 says that there is no such contribution
  double weight_low;
  double weight_high;
};

// Distance in pixels up to which RoIUpsample takes a sampling point to be on a pixel.
constexpr double kOnPixel = 1e-9;

// A product that the compiler does not fuse with an addition: a RoI's edge that is on a pixel has
// to be on it on every device.
MMBANET_HOST_DEVICE inline double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

MMBANET_HOST_DEVICE inline Axis make_axis(double low, double high, double spatial_scale,
                                          bool aligned, int pixels) {
  Axis axis;
  const double offset = aligned ? 0.5 : 0.0;
  const double scaled_low = product(low, spatial_scale);
  const double scaled_high = product(high, spatial_scale);
  const double start = scaled_low - offset;
  const double extent = scaled_high - scaled_low;
  // Also false for NaN. A finite extent implies a finite start.
  if (!(extent > 0 && extent <= std::numeric_limits<double>::max())) return axis;
  axis.start = start;
  axis.extent = extent;
  // Compare as double first: the coordinates may not fit an int.
  const double last = scaled_high - offset;  // start + extent, but exact where that is rounded
  if (start > pixels - 1 || last < 0) return axis;
  axis.begin = start <= 0 ? 0 : static_cast<int>(std::ceil(start));
  axis.end = last >= pixels - 1 ? pixels : static_cast<int>(std::floor(last)) + 1;
  if (axis.begin > axis.end) axis.begin = axis.end;
  return axis;
}

// The sampling points between which a covered pixel lies. Pixels beyond the outermost points are
// clamped to them. (pixel - start) / extent is in [0, 1], so nothing overflows for any RoI.
MMBANET_HOST_DEVICE inline Tap tap_at(const Axis& axis, int pixel, int samples) {
  double u = (pixel - axis.start) / axis.extent * samples - 0.5;
  u = u > 0 ? u : 0;
  u = u < samples - 1 ? u : samples - 1;
  const int low = static_cast<int>(u);
  return {low, u - low};
}

// Where RoIUpsample scatters a sampling point: bilinear weights over the sum of their squares.
MMBANET_HOST_DEVICE inline Splat splat_at(const Axis& axis, int sample, int samples, int pixels) {
  const double position = axis.start + product(sample + 0.5, axis.extent / samples);
  // A point that is on a pixel but for rounding must not count as one that reaches the next pixel.
  const double nearest = std::floor(position + 0.5);
  const double snapped = std::fabs(position - nearest) < kOnPixel ? nearest : position;
  if (!(snapped > -1 && snapped < pixels)) return {0, 0, 0};
  const int low = static_cast<int>(std::floor(snapped));
  const double l = snapped - low;
  const double h = 1 - l;
  const double norm = h * h + l * l;
  return {low, low >= 0 ? h / norm : 0, low + 1 < pixels ? l / norm : 0};
}

}  // namespace mmbanet
