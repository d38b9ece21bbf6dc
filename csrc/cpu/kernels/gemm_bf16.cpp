// SPDX-License-Identifier: Apache-2.0
// The loops around the register tiles of a bfloat16 product. They are those of gemm.cpp, made simpler
// by what rounding imposes: a is always packed, and so is b, unless a single tile reads it.
#include "cpu/kernels/gemm_bf16.h"

#include "cpu/kernels/gemm_bf16_micro.h"
#include "cpu/kernels/gemm_bf16_pairs.h"
#include "cpu/kernels/gemm_cut.h"
#include "cpu/kernels/gemm_dots.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kWord = sizeof(uint32_t);
constexpr Index kChunkPairs = 512;        // so a layer of up to 1024 goes through c once
constexpr Index kBlockBytes = 256 << 10;  // of packed a: a quarter of a second-level cache
constexpr Index kPieceBytes = 16 << 10;   // of a panel that is packed just before its only use
constexpr Index kLittleWork = 1 << 21;    // multiplications

enum class PackB {
  never,     // tiles round the rows of b themselves
  by_piece,  // each item for itself, a few pairs at a time, because it has a single tile
  by_item,   // each item for itself, because no other one reads this panel
  at_once,   // by the whole team, before the items
};

// How a product is cut: c into panels of columns and blocks of rows, k into chunks. Only the chunks
// matter to the bits.
struct Plan {
  Split rows;         // into tiles
  Split blocks;       // of tiles
  Split chunks;       // of the pairs of k
  Index slab_chunks;  // chunks that are packed at a time
  Index width;        // columns of a panel
  Index panels;
  Index round_panels;  // panels that are packed at a time
  PackB pack_b;
  bool one_bias = false;  // all columns of c have the same

  Plan(const Product<float>& p, bool rounds_fast)
      : rows(p.m, ceil_div(p.m, kTileRows)),
        blocks(rows.pieces, 1),
        chunks(pairs_in(p.k), larger(1, ceil_div(pairs_in(p.k), kChunkPairs))),
        slab_chunks(1),
        width(widest_tile(p.m) * Vec<float>::size),
        panels(ceil_div(p.n, width)),
        round_panels(panels),
        pack_b(PackB::at_once) {
    // Without c to add to, finish needs complete sums.
    if (p.finish != nullptr && p.accumulate) slab_chunks = chunks.pieces;

    blocks = split_into_blocks(p, rows.pieces, panels,
                               {slab_pairs() * kWord * kTileRows, kBlockBytes, kLittleWork});
    if (blocks.pieces > 1) {
      round_panels = smaller(panels, larger(1, kPackedBytesB / (packed_panel() * kWord)));
    } else if (rows.pieces > 1) {
      pack_b = PackB::by_item;
    } else if (rounds_fast && p.b_col == 1) {
      pack_b = PackB::never;
    } else {
      pack_b = PackB::by_piece;
    }
  }

  Index slab_pairs() const { return slab_chunks * (chunks.size + 1); }
  Index row(Index tile) const { return rows.begin(tile); }

  // The layout of the workspace, in words: the panels of b for all, then of each thread its block of
  // a and, where nobody else reads it, its panel of b.
  static Index aligned(Index n) { return ceil_div(n, kAlign / kWord) * (kAlign / kWord); }
  Index packed_block() const { return aligned((blocks.size + 1) * (rows.size + 1) * slab_pairs()); }
  Index packed_panel() const { return aligned(slab_pairs() * width); }
  Index piece_pairs() const { return kPieceBytes / (width * kWord); }
  Index shared() const { return pack_b == PackB::at_once ? round_panels * packed_panel() : 0; }
  Index own_panel() const {
    return pack_b == PackB::by_item    ? packed_panel()
           : pack_b == PackB::by_piece ? kPieceBytes / kWord
                                       : 0;
  }
  Index own() const { return packed_block() + own_panel(); }
};

// Some chunks of k, and the elements they cover.
struct Slab {
  Range chunks;
  Index k, depth;

  Slab(const Product<float>& p, const Plan& plan, Range c)
      : chunks(c),
        k(2 * plan.chunks.begin(c.begin)),
        depth(smaller(2 * plan.chunks.begin(c.end), p.k) - k) {}
};

