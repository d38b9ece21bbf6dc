// SPDX-License-Identifier: Apache-2.0
// Bounds on weights.
#include "cuda/kernels/table.h"
#include "cuda/kernels/teams.cuh"
#include "rules/constraints.h"

namespace fusednn::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) bound_elements(T* p, Index n) {
  const T* const in[1] = {p};
  map<T, 1>(n, in, p, [](const T(&x)[1]) { return rules::not_negative(x[0]); });
}

// A block per kWarp columns; its warps take rows in turn.
template <class T>
__global__ void __launch_bounds__(kThreads) bound_norms(Constrain op) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ T parts[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const Index j = Index(blockIdx.x) * kWarp + lane;
  T* p = static_cast<T*>(op.parameter) + j;
  const Index rows = j < op.cols ? op.rows : 0;
  T squares = 0;
  for (Index row = warp; row < rows; row += kWarps) {
    const T w = p[row * op.cols];
    squares = fma(w, w, squares);
  }
  parts[warp][lane] = squares;
  __syncthreads();
  T all = 0;
  for (int k = 0; k < kWarps; ++k) all += parts[k][lane];
  const T factor = rules::norm_factor(sqrt(all), T(op.low), T(op.high), T(op.rate));
  for (Index row = warp; row < rows; row += kWarps) p[row * op.cols] *= factor;
}

}  // namespace

template <class T>
void run(const Constrain& op, const Context& context) {
  if (op.bound == Constrain::Bound::norm) {
    launch(bound_norms<T>, blocks_for(op.cols, kWarp), kThreads, 0, context.stream, op);
    return;
  }
  const Index n = op.rows * op.cols;
  launch(bound_elements<T>, blocks_for_map(n, context), kThreads, 0, context.stream,
         static_cast<T*>(op.parameter), n);
}

template <class T>
size_t workspace(const Constrain&) {
  return 0;
}

template void run<float>(const Constrain&, const Context&);
template void run<double>(const Constrain&, const Context&);
template size_t workspace<float>(const Constrain&);
template size_t workspace<double>(const Constrain&);

}  // namespace fusednn::cuda
