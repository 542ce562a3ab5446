// Just enough of CUDA to run a kernel on the CPU, so that kernels can be tested without a GPU.
//
// Blocks run one after the other. The threads of a block are coroutines that take turns at
// barriers, so shared memory and block-wide communication work as on the device; races do not show
// up, but a barrier that not all threads of the block reach does (std::logic_error).
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
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

namespace cuda_on_host {

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 * 1024);
  bool finished = false;
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline std::function<void()> body;
inline std::vector<char> votes;

inline void run_thread() {
  body();
  threads[threadIdx.x].finished = true;
}

inline void yield() { swapcontext(&threads[threadIdx.x].context, &scheduler); }

inline void run_block() {
  for (auto& thread : threads) {
    thread.finished = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_thread, 0);
  }
  for (size_t running = threads.size(); running > 0;) {
    size_t finished = 0;
    for (size_t t = 0; t < threads.size(); ++t) {
      threadIdx.x = static_cast<unsigned>(t);
      swapcontext(&scheduler, &threads[t].context);
      finished += threads[t].finished;
    }
    if (finished != 0 && finished != threads.size()) {
      throw std::logic_error("a barrier was not reached by all threads of the block");
    }
    running -= finished;
  }
}

template <typename... Parameters, typename... Arguments>
void launch(unsigned grid, unsigned block, void (*kernel)(Parameters...), Arguments... arguments) {
  threads.resize(block);
  votes.resize(block);
  blockDim.x = block;
  gridDim.x = grid;
  body = [=] { kernel(arguments...); };
  for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) run_block();
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::yield(); }

// Right for votes of whole blocks only, which is how the kernels vote.
inline unsigned __ballot_sync(unsigned, bool vote) {
  cuda_on_host::votes[threadIdx.x] = vote;
  __syncthreads();
  unsigned ballot = 0;
  const unsigned warp = threadIdx.x / 32 * 32;
  for (unsigned lane = 0; lane < 32; ++lane) {
    ballot |= static_cast<unsigned>(cuda_on_host::votes[warp + lane]) << lane;
  }
  __syncthreads();
  return ballot;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address += value;
  return old;
}
