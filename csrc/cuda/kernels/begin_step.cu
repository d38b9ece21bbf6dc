// SPDX-License-Identifier: Apache-2.0
// The beginning of a step: one block moves the clock on and brings what the update will read.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

__global__ void __launch_bounds__(kWarp) begin(BeginStep op) {
  op.bring(op.clock->row, threadIdx.x, kWarp);
  __syncthreads();  // the row is known to all
  if (threadIdx.x == 0) op.clock->advance(op.rows, op.trains);
}

}  // namespace

template <class T>
void run(const BeginStep& op, const Context& context) {
  launch(begin, 1, kWarp, 0, context.stream, op);
}

template <class T>
size_t workspace(const BeginStep&) {
  return 0;
}

template void run<float>(const BeginStep&, const Context&);
template void run<double>(const BeginStep&, const Context&);
template size_t workspace<float>(const BeginStep&);
template size_t workspace<double>(const BeginStep&);

}  // namespace fusednn::cuda
