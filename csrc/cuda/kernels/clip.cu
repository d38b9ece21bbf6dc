// SPDX-License-Identifier: Apache-2.0
// The norms that gradient clipping needs, in double, where the square of any float fits and is exact.
#include "cuda/kernels/optimizer_parts.cuh"
#include "cuda/kernels/table.h"
#include "rules/update.h"

namespace fusednn::cuda {
namespace {

using TensorShares = Shares<UpdateTensor>;

// Squared norms: of each share, and where every tensor has a coefficient, of each step of the staircase.
struct Sums {
  double* shares;
  double* steps;  // or null
};

template <class Layout>
__global__ void __launch_bounds__(kThreads)
    sum_squares(ClipCoefficient op, TensorShares shares, Sums sums) {
  const Layout layout(op.storage);
  double all = 0;
  shares.for_each(blockIdx.x, [&](Index i, Index begin, Index end) {
    const void* gradient = op.tensors[i].gradient;
    const double scale = op.groups[op.tensors[i].group].gradient_scale;
    const bool whole = holds_packs(static_cast<const float*>(gradient));
    double square = 0;
    for_spots<Layout::kLanes>(begin, end, whole, [&](const Spot& spot) {
      const auto g = layout.load(gradient, spot);  // 0 beyond the end
#pragma unroll
      for (int q = 0; q < Layout::kLanes; ++q) {
        square = fma(double(g.lane[q]), double(g.lane[q]), square);
      }
    });
    square *= scale * scale;
    all += square;
    if (sums.steps == nullptr) return;
    square = reduce_block(square, Add());
    if (threadIdx.x == 0) sums.steps[blockIdx.x + i] = square;
  });
  all = reduce_block(all, Add());
  if (threadIdx.x == 0) sums.shares[blockIdx.x] = all;
}

// Block 0 finishes the norm of all, the others that of a tensor for each of their warps.
__global__ void __launch_bounds__(kThreads)
    finish(ClipCoefficient op, TensorShares shares, Sums sums) {
  if (blockIdx.x == 0) {
    double mine = 0;
    for (Index share = threadIdx.x; share < shares.shares; share += kThreads) {
      mine += sums.shares[share];
    }
    const double norm = sqrt(reduce_block(mine, Add()));
    if (threadIdx.x != 0) return;
    if (op.global) op.coefficients[0] = rules::clip_coefficient(norm, op.max_norm);
    if (op.norm != nullptr) *op.norm = norm;
    return;
  }
  constexpr int kWarps = kThreads / kWarp;
  const Index i = Index(blockIdx.x - 1) * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  double square = 0;
  if (i < op.n_tensors) {
    shares.for_steps(i, lane, kWarp, [&](Index step) { square += sums.steps[step]; });
  }
  square = reduce_lanes(square, kWarp, Add());
  if (i < op.n_tensors && lane == 0) {
    op.coefficients[i] = rules::clip_coefficient(sqrt(square), op.max_norm);
  }
}

template <class Layout>
void start(const ClipCoefficient& op, const Context& context) {
  const TensorShares shares{op.tensors, op.n_tensors, op.elements, fixed_shares(op.elements)};
  double* room = static_cast<double*>(context.workspace);
  const Sums sums{room, op.global ? nullptr : room + shares.shares};
  launch(sum_squares<Layout>, unsigned(shares.shares), kThreads, 0, context.stream, op, shares,
         sums);
  const unsigned blocks = 1 + (op.global ? 0 : blocks_for(op.n_tensors, kThreads / kWarp));
  launch(finish, blocks, kThreads, 0, context.stream, op, shares, sums);
}

}  // namespace

template <class T>
void run(const ClipCoefficient& op, const Context& context) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (op.storage != Storage::native) return start<AsHalf>(op, context);
  }
  start<AsT<T>>(op, context);
}

template <class T>
size_t workspace(const ClipCoefficient& op) {
  return sizeof(double) *
         (size_t(fixed_shares(op.elements)) + staircase(op.n_tensors, op.elements));
}

template void run<float>(const ClipCoefficient&, const Context&);
template void run<double>(const ClipCoefficient&, const Context&);
template size_t workspace<float>(const ClipCoefficient&);
template size_t workspace<double>(const ClipCoefficient&);

}  // namespace fusednn::cuda
