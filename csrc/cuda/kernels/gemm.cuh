// SPDX-License-Identifier: Apache-2.0
// Matrix products c = a b with an epilogue. Where there are too few tiles to keep a GPU busy, the sum
// over k is split, and the parts are added in order by a second kernel, which then has the epilogue.
// How many parts follows from the shape alone.
#pragma once

#include "cuda/kernels/epilogue.cuh"

namespace fusednn::cuda {

// Element (i, k) of the left operand is a[i * a_row + k * a_k], (k, j) of the right one
// b[k * b_k + j * b_col]. In each one of the two steps is 1.
template <class T>
struct Product {
  Index m = 0, n = 0, k = 0;
  const T* a = nullptr;
  Index a_row = 0, a_k = 1;
  const T* b = nullptr;
  Index b_k = 0, b_col = 1;
  Storage operands = Storage::native;  // what they are rounded to
};

// Column sums of a matrix of k rows, which ride along with a product over the same rows.
template <class T>
struct ColumnSums {
  const T* x = nullptr;
  Index x_row = 0, cols = 0;
  T* sums = nullptr;  // null: not wanted
};

// Results of the parts of a split sum: part s, row i is at data + (s * rows + i) * stride.
template <class T>
struct Parts {
  T* data = nullptr;
  Index count = 1, rows = 0, stride = 0;
};

template <class T>
void multiply(const Product<T>& product, const ColumnSums<T>& columns, const Finish<T>& finish,
              const Context& context);
template <class T>
size_t multiply_workspace(const Product<T>& product, const ColumnSums<T>& columns);

// The epilogue as a kernel of its own, for products that somebody else has computed: of one part, which
// may lie where the result goes.
template <class T>
void finish_product(const Parts<T>& parts, Index n, const Finish<T>& finish,
                    const Context& context);

}  // namespace fusednn::cuda
