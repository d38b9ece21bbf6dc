// SPDX-License-Identifier: Apache-2.0
// Losses: the value of each row and its gradient, in one pass where the rule is pointwise.
//
// A row of weight 0, or whose label is ignored, counts for nothing: its value and gradient are 0 even
// where the loss itself is infinite or NaN. The gradient may take the place of x: within a row an
// element is read before it is written.
#include "cpu/kernels/context.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/row_lanes.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/streams.h"
#include "cpu/kernels/table.h"
#include "rules/losses.h"

namespace fusednn::FNN_ISA {
namespace {

// Where the gradient of a row goes; null when only values are wanted.
template <class T>
T* gradient_of(const Loss& op, Index row) {
  return op.gradient.data == nullptr ? nullptr : row_of<T>(op.gradient, row);
}

template <class T>
T weight_of(const Loss& op, Index row) {
  if (op.target.labels != nullptr && op.target.labels[row] == op.ignore_index) return T(0);
  return op.sample_weight == nullptr ? T(1) : static_cast<const T*>(op.sample_weight)[row];
}

template <class T>
bool is_past_caches(const Loss& op) {
  return past_caches(2.0 * sizeof(T) * double(op.rows * op.cols));
}

// Whether the gradient goes around the caches; not where the predictions were read.
template <class T>
bool streams_gradient(const Loss& op) {
  return op.gradient.data != nullptr && op.gradient.data != op.x.data && is_past_caches<T>(op);
}

double scale_of(const Loss& op) { return op.scale == nullptr ? 1 : *op.scale; }

template <class T>
void clear(T* gradient, Index cols) {
  if (gradient == nullptr) return;
  for (Index j = 0; j < cols; ++j) gradient[j] = T(0);
}

// ---- pointwise -------------------------------------------------------------------------------

template <class T, class Rule>
void pointwise_rows(const Loss& op, const Context& context) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.parameters);
  const double outputs = Rule::sums_outputs ? 1 : double(op.cols);
  const double scale = scale_of(op) / outputs;
  T* values = static_cast<T*>(op.values);
  // What is added up on the way has the same order wherever the gradient lies.
  const bool aligned = op.gradient.stride % V::size == 0 &&
                       ahead_of_line(static_cast<const T*>(op.gradient.data)) == 0;
  const bool streams = aligned && streams_gradient<T>(op);
  const cpu::Range mine = cpu::share(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    const T* x = row_of<T>(op.x, row);
    const T* t = row_of<T>(op.target.dense, row);
    T* gradient = gradient_of<T>(op, row);
    const T weight = weight_of<T>(op, row);
    if (weight == 0) {
      values[row] = T(0);
      clear(gradient, op.cols);
      continue;
    }
    const V factor(weight * scale);
    V total(0);
    const auto evaluate = [&](Index j, int lanes) FNN_INLINE {
      const auto loss = Rule::evaluate(V::load(x + j, lanes), V::load(t + j, lanes), a.list);
      total += first(lanes, loss.value, V(0));
      return factor * loss.gradient;
    };
    if (gradient == nullptr) {
      for_lanes<V>(0, op.cols, evaluate);
    } else {
      write_lanes<V>(gradient, 0, op.cols, streams, evaluate);
    }
    values[row] = weight * (sum(total) / T(outputs));
  }
  finish_streams(streams);
}

// A single column without gaps: the lanes are rows.
template <class T, class Rule>
void pointwise_column(const Loss& op, const Context& context) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.parameters);
  const V scale(scale_of(op));
  const T* x = row_of<T>(op.x, 0);
  const T* t = row_of<T>(op.target.dense, 0);
  const T* weights = static_cast<const T*>(op.sample_weight);
  T* gradient = gradient_of<T>(op, 0);
  T* values = static_cast<T*>(op.values);
  const cpu::Range mine = share_lines<T>(op.rows, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index i, int lanes) FNN_INLINE {
    const auto loss = Rule::evaluate(V::load(x + i, lanes), V::load(t + i, lanes), a.list);
    const V weight = weights == nullptr ? V(1) : V::load(weights + i, lanes);
    rules::times_if(weight, loss.value).store(values + i, lanes);
    if (gradient != nullptr) {
      rules::times_if(weight, scale * loss.gradient).store(gradient + i, lanes);
    }
  });
}

template <class T, class Rule>
void pointwise(const Loss& op, const Context& context) {
  const bool gradient_adjacent = op.gradient.data == nullptr || op.gradient.stride == 1;
  if (op.cols == 1 && op.x.stride == 1 && op.target.dense.stride == 1 && gradient_adjacent) {
    pointwise_column<T, Rule>(op, context);
  } else {
    pointwise_rows<T, Rule>(op, context);
  }
}

// ---- rowwise ---------------------------------------------------------------------------------

