// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/put.h"

#include "cuda/kernels/loops.cuh"

namespace fusednn::cuda {
namespace {

struct Piece {
  unsigned char bytes[kPutAtOnce];
};

__global__ void __launch_bounds__(kThreads) put_piece(unsigned char* to, int n, const Piece piece) {
  for (int i = threadIdx.x; i < n; i += kThreads) to[i] = piece.bytes[i];
}

}  // namespace

void put_by_kernels(void* to, const void* host, size_t bytes, cudaStream_t stream) {
  for (size_t done = 0; done < bytes; done += kPutAtOnce) {
    const size_t n = bytes - done < kPutAtOnce ? bytes - done : kPutAtOnce;
    Piece piece = {};
    __builtin_memcpy(piece.bytes, static_cast<const unsigned char*>(host) + done, n);
    launch(put_piece, 1, kThreads, 0, stream, static_cast<unsigned char*>(to) + done, int(n),
           piece);
  }
}

}  // namespace fusednn::cuda
