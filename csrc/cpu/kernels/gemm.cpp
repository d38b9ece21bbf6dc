// SPDX-License-Identifier: Apache-2.0
// The loops around the register tiles.
//
// c is cut into panels, as wide as a tile, and blocks of rows. An item is one panel of one block: its
// rows of a stay in the second-level cache while the tiles of the block are computed one after the
// other; then comes the next chunk of k. So c is written while it is in cache, and meets its epilogue
// there. What the next items read is asked for meanwhile.
#include "cpu/kernels/gemm.h"

#include "cpu/kernels/gemm_dots.h"
#include "cpu/kernels/gemm_narrow.h"
#include "cpu/kernels/gemm_plan.h"
#include "cpu/kernels/gemm_shallow.h"
#include "cpu/kernels/gemm_slab.h"
#include "cpu/kernels/gemm_stream.h"

namespace fusednn::FNN_ISA {
namespace {

template <class T>
void run_slabs(const Product<T>& p, const Plan<T>& plan, const Context& context,
               const Packed<T>& packed) {
  const Index chunks = plan.chunks.pieces;
  for (Index c = 0; c < chunks; c += plan.slab_chunks) {
    Slab<T>(p, plan, {c, smaller(c + plan.slab_chunks, chunks)}, context, packed).run();
  }
}

// The rows of this thread, which packs a for itself.
template <class T>
void run_own_rows(const Product<T>& p, const Plan<T>& plan, const Context& context,
                  const Packed<T>& packed) {
  const Range mine = cpu::share(p.m, context);
  Product<T> own = p;
  own.m = mine.end - mine.begin;
  own.row0 = mine.begin;
  own.a += mine.begin * p.a_row;
  own.c += mine.begin * p.c_row;
  if (p.relu_saved != nullptr) own.relu_saved += mine.begin * p.saved_row;
  run_slabs(own, plan.for_rows(own.m), context, packed);
}

// Each part of k alone into the workspace, then their sum in the order of the parts.
template <class T>
void run_parts(const Product<T>& p, const Plan<T>& plan, const Context& context,
               const Packed<T>& packed) {
  T* partial = reinterpret_cast<T*>(context.workspace) + plan.packed_b(context.size);
  const Index size = plan.part_size(p);
  const Split parts(plan.chunks.pieces, plan.parts);

  const Range mine = cpu::share(plan.parts, context);
  for (Index i = mine.begin; i < mine.end; ++i) {
    const Index first = plan.chunks.begin(parts.begin(i));
    Product<T> part = p;
    part.k = plan.chunks.begin(parts.begin(i + 1)) - first;
    part.a += first * p.a_k;
    part.b += first * p.b_k;
    part.c = partial + i * size;
    part.c_row = p.n;
    part.accumulate = false;
    part.bias = nullptr;
    part.column_sums = p.column_sums != nullptr ? part.c + p.m * p.n : nullptr;
    Plan<T> inner = plan;
    inner.chunks = Split(part.k, parts.length(i));
    run_slabs(part, inner, Context{}, packed);
  }
  context.sync();

  using W = Vec<T>;
  const Range rows = cpu::share(p.m + 1, context);
  for (Index r = rows.begin; r < rows.end; ++r) {
    T* to = r < p.m ? p.c + r * p.c_row : p.column_sums;
    if (to == nullptr) continue;
    for (Index j = 0; j < p.n; j += W::size) {
      const int lanes = static_cast<int>(smaller(W::size, p.n - j));
      W sum = W::load(partial + r * p.n + j, lanes);
      for (Index i = 1; i < plan.parts; ++i) {
        sum = sum + W::load(partial + i * size + r * p.n + j, lanes);
      }
      if (r < p.m && p.bias != nullptr) sum = sum + W::load(p.bias + j, lanes);
      if (p.accumulate) sum = W::load(to + j, lanes) + sum;
      sum.store(to + j, lanes);
    }
  }
}

}  // namespace

template <class T>
void multiply(const Product<T>& p, const Context& context) {
  if (p.m <= 0 || p.n <= 0) return;
  if (is_column(p)) return multiply_column(p, context);
  if (has_few_rows(p)) return multiply_few_rows(p, context);
  if (is_stream(p)) return multiply_stream(p, context);
  if (is_transposed_row(p)) {
    if (p.column_sums != nullptr && context.rank == context.size - 1) {
      add_column_sum<T>({p.b, p.b_k}, p.k, p.accumulate, p.column_sums);
    }
    return multiply(as_row(p), context);
  }
  if (is_shallow(p)) return multiply_shallow(p, context);
  if (has_few_steps(p)) return multiply_few_steps(p, context);
  if (has_few_columns(p, kChunk)) return multiply_few_columns(p, context);
  const Plan<T> plan(p);
  alignas(kAlign) T stack[kStackBytes / sizeof(T)];
  T* const workspace = reinterpret_cast<T*>(context.workspace);
  T* const behind_a = workspace + plan.packed_a(context.size);
  Packed<T> packed{workspace, behind_a, stack, plan.packs_own_blocks(context.size)};
  if (packed.own_blocks) packed.a += context.rank * plan.packed_block();
  if (plan.pack_b == PackB::by_item && !plan.panel_on_stack()) {
    packed.panel = behind_a + context.rank * plan.packed_panel();
  }
  if (plan.parts > 1) {
    run_parts(p, plan, context, packed);
  } else if (packed.own_blocks) {
    run_own_rows(p, plan, context, packed);
  } else {
    run_slabs(p, plan, context, packed);
  }
}

template <class T>
Demand multiply_demand(const Product<T>& p, int threads) {
  if (p.m <= 0 || p.n <= 0) return {};
  if (is_transposed_row(p)) return multiply_demand(as_row(p), threads);
  const Plan<T> plan(p);
  // Operations per nanosecond that two FMA units reach at 4 GHz. What lanes of a last vector stay
  // empty takes as long, except where columns are not what lanes are for.
  constexpr double speed = 13.5 * vector_bytes / sizeof(T);
  constexpr Index lanes = Vec<T>::size;
  const bool other_lanes = is_column(p) || has_few_rows(p) || has_few_columns(p, kChunk);
  const Index columns = other_lanes ? p.n : ceil_div(p.n, lanes) * lanes;
  const double flops = 2.0 * double(p.m) * double(columns) * double(p.k);
  // c goes past twice, but once where it is written in the order of memory.
  const double passes = is_shallow(p) ? 1 : 2;
  const double touched =
      double(p.m) * double(p.k) + double(p.k) * double(p.n) + passes * double(p.m) * double(p.n);
  Demand demand;
  demand.nanoseconds = 40 + flops / speed + touched * sizeof(T) / 150;
  demand.workspace_bytes =
      sizeof(T) * size_t(plan.packed_a(threads) + plan.packed_b(threads) + plan.partial(p));
  return demand;
}

template void multiply<float>(const Product<float>&, const Context&);
template void multiply<double>(const Product<double>&, const Context&);
template Demand multiply_demand<float>(const Product<float>&, int);
template Demand multiply_demand<double>(const Product<double>&, int);

}  // namespace fusednn::FNN_ISA
