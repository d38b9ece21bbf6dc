// SPDX-License-Identifier: Apache-2.0
// Kernels with one fault each, and how they would be right: the emulator has to tell them apart. The
// name of the file puts their shared memory where the emulator looks for it (shared_memory.ld).
#include "faulty_kernels.h"

namespace faulty {
namespace {

// y = 2 x, and one element behind the end of y.
__global__ void writes_behind(const float* x, float* y, int n, bool right) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (right ? i < n : i <= n) y[i] = 2 * x[i < n ? i : 0];
}

// Each thread takes what its neighbour has put into shared memory.
__global__ void needs_barrier(const float* x, float* y, int n, bool right) {
  __shared__ float shared[kThreads];
  const int i = int(threadIdx.x);
  shared[i] = i < n ? x[i] : 0;
  if (right) __syncthreads();
  if (i < n) y[i] = shared[(i + 1) % n] + shared[(i + n - 1) % n];
}

// Only threads with an element come to the barrier.
__global__ void leaves_early(const float* x, float* y, int n, bool right) {
  __shared__ float shared[kThreads];
  const int i = int(threadIdx.x);
  if (!right && i >= n) return;
  shared[i] = i < n ? x[i] : 0;
  __syncthreads();
  if (i < n) y[i] = shared[n - 1 - i];
}

// A sum over a warp in which not all lanes take part that the mask names.
__global__ void forgets_lanes(const float* x, float* y, int n, bool right) {
  const int i = int(threadIdx.x);
  float sum = i < n ? x[i] : 0;
  if (right || i < n) {
    for (int offset = 16; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(0xffffffffU, sum, offset);
    }
  }
  if (i < n) y[i] = sum;
}

// y is added to before anything was put there.
__global__ void adds_to_nothing(const float* x, float* y, int n, bool right) {
  const int i = int(threadIdx.x);
  if (i < n) y[i] = right ? x[i] : y[i] + x[i];
}

__global__ void copies(const float* x, float* y, int n, bool) {
  const int i = int(threadIdx.x);
  if (i < n) y[i] = x[i];
}

}  // namespace

Kernel kernel(const char* name) {
  const std::string wanted = name;
  if (wanted == "writes_behind") return &writes_behind;
  if (wanted == "needs_barrier") return &needs_barrier;
  if (wanted == "leaves_early") return &leaves_early;
  if (wanted == "forgets_lanes") return &forgets_lanes;
  if (wanted == "adds_to_nothing") return &adds_to_nothing;
  return &copies;
}

}  // namespace faulty
