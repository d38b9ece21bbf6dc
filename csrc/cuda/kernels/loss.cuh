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

// A pointwise loss of the rows that fall to a block.
template <class T, class Rule, class Team>
__device__ void pointwise_rows(const Loss& op, const Team& team, Index block) {
  constexpr int kAtOnce = 16 / sizeof(T);
  const ParameterLanes<T> a(op.parameters);
  const Index row = team.row(block);
  const Index cols = row < op.rows ? op.cols : 0;
  const T* x = row_of<T>(op.x, row);
  const T* t = row_of<T>(op.target.dense, row);
  T* gradient = gradient_of<T>(op, row);
  const double outputs = Rule::sums_outputs ? 1 : double(op.cols);
  const T weight = weight_of<T>(op, row);
  const T factor(weight * (scale_of(op) / outputs));

  T total(0);
#pragma unroll 1
  for (Index first = team.rank(); first < cols; first += kAtOnce * team.size()) {
    T x_lane[kAtOnce] = {}, t_lane[kAtOnce] = {};
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const Index j = first + u * team.size();
      if (j < cols) {
        x_lane[u] = x[j];
        t_lane[u] = t[j];
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const Index j = first + u * team.size();
      const auto loss = Rule::evaluate(x_lane[u], t_lane[u], a.list);
      if (j < cols) {
        total += loss.value;
        if (gradient != nullptr) gradient[j] = weight == 0 ? T(0) : factor * loss.gradient;
      }
    }
  }
  total = team.all(total, Add());
  if (team.rank() == 0 && row < op.rows) {
    static_cast<T*>(op.values)[row] = rules::times_if(weight, total / T(outputs));
  }
}

// What a row is compared with: dense targets or the number of a class.
template <class T, class Rule>
struct TargetRow {
  const T* dense;
  Index label;
  const T* class_weight;
  T per_class;
  const T* parameters;

  __device__ TargetRow(const Loss& op, Index row, const T* a)
      : dense(op.target.labels == nullptr ? row_of<T>(op.target.dense, row) : nullptr),
        label(op.target.labels == nullptr || row >= op.rows ? 0 : op.target.labels[row]),
        class_weight(Rule::weighs_classes ? static_cast<const T*>(op.class_weight) : nullptr),
        per_class(T(1 / double(op.cols))),
        parameters(a) {}

  __device__ T get(Index j) const {
    const T given = dense != nullptr ? dense[j] : T(j == label ? 1 : 0);
    const T target = Rule::target(given, per_class, parameters);
    return class_weight != nullptr ? target * class_weight[j] : target;
  }
};

// A rowwise loss of the rows that fall to a block. Rows that fit are kept in registers from the first sum
// to the gradient; of longer ones, what a rule keeps waits where the gradient will go.
template <class T, class Rule, class Shape>
__device__ void rowwise_rows(const Loss& op, const Shape& shape, Index block) {
  constexpr int kItems = Shape::items;
  const auto& team = shape.team;
  const ParameterLanes<T> a(op.parameters);
  const Index row = team.row(block);
  const Index cols = row < op.rows ? op.cols : 0;
  const T* source = row_of<T>(op.x, row);
  T* gradient = gradient_of<T>(op, row);
  RowItems<T, kItems> x(team, source, cols);
  const TargetRow<T, Rule> target(op, row, a.list);

  T m(0);
  if constexpr (Rule::needs_max) {
    m = T(-kInfinity);
    for_columns<kItems>(team, cols, [&](int k, Index j) { m = Greatest()(m, x.get(k, j)); });
    m = team.all(m, Greatest());
  }
  T sums[rules::kRowSums] = {};
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    const auto terms = Rule::terms(x.get(k, j), target.get(j), m);
    for (int i = 0; i < rules::kRowSums; ++i) sums[i] += terms.sums[i];
    if constexpr (kItems > 0) {
      x.item[k] = terms.kept;
    } else {
      if (gradient != nullptr) gradient[j] = terms.kept;
    }
  });
  for (int i = 0; i < rules::kRowSums; ++i) sums[i] = team.all(sums[i], Add());
  const rules::RowLoss<T> loss = Rule::prepare(sums);

  const T weight = weight_of<T>(op, row);
  if (team.rank() == 0 && row < op.rows) {
    static_cast<T*>(op.values)[row] = rules::times_if(weight, loss.value);
  }
  if (gradient == nullptr) return;
  const T factor(weight * scale_of(op));
  for_columns<kItems>(team, cols, [&](int k, Index j) {
    T kept = x.item[k];
    if constexpr (kItems == 0) kept = gradient[j];
    const T slope = Rule::gradient(kept, target.get(j), loss.factors);
    gradient[j] = weight == 0 ? T(0) : factor * slope;
  });
}

}  // namespace fusednn::cuda
