// SPDX-License-Identifier: Apache-2.0
// What the optimizer step does to some neighbouring elements of a tensor.
#pragma once

#include "cuda/kernels/optimizer_parts.cuh"
#include "rules/optimizers.h"

namespace fusednn::cuda {

// What may change a gradient or a parameter before its rule sees it.
template <class T>
struct Decorations {
  T scale, limit, l2, l1, keep;
  bool limits, has_l2, has_l1, shrinks;

  __device__ Decorations(const UpdateGroup& g, double coefficient)
      : scale(T(g.gradient_scale * coefficient)),
        limit(T(g.clip_value)),
        l2(T(g.l2)),
        l1(T(g.l1)),
        keep(T(1 - g.shrink)),
        limits(g.clip_value < kInfinity),
        has_l2(g.l2 != 0),
        has_l1(g.l1 != 0),
        shrinks(g.shrink != 0) {}

  __device__ T gradient(T g, T p) const {
    g *= scale;
    if (limits) g = rules::clamp(g, -limit, limit);
    if (has_l2) g = rules::add_l2(g, p, l2);
    if (has_l1) g = rules::add_l1(g, p, l1);
    return g;
  }
  __device__ T parameter(T p) const { return shrinks ? rules::shrink(p, keep) : p; }
};

// One tensor, ready for a rule; Layout is how it lies in memory.
template <class Rule, class Layout>
struct Work {
  using T = typename Layout::Lane;
  using Lanes = typename Layout::Lanes;
  static constexpr int kLanes = Layout::kLanes;
  using Constants = typename Rule::template Constants<T>;
  static_assert(sizeof(typename Rule::template Constants<double>) ==
                rules::n_constants<Rule> * sizeof(double));
  static_assert(rules::n_constants<Rule> <= kMaxConstants, "raise kMaxConstants");
  static_assert(Rule::n_states <= kMaxStates, "raise kMaxStates");

  const UpdateTensor tensor;
  const Layout layout;
  const Constants constants;
  const Decorations<T> decorations;
  const T ema_weight;
  const bool whole, clears;

  __device__ Work(const OptimizerStep& op, Index i)
      : Work(op, op.tensors[i], op.groups[op.tensors[i].group],
             op.coefficients != nullptr ? op.coefficients[op.coefficient_per_tensor ? i : 0] : 1) {}
  __device__ Work(const OptimizerStep& op, const UpdateTensor& t, const UpdateGroup& g,
                  double coefficient)
      : tensor(t),
        layout(op, g, t),
        constants(rules::constants_from<Rule, T>(g.constants)),
        decorations(g, coefficient),
        ema_weight(T(1 - g.ema_decay)),
        whole(all_hold_packs(t)),
        clears(op.clear_gradient) {}

  // Parameter, gradient and state of some neighbours.
  struct Elements {
    Lanes p, g;
    Lanes s[kMaxStates];
  };
  __device__ void load_parameter(const Spot& spot, Elements& e) const {
    if constexpr (Layout::kNarrow) {
      if (tensor.master != nullptr) {
        e.p = load<kLanes>(tensor.master, spot);
        return;
      }
    }
    e.p = layout.load(tensor.parameter, spot);
  }
  __device__ void load_states(const Spot& spot, Elements& e) const {
#pragma unroll
    for (int k = 0; k < Rule::n_states; ++k) e.s[k] = layout.load(tensor.state[k], spot);
  }
  // Leaves what was stored, perhaps rounded.
  __device__ void store_states(const Spot& spot, Elements& e) const {
#pragma unroll
    for (int k = 0; k < Rule::n_states; ++k) {
      e.s[k] = layout.store(tensor.state[k], spot, e.s[k], 1 + k);
    }
  }
  // The new parameter, its rounded copy, and the moving average of the one that is not rounded.
  __device__ void store_parameter(const Spot& spot, const Lanes& p) const {
    if constexpr (Layout::kNarrow) {
      if (tensor.master != nullptr) store(tensor.master, spot, p);
    }
    layout.store(tensor.parameter, spot, p, 0);
    if (tensor.ema == nullptr) return;
    Lanes ema = load<kLanes>(static_cast<const T*>(tensor.ema), spot);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      ema.lane[q] = rules::lerp(ema.lane[q], p.lane[q], ema_weight);
    }
    store(static_cast<T*>(tensor.ema), spot, ema);
  }
  __device__ void clear_gradient(const Spot& spot) const {
    using Stored = typename Layout::Stored;
    if (clears) store(static_cast<Stored*>(tensor.gradient), spot, Pack<Stored, kLanes>{});
  }

