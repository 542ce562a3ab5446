// resized_argmax's CUDA kernels: a gather, every pixel written once; needs no torch.
//
// Channels pass from the last to the first, so that the first of equal maxima wins. NaN compares as
// false: it never wins. acc_t is float, or double for double.
#pragma once

#include <cstdint>
#include <limits>

#include "device_roi.cuh"

namespace mmbanet {

// What an output is made of: the inputs from the first to the last non-zero weight.
struct DeviceWindow {
  int begin, size;
};

// One thread for each row of a matrix (outputs, inputs).
static __global__ void __launch_bounds__(kThreads)
    find_windows_kernel(const float* __restrict__ matrix, int64_t outputs, int inputs,
                        DeviceWindow* __restrict__ windows) {
  const int64_t output = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (output >= outputs) return;
  const float* const weights = matrix + output * inputs;
  int begin = 0, end = inputs;
  while (begin < end && weights[begin] == 0) ++begin;
  while (begin < end && weights[end - 1] == 0) --end;
  windows[output] = {begin, end - begin};
}

// How one axis is resized; without windows it is not.
struct DeviceResize {
  const float* matrix;  // (outputs, inputs)
  const DeviceWindow* windows;
  int inputs;

  __device__ DeviceWindow window(int64_t output) const {
    return windows == nullptr ? DeviceWindow{int(output), 1} : windows[output];
  }
  __device__ float weight(int64_t output, int input) const {
    return windows == nullptr ? 1.0f : matrix[output * inputs + input];
  }
};

// Elements from a channel, row or column to the next one.
struct LogitsStrides {
  int64_t channel, row, column;
};

// The class of one pixel whose windows have at most kLargest elements, whose weights then stay in
// registers; 0: any number.
template <int kLargest, typename acc_t, typename scalar_t>
__device__ int class_of_pixel(const scalar_t* logits, int channels, const LogitsStrides& strides,
                              const DeviceResize& rows, int64_t p, const DeviceResize& columns,
                              int64_t q) {
  const DeviceWindow row = rows.window(p), column = columns.window(q);
  constexpr int kKept = kLargest > 0 ? kLargest : 1;
  float row_weights[kKept], column_weights[kKept];
  if constexpr (kLargest > 0) {
#pragma unroll
    for (int k = 0; k < kLargest; ++k) {
      row_weights[k] = k < row.size ? rows.weight(p, row.begin + k) : 0.0f;
      column_weights[k] = k < column.size ? columns.weight(q, column.begin + k) : 0.0f;
    }
  }
  const int row_steps = kLargest > 0 ? kLargest : row.size;
  const int column_steps = kLargest > 0 ? kLargest : column.size;
  logits += row.begin * strides.row + column.begin * strides.column;
  acc_t best = -std::numeric_limits<acc_t>::infinity();
  int best_channel = 0;
#pragma unroll 4
  for (int c = channels - 1; c >= 0; --c) {
    const scalar_t* const from = logits + c * strides.channel;
    acc_t value = 0;
#pragma unroll(kKept)
    for (int j = 0; j < column_steps; ++j) {
      if (j >= column.size) break;
      acc_t sum = 0;
#pragma unroll(kKept)
      for (int i = 0; i < row_steps; ++i) {
        if (i >= row.size) break;
        const float weight = kLargest > 0 ? row_weights[i] : rows.weight(p, row.begin + i);
        sum += acc_t(weight) * acc_t(from[i * strides.row + j * strides.column]);
      }
      const float weight = kLargest > 0 ? column_weights[j] : columns.weight(q, column.begin + j);
      value += acc_t(weight) * sum;
    }
    if (value >= best) {
      best = value;
      best_channel = c;
    }
  }
  return best_channel;
}

// output (height, width). One thread for each pixel.
template <typename scalar_t, typename acc_t>
__global__ void __launch_bounds__(kThreads)
    resized_argmax_kernel(const scalar_t* __restrict__ logits, int channels, LogitsStrides strides,
                          DeviceResize rows, DeviceResize columns, int64_t height, int64_t width,
                          int* __restrict__ output) {
  const int64_t pixel = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (pixel >= height * width) return;
  const int64_t p = pixel / width, q = pixel % width;
  const int largest = max(rows.window(p).size, columns.window(q).size);
  int best;
  if (largest <= 1) {
    best = class_of_pixel<1, acc_t>(logits, channels, strides, rows, p, columns, q);
  } else if (largest <= 2) {
    best = class_of_pixel<2, acc_t>(logits, channels, strides, rows, p, columns, q);
  } else if (largest <= 4) {
    best = class_of_pixel<4, acc_t>(logits, channels, strides, rows, p, columns, q);
  } else {
    best = class_of_pixel<0, acc_t>(logits, channels, strides, rows, p, columns, q);
  }
  output[pixel] = best;
}

}  // namespace mmbanet
