// Schemas of the operators, checks of their arguments and dispatch to the devices.
//
// Autograd and fake tensors are registered in Python (mmbanet/ops/_registrations.py).
#include "mmbanet_ops.h"

#include <Python.h>
#include <torch/library.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "pytorch_device_registry.hpp"

namespace {

// Coordinates of pixels are ints in the kernels.
constexpr int64_t kMaxSide = std::numeric_limits<int>::max() - 1024;

// Work is in proportion to it.
constexpr int64_t kMaxSamplingRatio = 1024;

void check_side(int64_t side, const char* name, int64_t minimum) {
  TORCH_CHECK_VALUE(side >= minimum && side <= kMaxSide, name, " must be between ", minimum,
                    " and ", kMaxSide, ", got ", side);
}

void check_features(const Tensor& features, const char* name, const char* shape,
                    int64_t dimensions = 4) {
  TORCH_CHECK_VALUE(features.dim() == dimensions, name, " must have shape ", shape, ", got ",
                    features.sizes());
  const auto dtype = features.scalar_type();
  TORCH_CHECK_TYPE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      name, " must be float64, float32, float16 or bfloat16, got ", dtype);
}

void check_rois(const Tensor& rois, const Tensor& features, const char* features_name) {
  TORCH_CHECK_VALUE(rois.dim() == 2 && rois.size(1) == 5,
                    "rois must have shape (K, 5): image index, x1, y1, x2, y2; got ", rois.sizes());
  TORCH_CHECK_VALUE(rois.device() == features.device(), "rois must be on ", features_name,
                    "'s device ", features.device(), ", got ", rois.device());
  const auto dtype = rois.scalar_type();
  TORCH_CHECK_TYPE(at::isFloatingType(dtype) || at::isIntegralType(dtype, /*includeBool=*/false),
                   "rois must have a floating or integer dtype, got ", dtype);
}

// images: the first column of `rois`, float64, on the CPU.
void check_image_indices(const Tensor& images, int64_t batch_size) {
  const auto index = images.accessor<double, 1>();
  for (int64_t k = 0; k < index.size(0); ++k) {
    // Written so that NaN fails, and compared as double since huge values fit no integer.
    TORCH_CHECK_VALUE(index[k] >= 0 && index[k] < static_cast<double>(batch_size), "rois[", k,
                      ", 0] must be an image index in [0, ", batch_size, "), got ", index[k]);
  }
}

void check_spatial_scale(double spatial_scale) {
  TORCH_CHECK_VALUE(std::isfinite(spatial_scale) && spatial_scale > 0,
                    "spatial_scale must be positive and finite, got ", spatial_scale);
}

void check_forward(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                   int64_t width, double spatial_scale) {
  check_features(input, "input", "(K, C, h, w)");
  check_rois(rois, input, "input");
  TORCH_CHECK_VALUE(rois.size(0) == input.size(0), "rois must have one row for each of input's ",
                    input.size(0), " crops, got ", rois.size(0));
  TORCH_CHECK_VALUE(batch_size >= 0, "batch_size must not be negative, got ", batch_size);
  check_side(height, "output_size[0]", 0);
  check_side(width, "output_size[1]", 0);
  check_side(input.size(2), "input's crop height", 1);
  check_side(input.size(3), "input's crop width", 1);
  check_spatial_scale(spatial_scale);
}

void check_backward(const Tensor& grad, const Tensor& rois, int64_t crop_height, int64_t crop_width,
                    double spatial_scale) {
  check_features(grad, "grad", "(N, C, H, W)");
  check_rois(rois, grad, "grad");
  check_side(grad.size(2), "grad's height", 0);
  check_side(grad.size(3), "grad's width", 0);
  check_side(crop_height, "crop_height", 1);
  check_side(crop_width, "crop_width", 1);
  check_spatial_scale(spatial_scale);
}

// What RoIAlign and its backward pass have in common.
void check_roi_align(const Tensor& features, const char* name, const char* shape,
                     const Tensor& rois, int64_t sampling_ratio, double spatial_scale) {
  check_features(features, name, shape);
  check_side(features.size(2), name, 0);
  check_side(features.size(3), name, 0);
  check_rois(rois, features, name);
  TORCH_CHECK_VALUE(sampling_ratio <= kMaxSamplingRatio, "sampling_ratio must be at most ",
                    kMaxSamplingRatio, ", got ", sampling_ratio);
  check_spatial_scale(spatial_scale);
}

