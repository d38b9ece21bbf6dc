// SPDX-License-Identifier: Apache-2.0
// What the three products of a dense layer are: operands, column sums and epilogue.
#pragma once

#include "cuda/kernels/gemm.cuh"

namespace fusednn::cuda {

template <class T>
FNN_HD const T* typed(const void* data) {
  return static_cast<const T*>(data);
}
template <class T>
FNN_HD T* typed(void* data) {
  return static_cast<T*>(data);
}

template <class T>
struct DenseProduct {
  Product<T> product;
  ColumnSums<T> columns;
  Finish<T> finish;
};

template <class T>
FNN_HD DenseProduct<T> parse(const DenseForward& op) {
  DenseProduct<T> all;
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
FNN_HD DenseProduct<T> parse(const DenseBackwardInput& op) {
  DenseProduct<T> all;
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
FNN_HD DenseProduct<T> parse(const DenseBackwardWeights& op) {
  const ConstMatrix& left = op.transposed ? op.dz : op.x;
  const ConstMatrix& right = op.transposed ? op.x : op.dz;
  DenseProduct<T> all;
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

}  // namespace fusednn::cuda
