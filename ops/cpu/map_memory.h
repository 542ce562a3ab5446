// Memory of large results.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mmbanet {

// Up to this size, memory may come from what the process has used before and freed; glibc's malloc
// maps anything larger afresh.
constexpr size_t kMostReusedBytes = size_t(32) << 20;

// A tensor that may be known to be 0 already.
struct MapMemory {
  at::Tensor tensor;
  bool zeroed;
};

// Allocates by calloc, which knows without looking that memory fresh from the kernel is 0.
class ZeroedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    constexpr size_t kAlignment = 64;  // as torch's own allocator
    void* const memory = std::calloc(bytes + kAlignment, 1);
    TORCH_CHECK_WITH(OutOfMemoryError, memory != nullptr, "not enough memory: tried to allocate ",
                     bytes, " bytes for a map");
    const auto address = reinterpret_cast<uintptr_t>(memory);
    void* const data =
        reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
    return {data, memory, &std::free, at::Device(at::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

// An uninitialised tensor, or one of zeros if that costs nothing. On huge pages: a fresh map of
// some hundred MB is otherwise faulted in by pages of 4 kB, which takes longer than computing it.
inline MapMemory allocate_map(at::IntArrayRef sizes, const at::TensorOptions& options,
                              at::MemoryFormat memory_format) {
  static ZeroedAllocator zeroed_allocator;
  const auto dtype = options.dtype().toScalarType();
  const auto bytes = static_cast<size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
  const bool zeroed = bytes > kMostReusedBytes;
  at::Tensor tensor =
      zeroed ? at::Tensor(at::detail::empty_generic(sizes, &zeroed_allocator,
                                                    c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                    dtype, memory_format))
             : at::empty(sizes, options.memory_format(memory_format));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t(1) << 21;
  const auto address = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + tensor.nbytes()) / kHugePage * kHugePage;
  // Advice only: where it is refused, nothing but time is lost.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  return {tensor, zeroed};
}

}  // namespace mmbanet