// matrix: interpolates along a dimension of the logits.
void check_matrix(const Tensor& matrix, const char* name, const Tensor& logits, int64_t dimension) {
  const int64_t inputs = logits.size(dimension);
  TORCH_CHECK_VALUE(matrix.dim() == 2 && matrix.size(1) == inputs, name, " must have shape (",
                    dimension == 1 ? "H, " : "W, ", inputs, ") for logits of shape ",
                    logits.sizes(), ", got ", matrix.sizes());
  TORCH_CHECK_TYPE(matrix.scalar_type() == at::kFloat, name, " must be float32, got ",
                   matrix.scalar_type());
  TORCH_CHECK_VALUE(matrix.device() == logits.device(), name, " must be on logits's device ",
                    logits.device(), ", got ", matrix.device());
  check_side(matrix.size(0), name, 0);
}

// mmcv's dispatch would only say that no implementation was found.
template <typename Registry>
void check_built(const Registry& registry, const Tensor& features) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      registry.Find(features.device().type()) != nullptr, "mmbanet was built without support for ",
      features.device().type(),
      "; rebuild it with: FORCE_CUDA=1 pip install --no-build-isolation --force-reinstall "
      "--no-deps mmbanet (-e . in a checkout)");
}

// Whether image indices are checked on devices too where that means to wait for the device.
bool checks_devices() {
  const char* const value = std::getenv("MMBANET_CHECK_ROIS");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

// What the kernels read: no dtype loses anything by becoming float64, but huge integers.
Tensor kernel_rois(const Tensor& rois, int64_t batch_size) {
  const Tensor kernel_rois = rois.to(at::kDouble).contiguous();
  if (kernel_rois.is_cpu() || checks_devices()) {
    check_image_indices(kernel_rois.select(1, 0).cpu(), batch_size);
  }
  return kernel_rois;
}

// NCHW or channels-last, whichever the tensor is or is nearer to.
Tensor kernel_features(const Tensor& features) {
  return features.contiguous(features.suggest_memory_format());
}

Tensor roi_inlay(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                 int64_t width, double spatial_scale, bool aligned) {
  check_forward(input, rois, batch_size, height, width, spatial_scale);
  check_built(DEVICE_REGISTRY(roi_inlay_impl), input);
  return DISPATCH_DEVICE_IMPL(roi_inlay_impl, kernel_features(input), kernel_rois(rois, batch_size),
                              batch_size, height, width, spatial_scale, aligned);
}

Tensor roi_inlay_backward(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                          int64_t crop_width, double spatial_scale, bool aligned) {
  check_backward(grad, rois, crop_height, crop_width, spatial_scale);
  check_built(DEVICE_REGISTRY(roi_inlay_backward_impl), grad);
  return DISPATCH_DEVICE_IMPL(roi_inlay_backward_impl, kernel_features(grad),
                              kernel_rois(rois, grad.size(0)), crop_height, crop_width,
                              spatial_scale, aligned);
}

Tensor roi_upsample(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                    int64_t width, double spatial_scale, bool aligned, bool mean) {
  check_forward(input, rois, batch_size, height, width, spatial_scale);
  check_built(DEVICE_REGISTRY(roi_upsample_impl), input);
  return DISPATCH_DEVICE_IMPL(roi_upsample_impl, kernel_features(input),
                              kernel_rois(rois, batch_size), batch_size, height, width,
                              spatial_scale, aligned, mean);
}

Tensor roi_upsample_backward(const Tensor& grad, const Tensor& rois, int64_t crop_height,
                             int64_t crop_width, double spatial_scale, bool aligned, bool mean) {
  check_backward(grad, rois, crop_height, crop_width, spatial_scale);
  check_built(DEVICE_REGISTRY(roi_upsample_backward_impl), grad);
  return DISPATCH_DEVICE_IMPL(roi_upsample_backward_impl, kernel_features(grad),
                              kernel_rois(rois, grad.size(0)), crop_height, crop_width,
                              spatial_scale, aligned, mean);
}

Tensor roi_align(const Tensor& input, const Tensor& rois, int64_t crop_height, int64_t crop_width,
                 double spatial_scale, int64_t sampling_ratio, bool aligned) {
  check_roi_align(input, "input", "(N, C, H, W)", rois, sampling_ratio, spatial_scale);
  check_side(crop_height, "output_size[0]", 1);
  check_side(crop_width, "output_size[1]", 1);
  return DISPATCH_DEVICE_IMPL(roi_align_impl, kernel_features(input),
                              kernel_rois(rois, input.size(0)), crop_height, crop_width,
                              spatial_scale, sampling_ratio, aligned);
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, int64_t batch_size,
                          int64_t height, int64_t width, double spatial_scale,
                          int64_t sampling_ratio, bool aligned) {
  check_roi_align(grad, "grad", "(K, C, h, w)", rois, sampling_ratio, spatial_scale);
  TORCH_CHECK_VALUE(rois.size(0) == grad.size(0), "rois must have one row for each of grad's ",
                    grad.size(0), " crops, got ", rois.size(0));
  TORCH_CHECK_VALUE(batch_size >= 0, "batch_size must not be negative, got ", batch_size);
  check_side(height, "height", 0);
  check_side(width, "width", 0);
  return DISPATCH_DEVICE_IMPL(roi_align_backward_impl, kernel_features(grad),
                              kernel_rois(rois, batch_size), batch_size, height, width,
                              spatial_scale, sampling_ratio, aligned);
}

std::optional<Tensor> kernel_matrix(const std::optional<Tensor>& matrix) {
  return matrix ? std::optional<Tensor>(matrix->contiguous()) : std::nullopt;
}

Tensor resized_argmax(const Tensor& logits, const std::optional<Tensor>& rows,
                      const std::optional<Tensor>& columns) {
  check_features(logits, "logits", "(C, h, w)", 3);
  check_side(logits.size(0), "logits's number of channels", 1);
  check_side(logits.size(1), "logits's height", 0);
  check_side(logits.size(2), "logits's width", 0);
  if (rows) check_matrix(*rows, "rows", logits, 1);
  if (columns) check_matrix(*columns, "cols", logits, 2);
  check_built(DEVICE_REGISTRY(resized_argmax_impl), logits);
  return DISPATCH_DEVICE_IMPL(resized_argmax_impl, logits, kernel_matrix(rows),
                              kernel_matrix(columns));
}

REGISTER_DEVICE_IMPL(roi_inlay_impl, CPU, mmbanet::roi_inlay_cpu);
REGISTER_DEVICE_IMPL(roi_inlay_backward_impl, CPU, mmbanet::roi_inlay_backward_cpu);
REGISTER_DEVICE_IMPL(roi_upsample_impl, CPU, mmbanet::roi_upsample_cpu);
REGISTER_DEVICE_IMPL(roi_upsample_backward_impl, CPU, mmbanet::roi_upsample_backward_cpu);
REGISTER_DEVICE_IMPL(roi_align_impl, CPU, mmbanet::roi_align_cpu);
REGISTER_DEVICE_IMPL(roi_align_backward_impl, CPU, mmbanet::roi_align_backward_cpu);
REGISTER_DEVICE_IMPL(resized_argmax_impl, CPU, mmbanet::resized_argmax_cpu);

}  // namespace

