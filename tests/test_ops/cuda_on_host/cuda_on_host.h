// Just enough of CUDA to run a kernel on the CPU, so that kernels can be tested without a GPU.
//
// Blocks run one after the other. The threads of a block are coroutines that take turns at
// barriers, so shared memory and the communication of warps and blocks work as on the device; races
// do not show up, but a barrier that not all of its threads reach does (std::logic_error).
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

using std::max;
using std::min;

struct Index {
  unsigned x = 0;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace cuda_on_host {

constexpr unsigned kWarp = 32;

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 * 1024);
  bool finished = false;
};

// Of a block or a warp.
struct Barrier {
  unsigned arrived = 0;
  unsigned passed = 0;
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline std::function<void()> body;
inline Barrier block_barrier;
inline std::vector<Barrier> warp_barriers;
inline std::vector<std::array<bool, kWarp>> votes;
inline size_t progress;  // barriers passed and threads finished

inline unsigned warp() { return threadIdx.x / kWarp; }

inline void run_thread() {
  body();
  threads[threadIdx.x].finished = true;
  ++progress;
}

inline void wait(Barrier& barrier, unsigned members) {
  const unsigned thread = threadIdx.x;
  const unsigned passed = barrier.passed;
  if (++barrier.arrived == members) {
    barrier.arrived = 0;
    ++barrier.passed;
    ++progress;
  }
  while (barrier.passed == passed) swapcontext(&threads[thread].context, &scheduler);
}

inline void run_block() {
  block_barrier = Barrier();
  std::fill(warp_barriers.begin(), warp_barriers.end(), Barrier());
  for (auto& thread : threads) {
    thread.finished = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_thread, 0);
  }
  for (size_t finished = 0; finished < threads.size();) {
    const size_t before = progress;
    finished = 0;
    for (size_t t = 0; t < threads.size(); ++t) {
      threadIdx.x = static_cast<unsigned>(t);
      if (!threads[t].finished) swapcontext(&scheduler, &threads[t].context);
      finished += threads[t].finished;
    }
    if (progress == before) {
      throw std::logic_error("a barrier was not reached by all threads of its block or warp");
    }
  }
}

template <typename... Parameters, typename... Arguments>
void launch(int64_t grid, unsigned block, void (*kernel)(Parameters...), Arguments... arguments) {
  threads.resize(block);
  warp_barriers.resize(block / kWarp);
  votes.resize(block / kWarp);
  blockDim.x = block;
  gridDim.x = static_cast<unsigned>(grid);
  body = [=] { kernel(arguments...); };
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block();
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::wait(cuda_on_host::block_barrier, blockDim.x); }

inline void __syncwarp() {
  cuda_on_host::wait(cuda_on_host::warp_barriers[cuda_on_host::warp()], cuda_on_host::kWarp);
}

// Of whole warps only, which is how the kernels vote.
inline unsigned __ballot_sync(unsigned, bool vote) {
  auto& warp_votes = cuda_on_host::votes[cuda_on_host::warp()];
  warp_votes[threadIdx.x % cuda_on_host::kWarp] = vote;
  __syncwarp();
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < cuda_on_host::kWarp; ++lane) {
    ballot |= static_cast<unsigned>(warp_votes[lane]) << lane;
  }
  __syncwarp();
  return ballot;
}

inline void __stwb(uint4* to, uint4 bits) { *to = bits; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address += value;
  return old;
}
