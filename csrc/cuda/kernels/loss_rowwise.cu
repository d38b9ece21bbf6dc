// SPDX-License-Identifier: Apache-2.0
// Losses in which all columns of a row take part.
#include "cuda/kernels/loss.cuh"

namespace fusednn::cuda {
namespace {

template <class T, class Rule, class Shape>
__global__ void __launch_bounds__(kThreads) rows(Loss op, Shape shape) {
  rowwise_rows<T, Rule>(op, shape, blockIdx.x);
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
