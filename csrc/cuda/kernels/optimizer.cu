// SPDX-License-Identifier: Apache-2.0
// The optimizer step: one launch for all tensors, and one pass over memory with everything that rides
// along. Rules that need norms of whole tensors take two, the second of which computes the direction
// again.
#include "cuda/kernels/optimizer_parts.cuh"
#include "cuda/kernels/table.h"
#include "rules/optimizers.h"

namespace fusednn::cuda {
namespace {

using rules::Optimizers;

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
        layout(op.storage),
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
  __device__ void store_states(const Spot& spot, const Elements& e) const {
#pragma unroll
    for (int k = 0; k < Rule::n_states; ++k) layout.store(tensor.state[k], spot, e.s[k]);
  }
  // The new parameter, its rounded copy, and the moving average of the one that is not rounded.
  __device__ void store_parameter(const Spot& spot, const Lanes& p) const {
    if constexpr (Layout::kNarrow) {
      if (tensor.master != nullptr) store(tensor.master, spot, p);
    }
    layout.store(tensor.parameter, spot, p);
    if (tensor.ema == nullptr) return;
    Lanes ema = load<kLanes>(static_cast<const T*>(tensor.ema), spot);
#pragma unroll
    for (int q = 0; q < kLanes; ++q) {
      ema.lane[q] = rules::lerp(ema.lane[q], p.lane[q], ema_weight);
    }
    store(static_cast<T*>(tensor.ema), spot, ema);
  }
  __device__ void clear_gradient(const Spot& spot) const {
    if (clears) layout.store(tensor.gradient, spot, Lanes{});
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
#pragma unroll
    for (int k = 0; k < Rule::n_states; ++k) e.s[k] = layout.stored(e.s[k]);
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

// ---- rules that go element by element ------------------------------------------------------------

using TensorShares = Shares<UpdateTensor>;

__device__ inline bool left_out(const OptimizerStep& op) {
  return op.found_inf != nullptr && *op.found_inf != 0;
}

template <class Rule, class Layout>
__global__ void __launch_bounds__(kThreads) update(OptimizerStep op, TensorShares shares) {
  if (left_out(op)) return;
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    const Work<Rule, Layout> work(op, i);
    for_spots<Layout::kLanes>(begin, end, work.whole, [&](const Spot& spot) { work.update(spot); });
  });
}

// ---- rules that need the norms of tensors ----------------------------------------------------------

struct Squares {
  double p, u;
};

template <class Rule, class Layout>
__global__ void __launch_bounds__(kThreads)
    update_moments(OptimizerStep op, TensorShares shares, Squares* sums) {
  if (left_out(op)) return;
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    const Work<Rule, Layout> work(op, i);
    double squares[2] = {};
    for_spots<Layout::kLanes>(begin, end, work.whole,
                              [&](const Spot& spot) { work.update_moments(spot, squares); });
    const double p = reduce_block(squares[0], Add()), u = reduce_block(squares[1], Add());
    if (threadIdx.x == 0) sums[blockIdx.x + i] = {p, u};
  });
}

template <class Rule, class Layout>
__global__ void __launch_bounds__(kThreads)
    apply_direction(OptimizerStep op, TensorShares shares, const Squares* sums) {
  if (left_out(op)) return;
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    double square_p = 0, square_u = 0;
    shares.for_steps(i, threadIdx.x, kThreads, [&](Index step) {
      square_p += sums[step].p;
      square_u += sums[step].u;
    });
    square_p = reduce_block(square_p, Add());
    square_u = reduce_block(square_u, Add());
    const Work<Rule, Layout> work(op, i);
    const auto ratio =
        static_cast<typename Layout::Lane>(Rule::trust_ratio(sqrt(square_p), sqrt(square_u)));
    for_spots<Layout::kLanes>(begin, end, work.whole,
                              [&](const Spot& spot) { work.apply(spot, ratio); });
  });
}

// ---- which kernel ----------------------------------------------------------------------------------

template <class Rule, class Layout>
void start(const OptimizerStep& op, const Context& context) {
  TensorShares shares{op.tensors, op.n_tensors, op.elements, fixed_shares(op.elements)};
  if constexpr (Rule::layerwise) {
    auto* sums = static_cast<Squares*>(context.workspace);
    launch(update_moments<Rule, Layout>, unsigned(shares.shares), kThreads, 0, context.stream, op,
           shares, sums);
    launch(apply_direction<Rule, Layout>, unsigned(shares.shares), kThreads, 0, context.stream, op,
           shares, sums);
  } else {
    constexpr Index kPerMultiprocessor = 12;  // rounds of 2, 3 or 4 that run side by side
    shares.shares =
        smaller(divide_up(op.elements, kPiece), kPerMultiprocessor * context.multiprocessors);
    launch(update<Rule, Layout>, unsigned(shares.shares), kThreads, 0, context.stream, op, shares);
  }
}

template <class T, class Rule>
void start_rule(const OptimizerStep& op, const Context& context) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (op.storage != Storage::native) return start<Rule, AsHalf>(op, context);
  }
  start<Rule, AsT<T>>(op, context);
}

template <class T, class... Rules>
constexpr RuleTable<OptimizerStep, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start_rule<T, Rules>...}};
}

template <class... Rules>
bool is_layerwise(int32_t rule, TypeList<Rules...>) {
  constexpr bool list[] = {Rules::layerwise...};
  return list[rule];
}

}  // namespace

template <class T>
void run(const OptimizerStep& op, const Context& context) {
  constexpr auto table = kernels<T>(Optimizers{});
  table.run[op.rule](op, context);
}

template <class T>
size_t workspace(const OptimizerStep& op) {
  if (!is_layerwise(op.rule, Optimizers{})) return 0;
  return sizeof(Squares) * staircase(op.n_tensors, op.elements);
}

template void run<float>(const OptimizerStep&, const Context&);
template void run<double>(const OptimizerStep&, const Context&);
template size_t workspace<float>(const OptimizerStep&);
template size_t workspace<double>(const OptimizerStep&);

}  // namespace fusednn::cuda
