// Memory of large results.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mmbanet {

// A tensor that may be known to be 0 already.
struct MapMemory {
  at::Tensor tensor;
  bool zeroed;
};

#if defined(__linux__)

// Fresh pages of the operating system, which are 0.
class PageAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* const pages =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, pages != MAP_FAILED, "not enough memory: tried to allocate ",
                     bytes, " bytes for a map");
    return {pages, new Pages{pages, bytes}, &unmap, at::Device(at::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  struct Pages {
    void* begin;
    size_t bytes;
  };

  static void unmap(void* context) {
    const std::unique_ptr<Pages> pages(static_cast<Pages*>(context));
    munmap(pages->begin, pages->bytes);
  }
};

// Advice only: where it is refused, nothing but time is lost.
inline void advise_huge_pages(const at::Tensor& tensor) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t(1) << 21;
  const auto address = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + tensor.nbytes()) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

#endif

// An uninitialised tensor, or one of zeros where that costs nothing: malloc, too, gets what is
// larger than this fresh from the operating system. On huge pages, since to be given a map of some
// hundred MB by pages of 4 kB takes longer than computing it.
inline MapMemory allocate_map(at::IntArrayRef sizes, const at::TensorOptions& options,
                              at::MemoryFormat memory_format) {
#if defined(__linux__)
  constexpr size_t kMostReusedBytes = size_t(32) << 20;
  static PageAllocator pages;
  const auto dtype = options.dtype().toScalarType();
  const auto bytes = static_cast<size_t>(c10::multiply_integers(sizes)) * c10::elementSize(dtype);
  if (bytes > kMostReusedBytes) {
    const at::Tensor tensor = at::detail::empty_generic(
        sizes, &pages, c10::DispatchKeySet(c10::DispatchKey::CPU), dtype, memory_format);
    advise_huge_pages(tensor);
    return {tensor, true};
  }
  const at::Tensor tensor = at::empty(sizes, options.memory_format(memory_format));
  advise_huge_pages(tensor);
  return {tensor, false};
#else
  return {at::empty(sizes, options.memory_format(memory_format)), false};
#endif
}

}  // namespace mmbanet
