// SPDX-License-Identifier: Apache-2.0
// What a block does of softmax and log-softmax over the columns of each row, with the greatest element
// taken off first so that nothing overflows. Columns at -infinity get probability 0; a row of nothing
// else is NaN.
#pragma once

#include "core/math.h"
#include "cuda/kernels/teams.cuh"

namespace fusednn::cuda {

// y = exp(x - m) / S or (x - m) - log S, with S = sum exp(x - m). y may be x: a thread reads an
// element before it writes it, and no other thread touches it.
template <class T, class Shape>
__device__ void softmax_rows(const SoftmaxForward& op, const Shape& shape, Index block) {
  const auto& team = shape.team;
  const Index row = team.row(block);
  const Index cols = row < op.rows ? op.cols : 0;
  const T* source = row_of<T>(op.x, row);
  T* y = row_of<T>(op.y, row);
  RowItems<T, Shape::items> x(team, source, cols);

  T m(-kInfinity);
  for_columns<Shape::items>(team, cols, [&](int k, Index j) { m = Greatest()(m, x.get(k, j)); });
  m = team.all(m, Greatest());
  T total(0);
  for_columns<Shape::items>(team, cols, [&](int k, Index j) {
    const T shifted = x.get(k, j) - m;
    const T e = exp(shifted);
    total += e;
    x.item[k] = op.log ? shifted : e;
  });
  total = team.all(total, Add());
  const T last = op.log ? log(total) : T(1) / total;
  for_columns<Shape::items>(team, cols, [&](int k, Index j) {
    T kept = x.item[k];
    if constexpr (Shape::items == 0) {
      kept = source[j] - m;
      if (!op.log) kept = exp(kept);
    }
    y[j] = op.log ? kept - last : kept * last;
  });
}

// dx = y (dy - sum y dy), or dx = dy - exp(y) sum dy for the logarithm.
template <class T, class Shape>
__device__ void softmax_rows(const SoftmaxBackward& op, const Shape& shape, Index block) {
  const auto& team = shape.team;
  const Index row = team.row(block);
  const Index cols = row < op.rows ? op.cols : 0;
  const T* dy = row_of<T>(op.dy, row);
  T* dx = row_of<T>(op.dx, row);
  RowItems<T, Shape::items> y(team, row_of<T>(op.y, row), cols);

  T total(0);
  for_columns<Shape::items>(team, cols,
                            [&](int k, Index j) { total += op.log ? dy[j] : y.get(k, j) * dy[j]; });
  total = team.all(total, Add());
  for_columns<Shape::items>(team, cols, [&](int k, Index j) {
    const T g = dy[j], p = y.get(k, j);
    const T result = op.log ? fma(-exp(p), total, g) : p * (g - total);
    dx[j] = op.accumulate ? dx[j] + result : result;
  });
}

}  // namespace fusednn::cuda