  __device__ void update(const Spot& spot) const {
    Elements e = {};
    load_parameter(spot, e);
    e.g = layout.load(tensor.gradient, spot);
    load_states(spot, e);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      T s[kMaxStates];
#pragma unroll
      for (int k = 0; k < Rule::n_states; ++k) s[k] = e.s[k].lane[q];
      T& p = e.p.lane[q];
      const T g = decorations.gradient(e.g.lane[q], p);
      p = Rule::update(constants, decorations.parameter(p), g, s);
#pragma unroll
      for (int k = 0; k < Rule::n_states; ++k) e.s[k].lane[q] = s[k];
    }
    store_states(spot, e);
    store_parameter(spot, e.p);
    clear_gradient(spot);
  }

  // First pass of a layerwise rule: the moments, and what they and the parameter add to the squared
  // norms. The second pass sees moments as they are stored, perhaps rounded to zero: so do the norms.
  __device__ void update_moments(const Spot& spot, double (&squares)[2]) const {
    Elements e = {};
    load_parameter(spot, e);
    e.g = layout.load(tensor.gradient, spot);
    load_states(spot, e);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      T s[kMaxStates];
#pragma unroll
      for (int k = 0; k < Rule::n_states; ++k) s[k] = e.s[k].lane[q];
      Rule::moments(constants, decorations.gradient(e.g.lane[q], e.p.lane[q]), s);
#pragma unroll
      for (int k = 0; k < Rule::n_states; ++k) e.s[k].lane[q] = s[k];
    }
    store_states(spot, e);
    clear_gradient(spot);
    T square_p(0), square_u(0);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      const T p = decorations.parameter(e.p.lane[q]), u = direction(e, p, q);
      square_p = q < spot.count ? fma(p, p, square_p) : square_p;
      square_u = q < spot.count ? fma(u, u, square_u) : square_u;
    }
    squares[0] += double(square_p);
    squares[1] += double(square_u);
  }

  // Second pass of a layerwise rule.
  __device__ void apply(const Spot& spot, T ratio) const {
    Elements e = {};
    load_parameter(spot, e);
    load_states(spot, e);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      const T p = decorations.parameter(e.p.lane[q]);
      e.p.lane[q] = Rule::apply(constants, p, direction(e, p, q), ratio);
    }
    store_parameter(spot, e.p);
  }

 private:
  __device__ T direction(const Elements& e, T p, int q) const {
    T s[kMaxStates];
#pragma unroll
    for (int k = 0; k < Rule::n_states; ++k) s[k] = e.s[k].lane[q];
    return Rule::direction(constants, p, s);
  }
};

__device__ inline bool left_out(const OptimizerStep& op) {
  return op.found_inf != nullptr && *op.found_inf != 0;
}

// All that becomes of the elements [begin, end) of tensor i in a step that is left out.
template <class Layout>
__device__ void clear_range(const OptimizerStep& op, Index i, Index begin, Index end) {
  if (!op.clear_gradient) return;
  auto* gradient = static_cast<typename Layout::Stored*>(op.tensors[i].gradient);
#pragma unroll 1
  for (Index k = begin + threadIdx.x; k < end; k += kThreads) gradient[k] = 0;
}

template <class... Rules>
bool is_layerwise(int32_t rule, TypeList<Rules...>) {
  constexpr bool list[] = {Rules::layerwise...};
  return list[rule];
}

// The elements [begin, end) of tensor i, for a rule that goes element by element.
template <class Rule, class Layout>
__device__ void update_range(const OptimizerStep& op, Index i, Index begin, Index end) {
  if (left_out(op)) return clear_range<Layout>(op, i, begin, end);
  const Work<Rule, Layout> work(op, i);
  for_spots<Layout::kLanes>(begin, end, work.whole, [&](const Spot& spot) { work.update(spot); });
}

}  // namespace fusednn::cuda
