// SPDX-License-Identifier: Apache-2.0
// The optimizer step: one launch for all tensors, and one pass over memory with everything that rides
// along. Rules that need norms of whole tensors take two, the second of which computes the direction
// again.
#include "cuda/kernels/optimizer_work.cuh"
#include "cuda/kernels/table.h"
#include "rules/optimizers.h"

namespace fusednn::cuda {
namespace {

using rules::Optimizers;

// ---- rules that go element by element ------------------------------------------------------------

template <class Rule, class Layout>
__global__ void __launch_bounds__(kThreads) update(OptimizerStep op, TensorShares shares) {
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    update_range<Rule, Layout>(op, i, begin, end);
  });
}

// ---- rules that need the norms of tensors ----------------------------------------------------------

struct Squares {
  double p, u;
};

template <class Rule, class Layout>
__global__ void __launch_bounds__(kThreads)
    update_moments(OptimizerStep op, TensorShares shares, Squares* sums) {
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    if (left_out(op)) return clear_range<Layout>(op, i, begin, end);
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
    if (op.storage != Storage::native) {
      return op.rounding == Rounding::nearest
                 ? start<Rule, AsHalf<Rounding::nearest>>(op, context)
                 : start<Rule, AsHalf<Rounding::stochastic>>(op, context);
    }
  }
  start<Rule, AsT<T>>(op, context);
}

template <class T, class... Rules>
constexpr RuleTable<OptimizerStep, sizeof...(Rules)> kernels(TypeList<Rules...>) {
  return {{&start_rule<T, Rules>...}};
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
