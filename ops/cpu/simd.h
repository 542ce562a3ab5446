// Runs a piece of code compiled for the best vector instructions of the machine.
//
// A wheel has to run everywhere, so it is compiled for the baseline; GCC and Clang can compile
// single functions for more. Everything the body calls in its hot loops must be MMBANET_INLINE,
// since a function that is not inlined keeps the baseline's instructions. The build forbids the
// compiler to fuse multiplications with additions, so all of them give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
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
  friend Lanes operator*(Lanes a, const Lanes& b) {
    for (int i = 0; i < kLanes; ++i) a.lane[i] *= b.lane[i];
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

// kLanes values as acc_t.
template <typename acc_t, typename scalar_t>
MMBANET_INLINE Lanes<acc_t> load_lanes(const scalar_t* values) {
  if constexpr (std::is_same_v<scalar_t, acc_t>) {
    return lanes(values);
  } else {
    acc_t converted[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) converted[lane] = static_cast<acc_t>(values[lane]);
    return lanes(static_cast<const acc_t*>(converted));
  }
}

// The same of the values before `end`, and 0 for the others.
template <typename acc_t, typename scalar_t>
MMBANET_INLINE Lanes<acc_t> load_lanes(const scalar_t* values, const scalar_t* end) {
  if (end - values >= kLanes) return load_lanes<acc_t>(values);
  acc_t loaded[kLanes] = {};
  for (int lane = 0; values + lane < end; ++lane) loaded[lane] = static_cast<acc_t>(values[lane]);
  return lanes(static_cast<const acc_t*>(loaded));
}

// Whether none of the values, as acc_t, is infinite or NaN.
template <typename acc_t, typename scalar_t>
MMBANET_INLINE bool all_finite(const scalar_t* values, int64_t size) {
  Lanes<acc_t> zeros = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) zeros += acc_t(0) * load_lanes<acc_t>(values + i);
  acc_t zero = 0;
  for (; i < size; ++i) zero += acc_t(0) * static_cast<acc_t>(values[i]);
  for (int lane = 0; lane < kLanes; ++lane) zero += zeros[lane];
  return zero == 0;
}

// Brings values nearer to the processor. They need not exist.
template <typename T>
MMBANET_INLINE void prefetch_lines(const T* values, int64_t size) {
#if defined(__GNUC__)
  const auto* const bytes = reinterpret_cast<const char*>(values);
  for (size_t line = 0; line < size * sizeof(T); line += 64) __builtin_prefetch(bytes + line);
#endif
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

// What a body may use. kPermutes: picking any lanes of two vectors of floats is one instruction.
// kVectorBytes: of the target's own vectors.
struct Baseline {
  static constexpr bool kPermutes = false;
  static constexpr int kVectorBytes = 16;
};

#if defined(__x86_64__) && defined(__GNUC__)

struct Avx2 {
  static constexpr bool kPermutes = false;
  static constexpr int kVectorBytes = 32;
};

struct Avx512 {
  static constexpr int kVectorBytes = 64;
#if defined(__clang__)
  static constexpr bool kPermutes = false;  // no builtin for lanes that are known at run time only
#else
  static constexpr bool kPermutes = true;
#endif
};

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

inline bool has_permutes() { return Avx512::kPermutes && has_avx512(); }

template <typename Body>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))) void run_avx512(
    const Body& body) {
  body(Avx512());
}

template <typename Body>
__attribute__((target("avx2,fma,f16c"))) void run_avx2(const Body& body) {
  body(Avx2());
}

template <typename Body>
void run_vectorized(const Body& body) {
  if (has_avx512()) {
    run_avx512(body);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c")) {
    run_avx2(body);
  } else {
    body(Baseline());
  }
}

#else

inline bool has_permutes() { return false; }

template <typename Body>
void run_vectorized(const Body& body) {
  body(Baseline());
}

#endif

// Lane i is element index[i] of the 2 * kLanes elements at `values`. For targets with kPermutes.
template <typename Target>
MMBANET_INLINE Lanes<float> permute(const float* values, const Lanes<int32_t>& index) {
  static_assert(Target::kPermutes);
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(lanes(values), lanes(values + kLanes), index);
#endif
}

}  // namespace mmbanet
