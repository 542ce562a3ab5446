// The operators, called through torch's dispatcher as Python would.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "random_set.h"

namespace fuzz {

struct Operator {
  const Tensor& features(const RandomSet& set) const { return backward ? set.grad : set.input; }

  std::string name;
  bool backward;  // makes crops of a map
  std::function<Tensor(const Tensor& features, const RandomSet& set)> call;
  // Bounds the magnitude of the result for features of magnitude 1.
  std::function<double(const RandomSet& set)> gain;
};

template <typename Signature>
auto find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// RoIInlay, its backward pass, RoIUpsample, its backward pass, RoIAlign's backward pass, RoIAlign.
inline std::vector<Operator> find_operators() {
  using c10::SymInt;
  using Inlay = Tensor(const Tensor&, const Tensor&, SymInt, SymInt, SymInt, double, bool);
  using InlayBackward = Tensor(const Tensor&, const Tensor&, SymInt, SymInt, double, bool);
  using Upsample = Tensor(const Tensor&, const Tensor&, SymInt, SymInt, SymInt, double, bool, bool);
  using Align = Tensor(const Tensor&, const Tensor&, SymInt, SymInt, double, int64_t, bool);
  using AlignBackward =
      Tensor(const Tensor&, const Tensor&, SymInt, SymInt, SymInt, double, int64_t, bool);
  using UpsampleBackward = Tensor(const Tensor&, const Tensor&, SymInt, SymInt, double, bool, bool);
  const auto inlay = find<Inlay>("mmbanet::roi_inlay");
  const auto inlay_backward = find<InlayBackward>("mmbanet::roi_inlay_backward");
  const auto upsample = find<Upsample>("mmbanet::roi_upsample");
  const auto upsample_backward = find<UpsampleBackward>("mmbanet::roi_upsample_backward");
  const auto align = find<Align>("mmbanet::roi_align");
  const auto align_backward = find<AlignBackward>("mmbanet::roi_align_backward");
  // h / (h^2 + (1 - h)^2) is at most 1.2072: the weight of a contribution on one axis.
  constexpr double kLargestWeight = 1.2072 * 1.2072;

  return {
      {"roi_inlay", false,
       [=](const Tensor& input, const RandomSet& set) {
         return inlay.call(input, set.rois, set.grad.size(0), set.grad.size(2), set.grad.size(3),
                           set.spatial_scale, set.aligned);
       },
       [](const RandomSet&) { return 1.0; }},
      {"roi_inlay_backward", true,
       [=](const Tensor& grad, const RandomSet& set) {
         return inlay_backward.call(grad, set.rois, set.input.size(2), set.input.size(3),
                                    set.spatial_scale, set.aligned);
       },
       [](const RandomSet& set) {
         return static_cast<double>(set.grad.size(2) * set.grad.size(3));
       }},
      {"roi_upsample", false,
       [=](const Tensor& input, const RandomSet& set) {
         return upsample.call(input, set.rois, set.grad.size(0), set.grad.size(2), set.grad.size(3),
                              set.spatial_scale, set.aligned, set.mean);
       },
       [=](const RandomSet& set) {
         const int64_t points = set.input.size(0) * set.input.size(2) * set.input.size(3);
         return kLargestWeight * (set.mean ? 1.0 : static_cast<double>(points));
       }},
      {"roi_upsample_backward", true,
       [=](const Tensor& grad, const RandomSet& set) {
         return upsample_backward.call(grad, set.rois, set.input.size(2), set.input.size(3),
                                       set.spatial_scale, set.aligned, set.mean);
       },
       [=](const RandomSet&) { return 4 * kLargestWeight; }},
      {"roi_align_backward", false,
       [=](const Tensor& grad, const RandomSet& set) {
         return align_backward.call(grad, set.rois, set.grad.size(0), set.grad.size(2),
                                    set.grad.size(3), set.spatial_scale, set.sampling_ratio,
                                    set.aligned);
       },
       [](const RandomSet& set) {
         return static_cast<double>(set.input.size(0) * set.input.size(2) * set.input.size(3));
       }},
      {"roi_align", true,
       [=](const Tensor& map, const RandomSet& set) {
         return align.call(map, set.rois, set.input.size(2), set.input.size(3), set.spatial_scale,
                           set.sampling_ratio, set.aligned);
       },
       [](const RandomSet&) { return 1.0; }},
  };
}

// resized_argmax of maps (C, H, W), by the set's matrices.
inline Tensor resized_argmax(const Tensor& maps, const RandomSet& set) {
  using Signature =
      Tensor(const Tensor&, const std::optional<Tensor>&, const std::optional<Tensor>&);
  static const auto op = find<Signature>("mmbanet::resized_argmax");
  return op.call(maps, set.rows, set.columns);
}

}  // namespace fuzz
