// SPDX-License-Identifier: Apache-2.0
// Activations on their own, where no matrix product could apply them on the way.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/streams.h"
#include "cpu/kernels/table.h"
#include "rules/activations.h"

namespace fusednn::FNN_ISA {
namespace {

template <class T, class Rule>
void forward(const ActivationForward& op, const Context& context) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.activation.parameters);
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y);
  const bool streams = op.x != op.y && past_caches(2.0 * sizeof(T) * double(op.n));
  const cpu::Range mine = share_lines<T>(op.n, context);
  write_lanes<V>(y, mine.begin, mine.end, streams, [&](Index i, int lanes) FNN_INLINE {
    return Rule::forward(V::load(x + i, lanes), a.list);
  });
  finish_streams(streams);
}

// With `kFromInput`, `saved` is the input of a rule whose derivative is known from the output: to compute
// that once more costs less than another array in memory.
template <class T, class Rule, bool kFromInput>
void backward(const ActivationBackward& op, const Context& context) {
  using V = Vec<T>;
  const ParameterLanes<V> a(op.activation.parameters);
  const T* dy = static_cast<const T*>(op.dy);
  const T* saved = static_cast<const T*>(op.saved);
  T* dx = static_cast<T*>(op.dx);
  // What is read as well is in the cache already.
  const bool fresh = !op.accumulate && op.dx != op.dy && op.dx != op.saved;
  const bool streams = fresh && past_caches(3.0 * sizeof(T) * double(op.n));
  const cpu::Range mine = share_lines<T>(op.n, context);
  write_lanes<V>(dx, mine.begin, mine.end, streams, [&](Index i, int lanes) FNN_INLINE {
    V kept = V::load(saved + i, lanes);
    if constexpr (kFromInput) kept = Rule::forward(kept, a.list);
    V result = V::load(dy + i, lanes) * Rule::derivative(kept, a.list);
    if (op.accumulate) result += V::load(dx + i, lanes);
    return result;
  });
  finish_streams(streams);
}

template <class T, class Rule>
void backward(const ActivationBackward& op, const Context& context) {
  if (op.from_input && Rule::saves == rules::Saves::output) {
    return backward<T, Rule, true>(op, context);
  }
  backward<T, Rule, false>(op, context);
}

template <class T, class... Rules>
constexpr RuleTable<ActivationForward, sizeof...(Rules)> forward_kernels(TypeList<Rules...>) {
  return {{&forward<T, Rules>...}};
}

template <class T, class... Rules>
constexpr RuleTable<ActivationBackward, sizeof...(Rules)> backward_kernels(TypeList<Rules...>) {
  return {{&backward<T, Rules>...}};
}

// A middle between rules that only compare and rules that take exponentials.
template <class T>
Demand elementwise_demand(Index n) {
  return {0.1 * sizeof(T) * double(n), 0};
}

}  // namespace

template <class T>
void run(const ActivationForward& op, const Context& context) {
  constexpr auto kernels = forward_kernels<T>(rules::Activations{});
  kernels.run[op.activation.rule](op, context);
}

template <class T>
void run(const ActivationBackward& op, const Context& context) {
  constexpr auto kernels = backward_kernels<T>(rules::Activations{});
  kernels.run[op.activation.rule](op, context);
}

template <class T>
Demand demand(const ActivationForward& op, int) {
  return elementwise_demand<T>(op.n);
}

template <class T>
Demand demand(const ActivationBackward& op, int) {
  return elementwise_demand<T>(op.n);
}

template void run<float>(const ActivationForward&, const Context&);
template void run<double>(const ActivationForward&, const Context&);
template void run<float>(const ActivationBackward&, const Context&);
template void run<double>(const ActivationBackward&, const Context&);
template Demand demand<float>(const ActivationForward&, int);
template Demand demand<double>(const ActivationForward&, int);
template Demand demand<float>(const ActivationBackward&, int);
template Demand demand<double>(const ActivationBackward&, int);

}  // namespace fusednn::FNN_ISA
