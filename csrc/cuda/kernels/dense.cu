// SPDX-License-Identifier: Apache-2.0
// Dense layers: three matrix products, each with what belongs to it in its epilogue: bias and
// activation, activation derivative, bias gradient.
#include "cuda/kernels/gemm.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T>
const T* typed(const void* data) {
  return static_cast<const T*>(data);
}
template <class T>
T* typed(void* data) {
  return static_cast<T*>(data);
}

template <class T>
struct Parsed {
  Product<T> product;
  ColumnSums<T> columns;
  Finish<T> finish;
};

template <class T>
Parsed<T> parse(const DenseForward& op) {
  Parsed<T> all;
  Product<T>& p = all.product;
  p.m = op.rows;
  p.n = op.out;
  p.k = op.in;
  p.a = typed<T>(op.x.data);
  p.a_row = op.x.stride;
  p.b = typed<T>(op.w.data);
  p.b_k = op.transposed ? 1 : op.w.stride;
  p.b_col = op.transposed ? op.w.stride : 1;
  p.operands = op.float16 ? Storage::float16 : op.bfloat16 ? Storage::bfloat16 : Storage::native;
  Finish<T>& f = all.finish;
  f.y = typed<T>(op.y.data);
  f.y_row = op.y.stride;
  f.z = typed<T>(op.z.data);
  f.z_row = op.z.stride;
  f.bias = typed<T>(op.bias);
  f.set(op.activation);
  return all;
}

template <class T>
Parsed<T> parse(const DenseBackwardInput& op) {
  Parsed<T> all;
  Product<T>& p = all.product;
  p.m = op.rows;
  p.n = op.in;
  p.k = op.out;
  p.a = typed<T>(op.dz.data);
  p.a_row = op.dz.stride;
  p.b = typed<T>(op.w.data);
  p.b_k = op.transposed ? op.w.stride : 1;
  p.b_col = op.transposed ? 1 : op.w.stride;
  p.operands = op.bfloat16 ? Storage::bfloat16 : Storage::native;
  Finish<T>& f = all.finish;
  f.y = typed<T>(op.dx.data);
  f.y_row = op.dx.stride;
  f.accumulate = op.accumulate;
  if (op.activation.rule != kLinear) {
    f.saved = typed<T>(op.saved.data);
    f.saved_row = op.saved.stride;
  }
  f.set(op.activation);
  return all;
}

template <class T>
Parsed<T> parse(const DenseBackwardWeights& op) {
  const ConstMatrix& left = op.transposed ? op.dz : op.x;
  const ConstMatrix& right = op.transposed ? op.x : op.dz;
  Parsed<T> all;
  Product<T>& p = all.product;
  p.k = op.rows;
  if (op.dw.data != nullptr) {
    p.m = op.transposed ? op.out : op.in;
    p.n = op.transposed ? op.in : op.out;
  }
  p.a = typed<T>(left.data);
  p.a_row = 1;
  p.a_k = left.stride;
  p.b = typed<T>(right.data);
  p.b_k = right.stride;
  p.b_col = 1;
  p.operands = op.bfloat16 ? Storage::bfloat16 : Storage::native;
  all.columns = {typed<T>(op.dz.data), op.dz.stride, op.out, typed<T>(op.dbias)};
  Finish<T>& f = all.finish;
  f.y = typed<T>(op.dw.data);
  f.y_row = op.dw.stride;
  f.accumulate = op.accumulate;
  f.set(ActivationSpec{});
  return all;
}

template <class T, class Op>
void run_product(const Op& op, const Context& context) {
  const Parsed<T> all = parse<T>(op);
  multiply(all.product, all.columns, all.finish, context);
}

template <class T, class Op>
size_t workspace_of(const Op& op) {
  const Parsed<T> all = parse<T>(op);
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
