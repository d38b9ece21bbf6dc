// SPDX-License-Identifier: Apache-2.0
// Activations on their own, where no matrix product could apply them on the way.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"
#include "rules/activations.h"

namespace fusednn::cuda {
namespace {

template <class T, class Rule>
__global__ void __launch_bounds__(kThreads) forward(ActivationForward op) {
  const ParameterLanes<T> a(op.activation.parameters);
  const T* const in[] = {static_cast<const T*>(op.x)};
  map(op.n, in, static_cast<T*>(op.y), [&](const T(&v)[1]) { return Rule::forward(v[0], a.list); });
}

template <class T, class Rule, bool kFromInput>
__global__ void __launch_bounds__(kThreads) backward(ActivationBackward op) {
  const ParameterLanes<T> a(op.activation.parameters);
  T* dx = static_cast<T*>(op.dx);
  const bool accumulate = op.accumulate;
  const T* const in[] = {static_cast<const T*>(op.dy), static_cast<const T*>(op.saved),
                         accumulate ? dx : nullptr};
  map(op.n, in, dx, [&](const T(&v)[3]) {
    T kept = v[1];
    if constexpr (kFromInput) kept = Rule::forward(kept, a.list);
    const T result = v[0] * Rule::derivative(kept, a.list);
    return accumulate ? v[2] + result : result;
  });
}

template <class T, class Rule>
void start(const ActivationForward& op, const Context& context) {
  launch(forward<T, Rule>, blocks_for_map(op.n, context), kThreads, 0, context.stream, op);
}

template <class T, class Rule>
void start(const ActivationBackward& op, const Context& context) {
  auto* kernel = backward<T, Rule, false>;
  if constexpr (Rule::saves == rules::Saves::output) {
    if (op.from_input) kernel = backward<T, Rule, true>;
  }
  launch(kernel, blocks_for_map(op.n, context), kThreads, 0, context.stream, op);
}

template <class T, class Op, class... Rules>
constexpr RuleTable<Op, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start<T, Rules>...}};
}

template <class T, class Op>
void run_rule(const Op& op, const Context& context) {
  constexpr auto table = kernels<T, Op>(rules::Activations{});
  table.run[op.activation.rule](op, context);
}

}  // namespace

// clang-format off
template <class T> void run(const ActivationForward& op, const Context& c)  { run_rule<T>(op, c); }
template <class T> void run(const ActivationBackward& op, const Context& c) { run_rule<T>(op, c); }
template <class T> size_t workspace(const ActivationForward&)  { return 0; }
template <class T> size_t workspace(const ActivationBackward&) { return 0; }

template void run<float>(const ActivationForward&, const Context&);
template void run<double>(const ActivationForward&, const Context&);
template void run<float>(const ActivationBackward&, const Context&);
template void run<double>(const ActivationBackward&, const Context&);
template size_t workspace<float>(const ActivationForward&);
template size_t workspace<double>(const ActivationForward&);
template size_t workspace<float>(const ActivationBackward&);
template size_t workspace<double>(const ActivationBackward&);
// clang-format on

}  // namespace fusednn::cuda
