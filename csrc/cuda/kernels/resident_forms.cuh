// SPDX-License-Identifier: Apache-2.0
// What one block makes of each command that it takes: mostly what the blocks of an ordinary launch do,
// one after the other. All threads come to all of these; the caller lets them meet afterwards.
//
// form_of(op) says whether the block takes a command, and how much shared memory and time it needs.
#pragma once

#include "cuda/kernels/clip.cuh"
#include "cuda/kernels/dropout.cuh"
#include "cuda/kernels/loss.cuh"
#include "cuda/kernels/optimizer_work.cuh"
#include "cuda/kernels/penalty.cuh"
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/resident.h"
#include "cuda/kernels/resident_product.cuh"
#include "cuda/kernels/rows.cuh"
#include "cuda/kernels/softmax.cuh"

namespace fusednn::cuda {

// Before the first run, what block_of() makes of these takes the place of their arguments ...
using ResidentBlocks = TypeList<DenseForward, DenseBackwardInput, DenseBackwardWeights,
                                ActivationForward, ActivationBackward, GatherRows>;
// ... and these run as they are, by run_block().
using ResidentPlain =
    TypeList<Loss, Sum, BeginStep, OptimizerStep, Dropout, Accuracy, SoftmaxForward,
             SoftmaxBackward, CopyRows, Fill, ClipCoefficient, Penalty, PenaltyGradient>;

// Predictions in cycles: a command in which threads meet once, elements that all threads go over, and
// reading memory outside, one access after the other.
constexpr double kCommandCycles = 250, kElementCycles = 0.12, kOutsideCycles = 350;

inline ResidentForm taken(double elements, double more_cycles = 0, Index scratch_numbers = 0) {
  return {true, size_t(scratch_numbers) * sizeof(double),
          kCommandCycles + kElementCycles * elements + more_cycles};
}

// ---- products ----------------------------------------------------------------------------------

// Those that an ordinary launch computes in its smallest tiles without dividing k.
inline ResidentForm form_of_product(const DenseProduct<float>& dense) {
  constexpr double kProductsPerCycle = 64, kStagedPerCycle = 32;
  const Product<float>& p = dense.product;
  const GemmPlan plan = plan_for(p, dense.columns);
  const bool small = plan.tile.m == kSmallTile.m || plan.tile.m == kThinTile.m;
  const bool whole = plan.parts == 1 && plan.column_parts == 1;
  if (p.operands != Storage::native || !small || !whole) return {};
  const BlockProduct block(dense);
  const double staged =
      (block.stages_a ? double(p.m * p.k) : 0) + (block.stages_b ? double(p.k * p.n) : 0);
  const double tiles = double(block.tiles) * kQuad * kQuad;
  ResidentForm form =
      taken(double(p.m * p.n), tiles * double(p.k) / kProductsPerCycle + staged / kStagedPerCycle);
  form.scratch = size_t(block.scratch_end()) * sizeof(float);
  return form;
}
// clang-format off
inline ResidentForm form_of(const DenseForward& op)         { return form_of_product(parse<float>(op)); }
inline ResidentForm form_of(const DenseBackwardInput& op)   { return form_of_product(parse<float>(op)); }
inline ResidentForm form_of(const DenseBackwardWeights& op) { return form_of_product(parse<float>(op)); }
FNN_HD BlockProduct block_of(const DenseForward& op)         { return BlockProduct(parse<float>(op)); }
FNN_HD BlockProduct block_of(const DenseBackwardInput& op)   { return BlockProduct(parse<float>(op)); }
FNN_HD BlockProduct block_of(const DenseBackwardWeights& op) { return BlockProduct(parse<float>(op)); }
// clang-format on

// ---- elements ------------------------------------------------------------------------------------

// An activation, or its derivative, as the epilogue of a product that is there already.
struct BlockElements {
  Finish<float> finish;
  const float* x;
  Index n;
  bool quads;

  FNN_HD explicit BlockElements(const ActivationForward& op) : BlockElements(op.x, op.y, op.n) {
    set(op.activation);
  }
  FNN_HD explicit BlockElements(const ActivationBackward& op) : BlockElements(op.dy, op.dx, op.n) {
    finish.saved = static_cast<const float*>(op.saved);
    finish.accumulate = op.accumulate;
    set(op.activation);
  }