TORCH_LIBRARY(mmbanet, m) {
  m.def(
      "roi_inlay(Tensor input, Tensor rois, SymInt batch_size, SymInt height, SymInt width, "
      "float spatial_scale, bool aligned) -> Tensor");
  m.def(
      "roi_inlay_backward(Tensor grad, Tensor rois, SymInt crop_height, SymInt crop_width, "
      "float spatial_scale, bool aligned) -> Tensor");
  m.def(
      "roi_upsample(Tensor input, Tensor rois, SymInt batch_size, SymInt height, SymInt width, "
      "float spatial_scale, bool aligned, bool mean) -> Tensor");
  m.def(
      "roi_upsample_backward(Tensor grad, Tensor rois, SymInt crop_height, SymInt crop_width, "
      "float spatial_scale, bool aligned, bool mean) -> Tensor");
  m.def("resized_argmax(Tensor logits, Tensor? rows, Tensor? cols) -> Tensor");
  m.def(
      "roi_align(Tensor input, Tensor rois, SymInt crop_height, SymInt crop_width, "
      "float spatial_scale, int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor rois, SymInt batch_size, SymInt height, "
      "SymInt width, float spatial_scale, int sampling_ratio, bool aligned) -> Tensor");
}

// The same functions for both keys: mmcv's registry tells the devices apart.
#define MMBANET_REGISTER(key)                                \
  TORCH_LIBRARY_IMPL(mmbanet, key, m) {                      \
    m.impl("roi_inlay", &roi_inlay);                         \
    m.impl("roi_inlay_backward", &roi_inlay_backward);       \
    m.impl("roi_upsample", &roi_upsample);                   \
    m.impl("roi_upsample_backward", &roi_upsample_backward); \
    m.impl("resized_argmax", &resized_argmax);               \
  }
MMBANET_REGISTER(CPU)
MMBANET_REGISTER(CUDA)

// mmcv has RoIAlign for other devices.
TORCH_LIBRARY_IMPL(mmbanet, CPU, m) {
  m.impl("roi_align", &roi_align);
  m.impl("roi_align_backward", &roi_align_backward);
}

// Lets Python load the library with a plain import; it has no content of its own.
PyMODINIT_FUNC PyInit__ops() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_ops", nullptr, -1, nullptr};
  return PyModule_Create(&module);
}