template <class Dot>
void pack_panel(const Product<float>& p, const Plan& plan, Index panel, Index k, Index depth,
                uint32_t* dst) {
  const Index col = panel * plan.width;
  const Index cols = smaller(plan.width, p.n - col);
  const float* b = p.b + k * p.b_k + col * p.b_col;
  if (p.b_col == 1) {
    pack_pairs_straight<Dot>({b, p.b_k}, depth, cols, dst, plan.width, true);
  } else {
    pack_pairs_transposed<Dot>({b, p.b_col}, cols, depth, dst, plan.width, true);
  }
}

// Several panels, many at a time, so that long runs of memory are read.
template <class Dot>
void pack_panels(const Product<float>& p, const Plan& plan, Range panels, const Slab& slab,
                 uint32_t* dst) {
  const Index together = p.b_col == 1 ? 32 : 1;
  const Index step = p.b_col == 1 ? 8 : slab.depth;
  for (Index first = panels.begin; first < panels.end; first += together) {
    const Index end = smaller(first + together, panels.end);
    for (Index k = 0; k < slab.depth; k += step) {
      const Index some = smaller(step, slab.depth - k);
      for (Index j = first; j < end; ++j) {
        uint32_t* to = dst + (j - panels.begin) * plan.packed_panel() + k / 2 * plan.width;
        pack_panel<Dot>(p, plan, j, slab.k + k, some, to);
      }
    }
  }
}

// The rows of a block, tile after tile, the height of a tile innermost.
template <class Dot>
void pack_block(const Product<float>& p, const Plan& plan, Index block, const Slab& slab,
                uint32_t* dst) {
  const Index first = plan.blocks.begin(block), end = first + plan.blocks.length(block);
  const Index row0 = plan.row(first), pairs = pairs_in(slab.depth);
  const float* a = p.a + row0 * p.a_row + slab.k * p.a_k;
  if (p.a_k == 1) {
    for (Index t = first; t < end; ++t) {
      const Index row = plan.row(t) - row0, height = plan.rows.length(t);
      pack_pairs_transposed<Dot>({a + row * p.a_row, p.a_row}, height, slab.depth,
                                 dst + row * pairs, height, false);
    }
    return;
  }
  // A few k at a time, so that whole lines of a are read while they are in cache.
  constexpr Index kDepth = 32;
  for (Index k = 0; k < slab.depth; k += kDepth) {
    const Index some = smaller(kDepth, slab.depth - k);
    for (Index t = first; t < end; ++t) {
      const Index row = plan.row(t) - row0, height = plan.rows.length(t);
      pack_pairs_straight<Dot>({a + row + k * p.a_k, p.a_k}, some, height,
                               dst + row * pairs + k / 2 * height, height, false);
    }
  }
}

void prefetch_for_writing(const PairSums& sums, int vectors) {
  for (Index r = 0; r < sums.rows; ++r) {
    const float* c = sums.to.c + r * sums.to.c_stride;
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(c + v * Vec<float>::size, 1, 2);
  }
}

// What an item works on, besides the slab.
struct Item {
  Index block, panel;
  const uint32_t* packed_a;  // of the block
  const uint32_t* packed_b;  // of the panel; null where it is packed by the piece, or never
  uint32_t* piece;           // where pieces go
};

// The sums of a tile over the depth that `tile` has, of which the first element of k is given.
template <class Dot>
void compute_sums(const Product<float>& p, const Plan& plan, const Item& item, Index k,
                  PairTileTable::Function compute, PairTile& tile, Index height) {
  if (plan.pack_b != PackB::by_piece) return compute(tile);
  const Index depth = tile.k, step = 2 * plan.piece_pairs();
  tile.b = item.piece;
  for (Index first = 0; first == 0 || first < depth; first += step) {
    tile.k = smaller(step, depth - first);
    tile.resume = first > 0;
    pack_panel<Dot>(p, plan, item.panel, k + first, tile.k, item.piece);
    compute(tile);
    tile.a += step / 2 * height;
  }
}

