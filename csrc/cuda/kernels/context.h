// SPDX-License-Identifier: Apache-2.0
// What the host side of a kernel knows of the device it is started on.
//
// How work is cut into chunks whose results are combined depends on shapes alone, never on the device:
// the number of multiprocessors may only decide how many blocks share chunks that are fixed already.
#pragma once

#include <cuda_runtime.h>

namespace fusednn::cuda {

struct Context {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;  // as large as the operation asked for, 256-byte aligned, not cleared
  int multiprocessors = 1;
};

}  // namespace fusednn::cuda
