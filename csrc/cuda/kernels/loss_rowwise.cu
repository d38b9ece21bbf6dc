// SPDX-License-Identifier: Apache-2.0
// Losses in which all columns of a row take part. Rows that fit are kept in registers from the first
// sum to the gradient; of longer ones, what a rule keeps waits where the gradient will go.
#include "cuda/kernels/loss.cuh"

namespace fusednn::cuda {
namespace {

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

template <class T, class Rule, class Shape>
__global__ void __launch_bounds__(kThreads) rows(Loss op, Shape shape) {
  constexpr int kItems = Shape::items;
  const auto& team = shape.team;
  const ParameterLanes<T> a(op.parameters);
  const Index row = team.row();
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

template <class T, class Rule>
void start(const Loss& op, const Context& context) {
  with_row_shape(op.cols, [&](auto shape) {
    launch(rows<T, Rule, decltype(shape)>, shape.blocks(op.rows), kThreads, 0, context.stream, op,
           shape);
  });
}

template <class T, class... Rules>
constexpr RuleTable<Loss, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start<T, Rules>...}};
}

}  // namespace

template <class T>
void run_rowwise(const Loss& op, int rule, const Context& context) {
  constexpr auto table = kernels<T>(rules::RowwiseLosses{});
  table.run[rule](op, context);
}

template void run_rowwise<float>(const Loss&, int, const Context&);
template void run_rowwise<double>(const Loss&, int, const Context&);

}  // namespace fusednn::cuda
