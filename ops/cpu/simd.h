// Runs a piece of code compiled for the best vector instructions of the machine.
//
// A wheel has to run everywhere, so it is compiled for the baseline; GCC and Clang can compile
// single functions for more. A build that is for one machine (-march=native) has that one's only,
// which takes a third of the time. Everything the body calls in its hot loops must be
// MMBANET_INLINE, since a function that is not inlined keeps the baseline's instructions. The build
// forbids the compiler to fuse multiplications with additions, so all of them give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
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

// Channels that the kernels process together: scratch memory holds blocks of them, channels last.
constexpr int kLanes = 16;

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

// What a body is compiled for; kVectorBytes: of the target's own vectors.
struct Baseline {
#if defined(__AVX512F__)
  static constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
  static constexpr int kVectorBytes = 32;
#else
  static constexpr int kVectorBytes = 16;
#endif
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__AVX2__)

struct Avx2 {
  static constexpr int kVectorBytes = 32;
};

struct Avx512 {
  static constexpr int kVectorBytes = 64;
};

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
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    run_avx512(body);
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c")) {
    run_avx2(body);
  } else {
    body(Baseline());
  }
}

#else

template <typename Body>
void run_vectorized(const Body& body) {
  body(Baseline());
}

#endif

#if defined(__GNUC__)

template <typename T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

// As many elements as a register of the target holds.
template <typename T, typename Target>
using Vector = typename VectorOf<T, Target::kVectorBytes>::type;

#else

// A vector of one element.
template <typename T, typename Target>
using Vector = T;

#endif

// sizeof(Values) / sizeof(acc_t) values as acc_t, wherever they lie.
template <typename Values, typename acc_t, typename scalar_t>
MMBANET_INLINE Values load_vector(const scalar_t* values) {
  Values vector;
  if constexpr (std::is_same_v<scalar_t, acc_t>) {
    std::memcpy(&vector, values, sizeof(Values));
  } else {
    constexpr int kCount = sizeof(Values) / sizeof(acc_t);
    acc_t converted[kCount];
    for (int i = 0; i < kCount; ++i) converted[i] = static_cast<acc_t>(values[i]);
    std::memcpy(&vector, converted, sizeof(Values));
  }
  return vector;
}

template <typename Values, typename acc_t>
MMBANET_INLINE void store_vector(const Values& vector, acc_t* values) {
  std::memcpy(values, &vector, sizeof(Values));
}

}  // namespace mmbanet
