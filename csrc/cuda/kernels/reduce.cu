// SPDX-License-Identifier: Apache-2.0
// Numbers from many rows: sums and accuracy.
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

// ---- sum -------------------------------------------------------------------------------------

Index chunks_of(Index n) { return divide_up(n, kSumChunk); }

// sums[chunk] = the sum of a chunk, or where there is one chunk only, *total += it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const T* values, Index n, double* sums, double* total) {
  const double all = sum_of_chunk(values, n, blockIdx.x);
  if (threadIdx.x != 0) return;
  if (total != nullptr) {
    *total += all;
  } else {
    sums[blockIdx.x] = all;
  }
}

// The chunks' sums, by one block.
__global__ void __launch_bounds__(kThreads) sum_up(const double* sums, Index n, double* total) {
  double mine = 0;
  for (Index i = threadIdx.x; i < n; i += kThreads) mine += sums[i];
  const double all = reduce_block(mine, Add());
  if (threadIdx.x == 0) *total += all;
}

// ---- accuracy --------------------------------------------------------------------------------

template <class T, class Team>
__global__ void __launch_bounds__(kThreads) accuracy(Accuracy op, Team team) {
  accuracy_rows<T>(op, team, blockIdx.x);
}

}  // namespace

template <class T>
void run(const Sum& op, const Context& context) {
  const Index chunks = chunks_of(op.n);
  const T* values = static_cast<const T*>(op.values);
  double* sums = static_cast<double*>(context.workspace);
  launch(sum_chunks<T>, unsigned(chunks), kThreads, 0, context.stream, values, op.n, sums,
         chunks == 1 ? op.total : nullptr);
  if (chunks > 1) launch(sum_up, 1, kThreads, 0, context.stream, sums, chunks, op.total);
}

template <class T>
void run(const Accuracy& op, const Context& context) {
  with_row_team(op.cols, [&](auto shape) {
    launch(accuracy<T, typename decltype(shape)::Team>, shape.blocks(op.rows), kThreads, 0,
           context.stream, op, shape.team);
  });
}

template <class T>
size_t workspace(const Sum& op) {
  const Index chunks = chunks_of(op.n);
  return chunks > 1 ? size_t(chunks) * sizeof(double) : 0;
}

template <class T>
size_t workspace(const Accuracy&) {
  return 0;
}

template void run<float>(const Sum&, const Context&);
template void run<double>(const Sum&, const Context&);
template void run<float>(const Accuracy&, const Context&);
template void run<double>(const Accuracy&, const Context&);
template size_t workspace<float>(const Sum&);
template size_t workspace<double>(const Sum&);
template size_t workspace<float>(const Accuracy&);
template size_t workspace<double>(const Accuracy&);

}  // namespace fusednn::cuda
