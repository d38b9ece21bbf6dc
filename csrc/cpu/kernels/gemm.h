// SPDX-License-Identifier: Apache-2.0
// The one matrix product behind the dense operations: c = a b, any shape and stride.
//
// The value of an element is a sum over k in pieces that depend on k alone, each piece added up in
// order. How rows and columns are cut into tiles, who computes them and what is packed does not
// change a bit of it: a row has the same value in a batch of one and of a thousand, on one thread and
// on many. Only the gradient of the input of a batch of very few rows (gemm_dots.h) is added up in
// another order than that of a larger batch.
#pragma once

#include "cpu/kernels/context.h"

namespace fusednn::FNN_ISA {

using cpu::Context;
using cpu::Demand;
using cpu::Range;

// A block of c that has its complete sum, while it is still in the first-level cache.
template <class T>
struct Finished {
  const T* product;  // element (i, j) of the block is product[i * stride + j]
  Index stride;
  Index row, col;  // where the block lies in c
  Index rows, cols;
};

template <class T>
struct Product {
  Index m = 0, n = 0, k = 0;
  Index row0 = 0;  // of a larger product, where this is a part of its rows
  // Element (i, p) of a is a[i * a_row + p * a_k], element (p, j) of b is b[p * b_k + j * b_col]; of
  // each pair of strides one is 1.
  const T* a = nullptr;
  Index a_row = 0, a_k = 1;
  const T* b = nullptr;
  Index b_k = 0, b_col = 1;
  T* c = nullptr;
  Index c_row = 0;
  bool accumulate = false;
  const T* bias = nullptr;   // added to every row
  T* column_sums = nullptr;  // where given: the sums over k of b, accumulated like c

  // relu in place of a finish of its own: c = relu(sum), or c = sum * relu'(relu_saved).
  bool relu = false;
  const T* relu_saved = nullptr;
  Index saved_row = 0;

  // Called once for every block of c. With `accumulate` the block is not in c: finish puts it there.
  void (*finish)(const void* state, const Finished<T>& block) = nullptr;
  const void* state = nullptr;
};

// Called by every thread of the team.
template <class T>
void multiply(const Product<T>& product, const Context& context);

template <class T>
Demand multiply_demand(const Product<T>& product, int threads);

}  // namespace fusednn::FNN_ISA