// The lanes a row is compared with, from dense targets or from the number of a class: then only one
// vector of the row is not the same everywhere.
template <class V, class Rule>
struct TargetRow {
  using T = typename V::Scalar;
  const T* dense;
  Index label;
  const T* class_weight;
  V per_class, no_class;
  const V* parameters;

  FNN_HD TargetRow(const Loss& op, Index row, const V* a)
      : dense(op.target.labels == nullptr ? row_of<T>(op.target.dense, row) : nullptr),
        label(op.target.labels == nullptr ? 0 : op.target.labels[row]),
        class_weight(Rule::weighs_classes ? static_cast<const T*>(op.class_weight) : nullptr),
        per_class(1 / double(op.cols)),
        no_class(Rule::target(V(0), per_class, a)),
        parameters(a) {}

  FNN_HD V load(Index j, int lanes) const {
    V target = no_class;
    if (dense != nullptr) {
      target = Rule::target(V::load(dense + j, lanes), per_class, parameters);
    } else if (label >= j && label < j + V::size) {
      const V one_hot = select(iota<V>() == V(double(label - j)), V(1), V(0));
      target = Rule::target(one_hot, per_class, parameters);
    }
    return class_weight != nullptr ? target * V::load(class_weight + j, lanes) : target;
  }
};

template <class T, class Rule>
void rowwise_block(const Loss& op, Index begin, int rows, bool streams, T* long_row) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.parameters);
  RowLanes<V> weights, greatest;
  for (int r = 0; r < rows; ++r) weights.lane[r] = weight_of<T>(op, begin + r);
  if constexpr (Rule::needs_max) {
    V parts[V::size] = {};
    for (int r = 0; r < rows; ++r)
      parts[r] = greatest_lanes<V>(row_of<T>(op.x, begin + r), op.cols);
    greatest = RowLanes<V>(max_rows(parts));
  }

  const bool wants_gradient = op.gradient.data != nullptr;
  KeptRows<V> kept(op.gradient, begin, op.cols, long_row);
  V parts[rules::kRowSums][V::size] = {};
  for (int r = 0; r < rows; ++r) {
    if (weights.lane[r] == 0) continue;
    const T* x = row_of<T>(op.x, begin + r);
    const TargetRow<V, Rule> target(op, begin + r, a.list);
    const V m = greatest[r];
    V total[rules::kRowSums] = {V(0), V(0), V(0)};
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      const auto terms = Rule::terms(V::load(x + j, lanes), target.load(j, lanes), m);
      for (int k = 0; k < rules::kRowSums; ++k) total[k] += first(lanes, terms.sums[k], V(0));
      if (wants_gradient) kept.store(terms.kept, r, j, lanes);
    });
    for (int k = 0; k < rules::kRowSums; ++k) parts[k][r] = total[k];
  }

  const rules::RowLoss<V> loss =
      Rule::prepare({sum_rows(parts[0]), sum_rows(parts[1]), sum_rows(parts[2])});
  rules::times_if(weights.load(), loss.value).store(static_cast<T*>(op.values) + begin, rows);
  if (!wants_gradient) return;

  const RowLanes<V> factors[rules::kRowFactors] = {RowLanes<V>(loss.factors[0]),
                                                   RowLanes<V>(loss.factors[1])};
  const double scale = scale_of(op);
  for (int r = 0; r < rows; ++r) {
    T* gradient = gradient_of<T>(op, begin + r);
    if (weights.lane[r] == 0) {
      clear(gradient, op.cols);
      continue;
    }
    const TargetRow<V, Rule> target(op, begin + r, a.list);
    const V row_factors[rules::kRowFactors] = {factors[0][r], factors[1][r]};
    const V weight(weights.lane[r] * scale);
    write_lanes<V>(gradient, 0, op.cols, streams, [&](Index j, int lanes) FNN_INLINE {
      return weight * Rule::gradient(kept.load(r, j, lanes), target.load(j, lanes), row_factors);
    });
  }
}

// ---- rowwise, few columns --------------------------------------------------------------------

// So few columns fill a vector only in part, and what a row costs by itself would be most of the time.
// A square of them is turned, so that the lanes are rows, and the result is turned back.
constexpr Index kFewColumns = 16;

// What a block of rows is compared with, column by column.
template <class V, class Rule>
class TargetColumns {
 public:
  using T = typename V::Scalar;

  FNN_HD TargetColumns(const Loss& op, Index begin, int rows, const V* a)
      : parameters_(a),
        class_weight_(Rule::weighs_classes ? static_cast<const T*>(op.class_weight) : nullptr),
        has_labels_(op.target.labels != nullptr),
        per_class_(1 / double(op.cols)),
        other_(Rule::target(V(0), per_class_, a)),
        own_(Rule::target(V(1), per_class_, a)) {
    if (has_labels_) {
      RowLanes<V> labels;
      for (int r = 0; r < rows; ++r) labels.lane[r] = T(op.target.labels[begin + r]);
      labels_ = labels.load();
    } else {
      const ConstMatrix& dense = op.target.dense;
      pack_transposed<T>({row_of<T>(dense, begin), dense.stride}, rows, op.cols, dense_, V::size,
                         true);
    }
  }

