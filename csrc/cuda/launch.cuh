// SPDX-License-Identifier: Apache-2.0
// The one way to start a kernel. Every error is an exception that says which call failed and why.
#pragma once

#include <cuda_runtime.h>

#include <new>
#include <stdexcept>
#include <string>

#include "core/dtype.h"

namespace fusednn::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // or the next call that is well reports this error again
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw std::runtime_error(std::string("cuda: ") + what + " failed: " + cudaGetErrorString(status) +
                           " (" + cudaGetErrorName(status) + ")");
}

// A block gets so much dynamic shared memory without asking; more has to be allowed per kernel.
constexpr size_t kSharedWithoutAsking = 48 << 10;

// Starts a kernel; one without blocks is not started, because an empty grid is an error to CUDA.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > kSharedWithoutAsking) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "asking for shared memory");
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
        "starting a kernel");
}

// The dynamic shared memory of the block, aligned for 128-bit accesses.
template <class T>
__device__ T* dynamic_shared() {
#if defined(FNN_CUDA_EMULATOR)
  return static_cast<T*>(emulator::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char fnn_dynamic_shared[];
  return reinterpret_cast<T*>(fnn_dynamic_shared);
#endif
}

// How many blocks of `block` threads n elements need when each thread takes `per_thread`.
inline unsigned blocks_for(Index n, Index block, Index per_thread = 1) {
  const Index each = block * per_thread;
  return static_cast<unsigned>((n + each - 1) / each);
}

}  // namespace fusednn::cuda
