// SPDX-License-Identifier: Apache-2.0
// Numbers of the host on their way to the device as arguments of kernels.
#pragma once

#include <cuda_runtime.h>

#include <stddef.h>

namespace fusednn::cuda {

// What goes with one kernel: with what is beside it, within the 4096 bytes that arguments may take.
constexpr size_t kPutAtOnce = 3968;

// A graph that is being captured keeps the arguments of its kernels, where a copy would read the host's
// memory each time it runs. Slow: a kernel for a few kilobytes.
void put_by_kernels(void* to, const void* host, size_t bytes, cudaStream_t stream);

}  // namespace fusednn::cuda
