// SPDX-License-Identifier: Apache-2.0
// What an optimizer step needs of the learning rate and of the count of steps, where these are in device
// memory: the rule's constants, in double as on the host. A thread for each tensor.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"
#include "rules/optimizers.h"

namespace fusednn::cuda {
namespace {

template <class Rule>
__global__ void __launch_bounds__(kThreads) prepare(PrepareUpdate op) {
  const Index i = Index(blockIdx.x) * kThreads + threadIdx.x;
  if (i < op.n) op.prepare<Rule>(i);
}

template <class Rule>
void start(const PrepareUpdate& op, const Context& context) {
  launch(prepare<Rule>, blocks_for(op.n, kThreads), kThreads, 0, context.stream, op);
}

template <class... Rules>
constexpr RuleTable<PrepareUpdate, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start<Rules>...}};
}

}  // namespace

template <class T>
void run(const PrepareUpdate& op, const Context& context) {
  constexpr auto table = kernels(rules::Optimizers{});
  table.run[op.rule](op, context);
}

template <class T>
size_t workspace(const PrepareUpdate&) {
  return 0;
}

template void run<float>(const PrepareUpdate&, const Context&);
template void run<double>(const PrepareUpdate&, const Context&);
template size_t workspace<float>(const PrepareUpdate&);
template size_t workspace<double>(const PrepareUpdate&);

}  // namespace fusednn::cuda
