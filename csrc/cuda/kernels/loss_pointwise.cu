// SPDX-License-Identifier: Apache-2.0
// Losses with a value per output, of which a row takes the mean or the sum.
#include "cuda/kernels/loss.cuh"

namespace fusednn::cuda {
namespace {

template <class T, class Rule, class Team>
__global__ void __launch_bounds__(kThreads) rows(Loss op, Team team) {
  pointwise_rows<T, Rule>(op, team, blockIdx.x);
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