// One panel of one block: tile after tile, while the panel is in a near cache.
template <class Dot>
void compute_item(const Product<float>& p, const Plan& plan, const Slab& slab, const Item& item) {
  using W = Vec<float>;
  const auto& tiles = kPairTiles<Dot>;
  alignas(64) float scratch[kMaxBlockRows * kTileVectors * W::size];
  alignas(64) float sums[kVectorRegisters * W::size];

  const Index col = item.panel * plan.width;
  const int cols = static_cast<int>(smaller(plan.width, p.n - col));
  const int vectors = (cols + W::size - 1) / W::size;
  const Index first_tile = plan.blocks.begin(item.block);
  const Index end_tile = first_tile + plan.blocks.length(item.block);
  const Index block_row = plan.row(first_tile), pairs = pairs_in(slab.depth);
  const bool apart = p.finish != nullptr && p.accumulate;
  const bool far = p.m * p.n * Index(sizeof(float)) > kNearBytes;
  const bool packed = plan.pack_b != PackB::never;

  PairTile tile;
  tile.b_stride = packed ? plan.width : p.b_k;
  tile.lanes = cols - (vectors - 1) * W::size;
  tile.sums = sums;
  PairSums store;
  Ending<float>& to = store.to;
  store.sums = sums;
  store.one_bias = plan.one_bias;
  to.c_stride = apart ? plan.width : p.c_row;
  to.saved_stride = p.saved_row;
  to.lanes = tile.lanes;

  for (Index chunk = slab.chunks.begin; chunk < slab.chunks.end; ++chunk) {
    const bool last = chunk == plan.chunks.pieces - 1;
    const Index k = 2 * plan.chunks.begin(chunk), pair = (k - slab.k) / 2;
    const Index depth = smaller(2 * plan.chunks.length(chunk), p.k - k);
    if (item.packed_b != nullptr) tile.b = item.packed_b + pair * plan.width;
    tile.rows = p.b + k * p.b_k + col;
    to.add = chunk > 0 || (p.accumulate && !apart);
    to.bias = last && p.bias != nullptr ? p.bias + (plan.one_bias ? 0 : col) : nullptr;
    to.relu = last && p.relu;
    for (Index t = first_tile; t < end_tile; ++t) {
      const Index row = plan.row(t), height = plan.rows.length(t);
      tile.k = depth;
      tile.a = item.packed_a + (row - block_row) * pairs + pair * height;
      store.rows = height;
      to.c = apart ? scratch + (row - block_row) * plan.width : p.c + row * p.c_row + col;
      if (last && p.relu_saved != nullptr) {
        to.relu_saved = p.relu_saved + row * p.saved_row + col;
      }
      if (far) prefetch_for_writing(store, vectors);
      compute_sums<Dot>(p, plan, item, k, tiles.of[packed][height - 1][vectors - 1], tile, height);
      tiles.store[vectors - 1](store);
      if (last && p.finish != nullptr) {
        p.finish(p.state, {to.c, to.c_stride, row, col, height, cols});
      }
    }
  }
}

template <class Dot>
void run_slab(const Product<float>& p, const Plan& plan, const Slab& slab, const Context& context) {
  uint32_t* const shared = reinterpret_cast<uint32_t*>(context.workspace);
  uint32_t* const packed_a = shared + plan.shared() + context.rank * plan.own();
  uint32_t* const own_panel = packed_a + plan.packed_block();
  const bool at_once = plan.pack_b == PackB::at_once;

  for (Index panel0 = 0; panel0 < plan.panels; panel0 += plan.round_panels) {
    const Index panels = smaller(plan.round_panels, plan.panels - panel0);
    if (at_once) {
      const Range mine = cpu::share(panels, context);
      pack_panels<Dot>(p, plan, {panel0 + mine.begin, panel0 + mine.end}, slab,
                       shared + mine.begin * plan.packed_panel());
      context.sync();
    }
    const Range mine = cpu::share(plan.blocks.pieces * panels, context);
    Index packed_block = -1;
    for (Index i = mine.begin; i < mine.end; ++i) {
      const Index block = i / panels, panel = panel0 + i % panels;
      if (block != packed_block) {
        pack_block<Dot>(p, plan, block, slab, packed_a);
        packed_block = block;
      }
      if (p.column_sums != nullptr && block == 0) {
        const Index col = panel * plan.width;
        // As they are, not rounded.
        add_column_sums<float>({p.b + slab.k * p.b_k + col, p.b_k}, slab.depth,
                               smaller(plan.width, p.n - col), slab.k > 0 || p.accumulate,
                               p.column_sums + col);
      }
      Item item{block, panel, packed_a, nullptr, own_panel};
      if (at_once) {
        item.packed_b = shared + (panel - panel0) * plan.packed_panel();
      } else if (plan.pack_b == PackB::by_item) {
        pack_panel<Dot>(p, plan, panel, slab.k, slab.depth, own_panel);
        item.packed_b = own_panel;
      }
      compute_item<Dot>(p, plan, slab, item);
    }
    // Nobody may pack the next round over what another thread still reads.
    if (at_once) context.sync();
  }
}

