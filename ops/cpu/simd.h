// Runs a piece of code compiled for the best vector instructions of the machine.
//
// A wheel has to run everywhere, so it is compiled for the baseline; GCC and Clang can compile
// single functions for more. Everything the body calls in its hot loops must be MMBANET_INLINE,
// since a function that is not inlined keeps the baseline's instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#if defined(__GNUC__)
#define MMBANET_INLINE inline __attribute__((always_inline))
#define MMBANET_INLINE_LAMBDA __attribute__((always_inline))
#else
#define MMBANET_INLINE inline
#define MMBANET_INLINE_LAMBDA
#endif

#if defined(_MSC_VER)
#define MMBANET_RESTRICT __restrict
#else
#define MMBANET_RESTRICT __restrict__
#endif

namespace mmbanet {

// Elements that the kernels process together; rows of scratch memory are padded to whole Lanes.
constexpr int kLanes = 16;

#if defined(__GNUC__)

// A vector of kLanes elements with the usual operators; compiled to whatever the target has.
template <typename T>
struct LanesOf {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Lanes = typename LanesOf<T>::type;

#else

template <typename T>
struct Lanes {
  T lane[kLanes] = {};
  T operator[](int i) const { return lane[i]; }
  friend Lanes operator+(Lanes a, const Lanes& b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  friend Lanes operator-(Lanes a, const Lanes& b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] -= b.lane[i];
    return a;
  }
  friend Lanes operator*(T a, Lanes b) {
    for (int i = 0; i < kLanes; ++i) b.lane[i] *= a;
    return b;
  }
  friend Lanes& operator+=(Lanes& a, const Lanes& b) { return a = a + b; }
};

#endif

template <typename T>
MMBANET_INLINE Lanes<T>& lanes(T* pointer) {
  return *reinterpret_cast<Lanes<T>*>(pointer);
}
template <typename T>
MMBANET_INLINE const Lanes<T>& lanes(const T* pointer) {
  return *reinterpret_cast<const Lanes<T>*>(pointer);
}

// Whether none of the elements is infinite or NaN.
template <typename T>
MMBANET_INLINE bool all_finite(const T* values, int64_t size) {
  Lanes<T> zeros = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) zeros += T(0) * lanes(values + i);
  T zero = 0;
  for (; i < size; ++i) zero += T(0) * values[i];
  for (int lane = 0; lane < kLanes; ++lane) zero += zeros[lane];
  return zero == 0;
}

inline int round_up(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Vectors of more than 16 bytes that straddle cache lines cost twice.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};

  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
  }
  void deallocate(T* pointer, size_t) { ::operator delete(pointer, kAlignment); }
  bool operator==(const AlignedAllocator&) const { return true; }
  bool operator!=(const AlignedAllocator&) const { return false; }
};

template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

#if defined(__x86_64__) && defined(__GNUC__)

template <typename Body>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void run_avx512(
    const Body& body) {
  body();
}

template <typename Body>
__attribute__((target("avx2,fma"))) void run_avx2(const Body& body) {
  body();
}

template <typename Body>
void run_vectorized(const Body& body) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    run_avx512(body);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    run_avx2(body);
  } else {
    body();
  }
}

#else

template <typename Body>
void run_vectorized(const Body& body) {
  body();
}

#endif

}  // namespace mmbanet
