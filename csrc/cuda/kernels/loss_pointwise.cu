// SPDX-License-Identifier: Apache-2.0
// Losses with a value per output, of which a row takes the mean or the sum.
#include "cuda/kernels/loss.cuh"

namespace fusednn::cuda {
namespace {

template <class T, class Rule, class Team>
__global__ void __launch_bounds__(kThreads) rows(Loss op, Team team) {
  constexpr int kAtOnce = 16 / sizeof(T);
  const ParameterLanes<T> a(op.parameters);
  const Index row = team.row();
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

template <class T, class Rule>
void start(const Loss& op, const Context& context) {
  with_row_team(op.cols, [&](auto shape) {
    launch(rows<T, Rule, typename decltype(shape)::Team>, shape.blocks(op.rows), kThreads, 0,
           context.stream, op, shape.team);
  });
}

template <class T, class... Rules>
constexpr RuleTable<Loss, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start<T, Rules>...}};
}

}  // namespace

template <class T>
void run_pointwise(const Loss& op, int rule, const Context& context) {
  constexpr auto table = kernels<T>(rules::PointwiseLosses{});
  table.run[rule](op, context);
}

template void run_pointwise<float>(const Loss&, int, const Context&);
template void run_pointwise<double>(const Loss&, int, const Context&);

}  // namespace fusednn::cuda
