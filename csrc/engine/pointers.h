// SPDX-License-Identifier: Apache-2.0
// Every pointer in the arguments of an operation that is not null: how much memory is behind it, and
// whether the operation writes there.
#pragma once

#include <type_traits>

#include "engine/backend.h"

namespace fusednn {

// Rows that a gather reads of its source, and numbers of its order.
struct GatherReach {
  Index rows = 0, order = 0;
};

// Self is derived from this, and has
//   add(pointer, bytes, written)  is told of each pointer, and may change it
//   entries(table, n)             where the entries of a table can be looked at and changed
//   reach(op)                     what is read of memory whose size is not among the arguments
template <class Self>
class PointerLister {
 public:
  explicit PointerLister(DType dtype) : element_(size_of(dtype)) {}

  void list(DenseForward& op) {
    in(op.x, op.rows, op.in);
    weights(op.w, op);
    in(op.bias, op.out);
    out(op.y, op.rows, op.out);
    out(op.z, op.rows, op.out);
  }
  void list(DenseBackwardInput& op) {
    in(op.dz, op.rows, op.out);
    weights(op.w, op);
    out(op.dx, op.rows, op.in);
    in(op.saved, op.rows, op.in);
  }
  void list(DenseBackwardWeights& op) {
    in(op.x, op.rows, op.in);
    in(op.dz, op.rows, op.out);
    out(op.dw, op.transposed ? op.out : op.in, op.transposed ? op.in : op.out);
    out(op.dbias, op.out);
  }
  void list(Elementary& op) {
    in(op.x, op.n);
    out(op.y, op.n);
  }
  void list(ActivationForward& op) {
    in(op.x, op.n);
    out(op.y, op.n);
  }
  void list(ActivationBackward& op) {
    in(op.dy, op.n);
    in(op.saved, op.n);
    out(op.dx, op.n);
  }
  void list(SoftmaxForward& op) {
    in(op.x, op.rows, op.cols);
    out(op.y, op.rows, op.cols);
  }
  void list(SoftmaxBackward& op) {
    in(op.y, op.rows, op.cols);
    in(op.dy, op.rows, op.cols);
    out(op.dx, op.rows, op.cols);
  }
  void list(Loss& op) {
    target(op.target, op.rows, op.cols);
    in(op.x, op.rows, op.cols);
    in(op.sample_weight, op.rows);
    in(op.class_weight, op.cols);
    out(op.gradient, op.rows, op.cols);
    out(op.values, op.rows);
    add(op.scale, sizeof(double), false);
  }
  void list(Accuracy& op) {
    target(op.target, op.rows, op.cols);
    in(op.x, op.rows, op.cols);
    in(op.sample_weight, op.rows);
    out(op.values, op.rows);
  }
  void list(Sum& op) {
    in(op.values, op.n);
    add(op.total, sizeof(double), true);
  }
  void list(Tally& op) {
    target(op.target, op.rows, op.cols);
    in(op.x, op.rows, op.cols);
    in(op.sample_weight, op.rows);
    add(op.thresholds, static_cast<size_t>(op.n_thresholds) * sizeof(double), false);
    add(op.counts, static_cast<size_t>(op.n_counts) * sizeof(double), true);
  }
  void list(Dropout& op) {
    in(op.x, op.n);
    out(op.y, op.n);
    add(op.step, sizeof(*op.step), false);
  }
  void list(Rescale& op) {
    add(op.x, static_cast<size_t>(op.n) * (op.bytes ? 1 : element_), false);
    out(op.y, op.n);
  }
  void list(Resample& op) {
    in(op.x, op.rows * op.height * op.width * op.channels);
    out(op.y, op.rows * op.out_height * op.out_width * op.channels);
    add(op.step, sizeof(*op.step), false);
  }
  void list(MixRows& op) {
    in(op.x, op.rows * op.cols);
    out(op.y, op.rows * op.cols);
    add(op.step, sizeof(*op.step), false);
  }
  void list(BatchNormForward& op) {
    in(op.x, op.rows, op.cols);
    out(op.y, op.rows, op.cols);
    in(op.gamma, op.cols);
    in(op.beta, op.cols);
    out(op.running_mean, op.cols);
    out(op.running_variance, op.cols);
    out(op.mean, op.cols);
    out(op.inverse_deviation, op.cols);
  }
  void list(LayerNormForward& op) {
    in(op.x, op.rows, op.cols);
    out(op.y, op.rows, op.cols);
    in(op.gamma, op.cols);
    in(op.beta, op.cols);
    out(op.mean, op.rows);
    out(op.inverse_deviation, op.rows);
  }
  void list(BatchNormBackward& op) { norm(op, op.cols); }
  void list(LayerNormBackward& op) { norm(op, op.rows); }
  void list(CopyRows& op) {
    in(op.src, op.rows, op.cols);
    out(op.dst, op.rows, op.cols);
  }
  void list(GatherRows& op) {
    const GatherReach reach = self().reach(op);
    add(op.src, static_cast<size_t>(reach.rows * op.row_bytes), false);
    add(op.order, static_cast<size_t>(reach.order) * sizeof(Index), false);
    add(op.first, sizeof(Index), false);
    add(op.dst, static_cast<size_t>(op.rows * op.row_bytes), true);
  }
  void list(Fill& op) { out(op.dst, op.n); }
  void list(PenaltyGradient& op) {
    add(op.term, sizeof(*op.term), false);
    add(op.scale, sizeof(double), false);
    in(op.parameter, op.n);
    out(op.gradient, op.n);
  }
  void list(ClipCoefficient& op) {
    tables(op);
    add(op.coefficients, (op.global ? 1 : static_cast<size_t>(op.n_tensors)) * sizeof(double),
        true);
    add(op.norm, sizeof(double), true);
  }
  void list(Penalty& op) {
    PenaltyTerm* terms = self().entries(op.terms, op.n_terms);
    for (Index i = 0; i < op.n_terms; ++i) in(terms[i].parameter, terms[i].n);
    add(op.terms, static_cast<size_t>(op.n_terms) * sizeof(PenaltyTerm), false);
    add(op.scale, sizeof(double), false);
    add(op.total, sizeof(double), true);
  }
  void list(OptimizerStep& op) {
    tables(op);
    const Index coefficients = op.coefficient_per_tensor ? op.n_tensors : 1;
    add(op.coefficients, static_cast<size_t>(coefficients) * sizeof(double), false);
    add(op.found_inf, sizeof(float), false);
  }
  void list(PrepareUpdate& op) {
    UpdateCounter* counters = self().entries(op.counters, op.n);
    int32_t n_recipes = 0;
    for (Index i = 0; i < op.n; ++i) {
      for (float*& scalar : counters[i].scalars) add(scalar, sizeof(float), true);
      if (n_recipes <= counters[i].recipe) n_recipes = counters[i].recipe + 1;
    }
    UpdateRecipe* recipes = self().entries(op.recipes, n_recipes);
    for (int32_t k = 0; k < n_recipes; ++k) {
      add(recipes[k].lr, recipes[k].wide_lr ? sizeof(double) : sizeof(float), false);
    }
    add(op.counters, static_cast<size_t>(op.n) * sizeof(UpdateCounter), false);
    add(op.recipes, static_cast<size_t>(n_recipes) * sizeof(UpdateRecipe), false);
    add(op.groups, static_cast<size_t>(op.n) * sizeof(UpdateGroup), true);
    add(op.found_inf, sizeof(float), false);
    add(op.loss_scale, sizeof(float), false);
  }
  void list(Constrain& op) { out(op.parameter, op.rows * op.cols); }
  void list(BeginStep& op) {
    const auto bytes = static_cast<size_t>(op.n_groups) * sizeof(UpdateGroup);
    add(op.clock, sizeof(StepClock), true);
    add(op.table, static_cast<size_t>(self().reach(op)) * bytes, false);
    add(op.groups, bytes, true);
  }

