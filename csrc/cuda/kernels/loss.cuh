// SPDX-License-Identifier: Apache-2.0
// What pointwise and rowwise losses share.
//
// A row of weight 0, or whose label is ignored, counts for nothing: its value and gradient are 0 even
// where the loss itself is infinite or NaN. The gradient may take the place of x: an element is read
// before it is written, by the same thread.
#pragma once

#include "cuda/kernels/teams.cuh"
#include "rules/losses.h"

namespace fusednn::cuda {

template <class T>
void run_pointwise(const Loss& op, int rule, const Context& context);
template <class T>
void run_rowwise(const Loss& op, int rule, const Context& context);

// Where the gradient of a row goes; null when only values are wanted.
template <class T>
__device__ T* gradient_of(const Loss& op, Index row) {
  return op.gradient.data == nullptr ? nullptr : row_of<T>(op.gradient, row);
}

template <class T>
__device__ T weight_of(const Loss& op, Index row) {
  if (row >= op.rows) return T(0);
  if (op.target.labels != nullptr && op.target.labels[row] == op.ignore_index) return T(0);
  return op.sample_weight == nullptr ? T(1) : static_cast<const T*>(op.sample_weight)[row];
}

__device__ inline double scale_of(const Loss& op) { return op.scale == nullptr ? 1 : *op.scale; }

}  // namespace fusednn::cuda
