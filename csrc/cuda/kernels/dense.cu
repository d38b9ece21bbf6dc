// SPDX-License-Identifier: Apache-2.0
// Dense layers: three matrix products, each with what belongs to it in its epilogue: bias and
// activation, activation derivative, bias gradient.
#include "cuda/kernels/dense.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Op>
void run_product(const Op& op, const Context& context) {
  const DenseProduct<T> all = parse<T>(op);
  multiply(all.product, all.columns, all.finish, context);
}

template <class T, class Op>
size_t workspace_of(const Op& op) {
  const DenseProduct<T> all = parse<T>(op);
  return multiply_workspace(all.product, all.columns);
}

}  // namespace

// clang-format off
template <class T> void run(const DenseForward& op, const Context& c)         { run_product<T>(op, c); }
template <class T> void run(const DenseBackwardInput& op, const Context& c)   { run_product<T>(op, c); }
template <class T> void run(const DenseBackwardWeights& op, const Context& c) { run_product<T>(op, c); }
template <class T> size_t workspace(const DenseForward& op)         { return workspace_of<T>(op); }
template <class T> size_t workspace(const DenseBackwardInput& op)   { return workspace_of<T>(op); }
template <class T> size_t workspace(const DenseBackwardWeights& op) { return workspace_of<T>(op); }

template void run<float>(const DenseForward&, const Context&);
template void run<double>(const DenseForward&, const Context&);
template void run<float>(const DenseBackwardInput&, const Context&);
template void run<double>(const DenseBackwardInput&, const Context&);
template void run<float>(const DenseBackwardWeights&, const Context&);
template void run<double>(const DenseBackwardWeights&, const Context&);
template size_t workspace<float>(const DenseForward&);
template size_t workspace<double>(const DenseForward&);
template size_t workspace<float>(const DenseBackwardInput&);
template size_t workspace<double>(const DenseBackwardInput&);
template size_t workspace<float>(const DenseBackwardWeights&);
template size_t workspace<double>(const DenseBackwardWeights&);
// clang-format on

}  // namespace fusednn::cuda