  FNN_HD V operator[](Index j) const {
    const V target = has_labels_
                         ? select(labels_ == V(double(j)), own_, other_)
                         : Rule::target(V::load(dense_ + j * V::size), per_class_, parameters_);
    return class_weight_ != nullptr ? target * V(double(class_weight_[j])) : target;
  }

 private:
  const V* parameters_;
  const T* class_weight_;
  bool has_labels_;
  V per_class_, other_, own_;
  V labels_;
  alignas(64) T dense_[kFewColumns * V::size];
};

template <class T, class Rule>
void rowwise_few_columns(const Loss& op, Index begin, int rows) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.parameters);
  const Index cols = op.cols;
  const double scale = scale_of(op);
  RowLanes<V> weight_lanes, scaled_lanes;
  for (int r = 0; r < rows; ++r) {
    weight_lanes.lane[r] = weight_of<T>(op, begin + r);
    scaled_lanes.lane[r] = T(weight_lanes.lane[r] * scale);
  }
  const V weights = weight_lanes.load(), scaled = scaled_lanes.load();

  alignas(64) T columns[kFewColumns * V::size];
  pack_transposed<T>({row_of<T>(op.x, begin), op.x.stride}, rows, cols, columns, V::size, true);
  V greatest(Rule::needs_max ? -kInfinity : 0);
  if constexpr (Rule::needs_max) {
    for (Index j = 0; j < cols; ++j) greatest = max(V::load(columns + j * V::size), greatest);
  }

  const TargetColumns<V, Rule> targets(op, begin, rows, a.list);
  V sums[rules::kRowSums] = {V(0), V(0), V(0)};
  for (Index j = 0; j < cols; ++j) {
    const auto terms = Rule::terms(V::load(columns + j * V::size), targets[j], greatest);
    for (int k = 0; k < rules::kRowSums; ++k) sums[k] += terms.sums[k];
    terms.kept.store(columns + j * V::size);
  }
  const rules::RowLoss<V> loss = Rule::prepare(sums);
  rules::times_if(weights, loss.value).store(static_cast<T*>(op.values) + begin, rows);
  T* gradient = gradient_of<T>(op, begin);
  if (gradient == nullptr) return;

  for (Index j = 0; j < cols; ++j) {
    T* const column = columns + j * V::size;
    const V slope = Rule::gradient(V::load(column), targets[j], loss.factors);
    select(weights == V(0), V(0), scaled * slope).store(column);
  }
  pack_transposed<T>({columns, V::size}, cols, rows, gradient, op.gradient.stride, false);
}

template <class T, class Rule>
void rowwise(const Loss& op, const Context& context) {
  if (op.cols <= kFewColumns) {
    for_row_blocks<Vec<T>>(op.rows, op.cols, context, [&](Index begin, int rows) FNN_INLINE {
      rowwise_few_columns<T, Rule>(op, begin, rows);
    });
    return;
  }
  const bool streams = streams_gradient<T>(op);
  T* kept = long_row<Vec<T>>(context, op.cols, streams);
  for_row_blocks<Vec<T>>(op.rows, op.cols, context, [&](Index begin, int rows) FNN_INLINE {
    rowwise_block<T, Rule>(op, begin, rows, streams, kept);
  });
  finish_streams(streams);
}

template <class T, class... Pointwise, class... Rowwise>
constexpr RuleTable<Loss, sizeof...(Pointwise) + sizeof...(Rowwise)> loss_kernels(
    TypeList<Pointwise...>, TypeList<Rowwise...>) {
  return {
      {&pointwise<T, Pointwise>..., &rowwise<T, Rowwise>...}
  };
}

}  // namespace

template <class T>
void run(const Loss& op, const Context& context) {
  constexpr auto kernels = loss_kernels<T>(rules::PointwiseLosses{}, rules::RowwiseLosses{});
  kernels.run[op.rule](op, context);
}

template <class T>
Demand demand(const Loss& op, int threads) {
  return {double(op.rows) * (10 + 0.3 * sizeof(T) * double(op.cols)),
          size_t(threads) * long_row_bytes<Vec<T>>(op.cols, is_past_caches<T>(op))};
}

template void run<float>(const Loss&, const Context&);
template void run<double>(const Loss&, const Context&);
template Demand demand<float>(const Loss&, int);
template Demand demand<double>(const Loss&, int);

}  // namespace fusednn::FNN_ISA
