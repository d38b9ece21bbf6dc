// SPDX-License-Identifier: Apache-2.0
// Softmax and log-softmax over the columns of each row.
#include "cuda/kernels/softmax.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Op, class Shape>
__global__ void __launch_bounds__(kThreads) rows(Op op, Shape shape) {
  softmax_rows<T>(op, shape, blockIdx.x);
}

template <class T, class Op>
void start(const Op& op, const Context& context) {
  with_row_shape(op.cols, [&](auto shape) {
    launch(rows<T, Op, decltype(shape)>, shape.blocks(op.rows), kThreads, 0, context.stream, op,
           shape);
  });
}

}  // namespace

// clang-format off
template <class T> void run(const SoftmaxForward& op, const Context& c)  { start<T>(op, c); }
template <class T> void run(const SoftmaxBackward& op, const Context& c) { start<T>(op, c); }
template <class T> size_t workspace(const SoftmaxForward&)  { return 0; }
template <class T> size_t workspace(const SoftmaxBackward&) { return 0; }

template void run<float>(const SoftmaxForward&, const Context&);
template void run<double>(const SoftmaxForward&, const Context&);
template void run<float>(const SoftmaxBackward&, const Context&);
template void run<double>(const SoftmaxBackward&, const Context&);
template size_t workspace<float>(const SoftmaxForward&);
template size_t workspace<double>(const SoftmaxForward&);
template size_t workspace<float>(const SoftmaxBackward&);
template size_t workspace<double>(const SoftmaxBackward&);
// clang-format on

}  // namespace fusednn::cuda
