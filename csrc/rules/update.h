// SPDX-License-Identifier: Apache-2.0
// What all update rules share, and what rides along with every one of them.
//
// The order of one step: g = gradient * scale; clamp(g) if limited; add_l2, add_l1; shrink(p); the
// rule's update; then the moving average of the weights (lerp) and the cleared gradient.
#pragma once

#include <stdint.h>

#include "core/hd.h"
#include "core/math.h"
#include "core/parameter.h"
#include "core/type_list.h"
#include "rules/average.h"
#include "rules/lanes.h"

namespace fusednn::rules {

// Whose formula a rule follows where libraries and textbooks differ.
enum class Convention : int32_t { torch, keras, textbook };

// What most rules have in common.
struct OptimizerRule {
  static constexpr bool layerwise = false;  // true: the step depends on norms over a whole tensor
  // Numbers (not tensors) that live from step to step, their names, and what they start at.
  static constexpr int n_memory = 0;
  static constexpr const char* const* memory_names = nullptr;
  static constexpr const double* memory_start = nullptr;
  // Moves the memory on to step t, before prepare() reads it; R is the type it is kept in.
  template <class Hyper, class R>
  FNN_HD static void remember(const Hyper&, Convention, int64_t /*t*/, R* /*memory*/) {}
  // Both at once: moves the memory, kept as R, on to step t, whose constants it leaves as a flat list.
  template <class Rule, class Hyper, class R>
  FNN_HD static void begin_step(const Hyper& hyper, int32_t convention, int64_t t, R* memory,
                                double* constants) {
    const auto whose = static_cast<Convention>(convention);
    Rule::remember(hyper, whose, t, memory);
    double wide[Rule::n_memory + 1] = {};  // an array of none is no array
    for (int k = 0; k < Rule::n_memory; ++k) wide[k] = memory[k];
    const auto prepared = Rule::prepare(hyper, whose, t, wide);
    __builtin_memcpy(constants, &prepared, sizeof(prepared));
  }
  // What a state tensor starts at.
  template <class Hyper>
  static double initial_state(const Hyper&, Convention, int /*slot*/) {
    return 0;
  }
};

// The gradient of l2 / 2 * p² (coupled weight decay), added to g.
template <class V>
FNN_HD V add_l2(V g, V p, V l2) {
  return fma(l2, p, g);
}

// What an element of a regularised tensor adds to the loss; its gradient is add_l1 and add_l2.
template <class V>
FNN_HD V penalty(V p, V l1, V l2) {
  return l1 * abs(p) + V(0.5) * l2 * p * p;
}

// The gradient of l1 * |p|, added to g.
template <class V>
FNN_HD V add_l1(V g, V p, V l1) {
  return fma(l1, sign(p), g);
}

// Decoupled weight decay (AdamW, Lion and every library's own flag): keep = 1 - lr * decay, rounded
// as one number, as in PyTorch.
template <class V>
FNN_HD V shrink(V p, V keep) {
  return keep * p;
}

// min(1, max_norm / (norm + 1e-6)) as in PyTorch, but NaN for a norm that is not finite: PyTorch's 0
// would silently turn an overflow into a step without gradient.
FNN_HD double clip_coefficient(double norm, double max_norm) {
  const double ratio = max_norm / (norm + 1e-6);
  return (norm - norm) + (ratio < 1 ? ratio : 1);
}

template <int... I>
struct Places {};
template <int N, int... I>
struct PlacesUpTo : PlacesUpTo<N - 1, N - 1, I...> {};
template <int... I>
struct PlacesUpTo<0, I...> {
  using Type = Places<I...>;
};

template <class Rule>
constexpr int n_constants = sizeof(typename Rule::template Constants<double>) / sizeof(double);

// A rule's Constants as lanes of V, from the flat list of numbers that prepare() left.
template <class Rule, class V, int... I>
FNN_HD typename Rule::template Constants<V> constants_from(const double* flat, Places<I...>) {
  return {V(flat[I])...};
}
template <class Rule, class V>
FNN_HD typename Rule::template Constants<V> constants_from(const double* flat) {
  return constants_from<Rule, V>(flat, typename PlacesUpTo<n_constants<Rule>>::Type{});
}

}  // namespace fusednn::rules