 private:
  FNN_HD BlockElements(const void* from, void* to, Index count)
      : x(static_cast<const float*>(from)), n(count), quads(false) {
    finish.y = static_cast<float*>(to);
  }
  FNN_HD void set(const ActivationSpec& activation) {
    finish.set(activation);
    quads = finish.quads && holds_packs(x);
  }
};

inline ResidentForm form_of(const ActivationForward& op) { return taken(double(op.n)); }
inline ResidentForm form_of(const ActivationBackward& op) {
  return op.from_input ? ResidentForm{} : taken(double(op.n));
}

FNN_HD BlockElements block_of(const ActivationForward& op) { return BlockElements(op); }
FNN_HD BlockElements block_of(const ActivationBackward& op) { return BlockElements(op); }

__device__ inline void finish_elements(const BlockElements& block) {
  for (Index col = Index(threadIdx.x) * kQuad; col < block.n; col += kThreads * kQuad) {
    const int count = int(smaller(block.n - col, kQuad));
    finish_one(block.finish, 0, col, count,
               load(block.x, Place{0, col, count, block.quads && count == kQuad}));
  }
}

inline ResidentForm form_of(const Dropout& op) { return taken(8 * double(op.n)); }
__device__ inline void run_block(const Dropout& op, void*) {
  const bool quads =
      holds_packs(static_cast<const float*>(op.x)) && holds_packs(static_cast<const float*>(op.y));
  with_noise<float>(op, [&](const auto& change) {
    for (Index block = 0; block < blocks_of(op); ++block) {
      change_elements<float>(op, change, quads, block);
    }
  });
}

inline ResidentForm form_of(const Fill& op) { return taken(double(op.n)); }
__device__ inline void run_block(const Fill& op, void*) {
  const float value(op.value);
  const float* const in[] = {nullptr};
  map(op.n, in, static_cast<float*>(op.dst), [&](const float (&)[1]) { return value; });
}

// ---- rows ----------------------------------------------------------------------------------------

inline ResidentForm form_of(const CopyRows& op) { return taken(double(op.rows * op.cols)); }
__device__ inline void run_block(const CopyRows& op, void*) {
  if (in_quads<float>(op)) {
    copy_units<float, true>(op, grid_of<float, true>(op));
  } else {
    copy_units<float, false>(op, grid_of<float, false>(op));
  }
}

// A gather by some warps, while others do other ones: the order, then the row itself, come from outside,
// and whoever reads them waits.
struct BlockGather {
  GatherRows op;
  int first = 0, threads = kThreads;
};

// Some threads of a block as a grid over all units.
struct CrewGrid {
  Index rows, units;
  int rank, size;
  template <class Body>
  __device__ void for_each(Body body) const {
    const Divisor across{int(units)};
    for (int i = rank; i < int(rows * units); i += size) {
      const int row = across.quotient(i);
      body(Index(row), Index(i - row * int(units)));
    }
  }
};

inline ResidentForm form_of(const GatherRows& op) {
  constexpr Index kMost = 1 << 16;  // bytes: Divisor is for small numbers
  if (op.rows * op.row_bytes > kMost) return {};
  return taken(double(op.rows * op.row_bytes) / 4,
               op.order != nullptr ? 2 * kOutsideCycles : kOutsideCycles);
}
FNN_HD BlockGather block_of(const GatherRows& op) { return {op}; }

template <class Unit>
__device__ void gather_by_crew(const BlockGather& block, int rank) {
  const RowGrid grid = grid_of<Unit>(block.op);
  gather_units<Unit>(block.op, CrewGrid{grid.rows, grid.units, rank, block.threads});
}
__device__ inline void gather_block(const BlockGather& block) {
  const int rank = int(threadIdx.x) - block.first;
  if (rank < 0 || rank >= block.threads) return;
  if (fits<uint4>(block.op)) return gather_by_crew<uint4>(block, rank);
  if (fits<uint32_t>(block.op)) return gather_by_crew<uint32_t>(block, rank);
  gather_by_crew<uint8_t>(block, rank);
}

// Rows have a few lanes of a warp each.
constexpr Index kMostColumns = 4 * kWarp;
inline ResidentForm form_of_rows(Index rows, Index cols) {
  constexpr double kRowCycles = 400;
  if (cols > kMostColumns) return {};
  const Index threads = rows * lanes_for(cols);
  return taken(double(rows * cols), kRowCycles * double(divide_up(threads, kThreads)));
}

// f(shape), in registers where a row is needed again.
template <class F>
__device__ void with_short_rows(Index cols, F f) {
  if (cols <= kWarp) return f(RowShape<LaneTeam, 1>{{lanes_for(cols)}});
  f(RowShape<LaneTeam, 4>{{kWarp}});
}

template <class Op>
__device__ void softmax_block(const Op& op) {
  with_short_rows(op.cols, [&](auto shape) {
    for (Index block = 0; block < shape.blocks(op.rows); ++block) {
      softmax_rows<float>(op, shape, block);
    }
  });
}
inline ResidentForm form_of(const SoftmaxForward& op) { return form_of_rows(op.rows, op.cols); }
inline ResidentForm form_of(const SoftmaxBackward& op) { return form_of_rows(op.rows, op.cols); }
__device__ inline void run_block(const SoftmaxForward& op, void*) { softmax_block(op); }
__device__ inline void run_block(const SoftmaxBackward& op, void*) { softmax_block(op); }

inline ResidentForm form_of(const Loss& op) { return form_of_rows(op.rows, op.cols); }
__device__ inline void run_block(const Loss& op, void*) {
  constexpr int kPointwise = rules::PointwiseLosses::size;
  if (op.rule < kPointwise) {
    const RowShape<LaneTeam, 0> shape{{lanes_for(op.cols)}};
    with_rule(rules::PointwiseLosses{}, op.rule, [&](auto rule) {
      for (Index block = 0; block < shape.blocks(op.rows); ++block) {
        pointwise_rows<float, decltype(rule)>(op, shape.team, block);
      }
    });
    return;
  }
  with_rule(rules::RowwiseLosses{}, op.rule - kPointwise, [&](auto rule) {
    with_short_rows(op.cols, [&](auto shape) {
      for (Index block = 0; block < shape.blocks(op.rows); ++block) {
        rowwise_rows<float, decltype(rule)>(op, shape, block);
      }
    });
  });
}

inline ResidentForm form_of(const Accuracy& op) { return form_of_rows(op.rows, op.cols); }
__device__ inline void run_block(const Accuracy& op, void*) {
  const RowShape<LaneTeam, 0> shape{{lanes_for(op.cols)}};
  for (Index block = 0; block < shape.blocks(op.rows); ++block) {
    accuracy_rows<float>(op, shape.team, block);
  }
}

inline ResidentForm form_of(const Sum& op) {
  return op.n <= kSumChunk ? taken(double(op.n), kCommandCycles) : ResidentForm{};
}
__device__ inline void run_block(const Sum& op, void*) {
  const double sum = sum_of_chunk(static_cast<const float*>(op.values), op.n, 0);
  if (threadIdx.x == 0) *op.total += sum;
}

// ---- the update ----------------------------------------------------------------------------------

inline ResidentForm form_of(const BeginStep& op) {
  return taken(double(op.n_groups), kCommandCycles + (op.table != nullptr ? kOutsideCycles : 0));
}
// The clock is moved on when all leave, and the last warp brings the row while the others go on.
__device__ inline void run_block(const BeginStep& op, void*) {
  const Index row = op.clock->row;
  __syncthreads();  // the row is known to all
  if (threadIdx.x == 0) op.clock->advance(op.rows, op.trains);
  __syncthreads();
  const int rank = int(threadIdx.x) - (kThreads - kWarp);
  if (rank >= 0) op.bring(row, rank, kWarp);
}

inline ResidentForm form_of(const OptimizerStep& op) {
  constexpr double kUpdateCycles = 0.25, kTensorCycles = 150;
  if (op.storage != Storage::native || is_layerwise(op.rule, rules::Optimizers{})) return {};
  return taken(0, kUpdateCycles * double(op.elements) + kTensorCycles * double(op.n_tensors));
}
__device__ inline void run_block(const OptimizerStep& op, void*) {
  with_rule(rules::Optimizers{}, op.rule, [&](auto rule) {
    if constexpr (!decltype(rule)::layerwise) {
      for (Index i = 0; i < op.n_tensors; ++i) {
        update_range<decltype(rule), AsT<float>>(op, i, 0, op.tensors[i].n);
      }
    }
  });
}

// Sums over all elements of a list in shares, as in the ordinary launch.
inline ResidentForm form_of_shares(Index elements) {
  const Index shares = fixed_shares(elements);
  return taken(double(elements), kCommandCycles * double(shares + 1), shares);
}

inline ResidentForm form_of(const ClipCoefficient& op) {
  if (op.storage != Storage::native || !op.global) return {};
  return form_of_shares(op.elements);
}
__device__ inline void run_block(const ClipCoefficient& op, void* scratch) {
  const TensorShares shares{op.tensors, op.n_tensors, op.elements, fixed_shares(op.elements)};
  const SquareSums sums{static_cast<double*>(scratch), nullptr};
  for (Index share = 0; share < shares.shares; ++share) {
    sum_squares_of_share<AsT<float>>(op, shares, share, sums);
  }
  __syncthreads();
  finish_norm(op, shares, sums);
}

inline ResidentForm form_of(const Penalty& op) { return form_of_shares(op.elements); }
__device__ inline void run_block(const Penalty& op, void* scratch) {
  const TermShares shares{op.terms, op.n_terms, op.elements, fixed_shares(op.elements)};
  double* sums = static_cast<double*>(scratch);
  for (Index share = 0; share < shares.shares; ++share) {
    add_terms_of_share<float>(shares, share, sums);
  }
  __syncthreads();
  add_up_shares(sums, shares.shares, op);
}

inline ResidentForm form_of(const PenaltyGradient& op) { return taken(double(op.n)); }
__device__ inline void run_block(const PenaltyGradient& op, void*) {
  add_penalty_gradient<float>(op);
}

}  // namespace fusednn::cuda