 private:
  Self& self() { return static_cast<Self&>(*this); }
  template <class T>
  void add(T*& pointer, size_t bytes, bool written) {
    if (pointer != nullptr) self().add(pointer, bytes, written);
  }
  void in(const void*& pointer, Index n) { add(pointer, static_cast<size_t>(n) * element_, false); }
  void out(void*& pointer, Index n) { add(pointer, static_cast<size_t>(n) * element_, true); }
  size_t matrix_bytes(Index stride, Index rows, Index cols) const {
    return rows > 0 ? static_cast<size_t>((rows - 1) * stride + cols) * element_ : 0;
  }
  void in(ConstMatrix& m, Index rows, Index cols) {
    add(m.data, matrix_bytes(m.stride, rows, cols), false);
  }
  void out(Matrix& m, Index rows, Index cols) {
    add(m.data, matrix_bytes(m.stride, rows, cols), true);
  }
  template <class Dense>
  void weights(ConstMatrix& w, const Dense& op) {
    in(w, op.transposed ? op.out : op.in, op.transposed ? op.in : op.out);
  }
  void target(Target& target, Index rows, Index cols) {
    in(target.dense, rows, cols);
    add(target.labels, static_cast<size_t>(rows) * sizeof(int32_t), false);
  }
  void norm(NormBackward& op, Index statistics) {
    in(op.x, op.rows, op.cols);
    in(op.dy, op.rows, op.cols);
    in(op.gamma, op.cols);
    in(op.mean, statistics);
    in(op.inverse_deviation, statistics);
    out(op.dx, op.rows, op.cols);
    out(op.dgamma, op.cols);
    out(op.dbeta, op.cols);
  }
  // The pointers in a table come before the table.
  template <class Op>
  void tables(Op& op) {
    UpdateTensor* tensors = self().entries(op.tensors, op.n_tensors);
    int32_t groups = 0;
    for (Index i = 0; i < op.n_tensors; ++i) {
      UpdateTensor& t = tensors[i];
      const auto n = static_cast<size_t>(t.n);
      const size_t bytes = n * (op.storage == Storage::native ? element_ : 2);
      add(t.parameter, bytes, true);
      add(t.master, n * sizeof(float), true);
      add(t.gradient, bytes, true);
      for (void*& state : t.state) add(state, bytes, true);
      add(t.ema, n * (op.storage == Storage::native ? element_ : sizeof(float)), true);
      if (groups <= t.group) groups = t.group + 1;
    }
    add(op.tensors, static_cast<size_t>(op.n_tensors) * sizeof(UpdateTensor), false);
    add(op.groups, static_cast<size_t>(groups) * sizeof(UpdateGroup), false);
  }

  size_t element_;
};

// The pointers of a command.
template <class Lister, class... Ops>
void list_pointers(TypeList<Ops...>, Lister& lister, Command& command) {
  const auto list = [&](auto* op) {
    using Op = std::remove_pointer_t<decltype(op)>;
    if (command.operation == PlaceIn<Op, Operations>::value) {
      lister.list(*reinterpret_cast<Op*>(command.arguments));
    }
  };
  (list(static_cast<Ops*>(nullptr)), ...);
}

}  // namespace fusednn