template <class Dot>
void run_slabs(const Product<float>& p, bool one_bias, const Context& context) {
  Plan plan(p, Dot::rounds_fast);
  plan.one_bias = one_bias;
  for (Index c = 0; c < plan.chunks.pieces; c += plan.slab_chunks) {
    const Range chunks{c, smaller(c + plan.slab_chunks, plan.chunks.pieces)};
    run_slab<Dot>(p, plan, Slab(p, plan, chunks), context);
  }
}

void run(const Product<float>& p, bool one_bias, const Context& context) {
#if defined(__AVX512F__)
  if (context.has_bf16) return run_slabs<DotInstructions>(p, one_bias, context);
#endif
  run_slabs<DotEmulation>(p, one_bias, context);
}

// A c that is one column, contiguous in memory, is computed as the row that it is as well: its
// elements then fill the lanes. All of them have the same bias.
bool is_column_in_a_row(const Product<float>& p) {
  return p.n == 1 && p.m > 1 && p.c_row == 1 && (p.relu_saved == nullptr || p.saved_row == 1);
}

void finish_column(const void* state, const Finished<float>& row) {
  const auto& p = *static_cast<const Product<float>*>(state);
  p.finish(p.state, {row.product, 1, row.col, 0, row.cols, 1});
}

Product<float> column_as_row(const Product<float>& p) {
  Product<float> row = as_row(p);
  row.b_col = p.a_row;
  row.bias = p.bias;
  row.relu = p.relu;
  row.relu_saved = p.relu_saved;
  row.saved_row = p.m;
  if (p.finish != nullptr) row.finish = &finish_column;
  row.state = &p;
  return row;
}

}  // namespace

void multiply_bf16(const Product<float>& p, const Context& context) {
  if (p.m <= 0 || p.n <= 0) return;
  if (!is_column_in_a_row(p)) return run(p, false, context);
  if (p.column_sums != nullptr && context.rank == context.size - 1) {
    add_column_sum<float>({p.b, p.b_k}, p.k, p.accumulate, p.column_sums);
  }
  run(column_as_row(p), true, context);
}

// Enough for both ways: what need not be packed with the instructions may have to be without.
Demand multiply_bf16_demand(const Product<float>& p, int threads) {
  if (p.m <= 0 || p.n <= 0) return {};
  if (is_column_in_a_row(p)) return multiply_bf16_demand(column_as_row(p), threads);
  const Plan plan(p, false);
  // The emulation keeps up with float32, the instructions are twice as fast.
  constexpr double speed = vector_bytes * (vector_bytes >= 32 ? 2.5 : 1.2) / sizeof(float) *
                           (vector_bytes == 64 ? 2 : 1);
  const double flops = 2.0 * double(p.m) * double(p.n) * double(p.k);
  const double touched =
      double(p.m) * double(p.k) + double(p.k) * double(p.n) + 2 * double(p.m) * double(p.n);
  Demand demand;
  demand.nanoseconds = 50 + flops / speed + touched * sizeof(float) / 40;
  demand.workspace_bytes = size_t(kWord) * size_t(plan.shared() + threads * plan.own());
  return demand;
}

}  // namespace fusednn::FNN_ISA
