// SPDX-License-Identifier: Apache-2.0
// The loops around the register tiles.
//
// c is cut into panels, as wide as a tile, and blocks of rows. An item is one panel of one block: its
// rows of a stay in the second-level cache, and a chunk of its columns of b in the first, while the
// tiles of the block are computed one after the other; then comes the next chunk of k. So c is
// written while it is in cache, and meets its epilogue there.
#include "cpu/kernels/gemm.h"

#include "cpu/kernels/gemm_dots.h"
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
constexpr Index larger(Index a, Index b) { return a > b ? a : b; }

// Long enough that going through c once more per chunk costs little. A chunk of a panel of b streams
// from the second-level cache on processors with AVX-512 and fits into the first elsewhere.
constexpr Index kChunk = vector_bytes == 64 ? 512 : 384;
constexpr Index kBlockBytes =
    256 << 10;  // of a; the second-level cache also has b and c passing through
constexpr Index kNearBytes = 1 << 20;  // of c: no more stays in a second-level cache
constexpr Index kLittleDepth = 8;
// A panel of b that need not be packed is, where so many tiles read it. Fewer, where each of its rows
// lies in another page of memory: the caches then hold little of the panel.
constexpr Index kReuse = 40, kReuseFar = 8;
constexpr Index kPage = 4096;
constexpr Index kMaxBlockRows = 144;
constexpr Index kMaxBlockTiles = kMaxBlockRows / kTileRows;
constexpr Index kPackedBytesA = 4 << 20;  // together they fit into a third-level cache
constexpr Index kPackedBytesB = 8 << 20;
constexpr Index kStackBytes = 16 << 10;  // a panel of b this small is packed on the stack
constexpr Index kAlign = 64;

// Sums over a long k with few elements of c are cut into parts that threads compute side by side.
constexpr Index kPartChunks = 2;
constexpr Index kMaxParts = 16;
constexpr Index kFewTiles = 8;

// [0, total) in `pieces` parts that differ by at most one.
struct Split {
  Index pieces, size, rest;
  // One piece is common in small products, where a division counts.
  Split(Index total, Index n)
      : pieces(n), size(n == 1 ? total : total / n), rest(total - n * size) {}
  Index begin(Index i) const { return i * size + smaller(i, rest); }
  Index length(Index i) const { return size + (i < rest ? 1 : 0); }
};

enum class PackB {
  never,
  by_item,  // each item for itself: no other item of the slab reads this panel
  at_once,  // by the whole team, before the items
};

// How a product is cut. Follows from its shape and strides alone.
template <class T>
struct Plan {
  Split rows;         // into tiles
  Split blocks;       // of tiles
  Split chunks;       // of k
  Index slab_chunks;  // chunks that a round of packing covers
  Index width;        // columns of a panel
  Index panels;
  Index round_blocks;  // blocks that are packed at a time
  Index round_panels;
  bool pack_a;
  PackB pack_b;
  Index parts;  // of k, computed apart

  explicit Plan(const Product<T>& p)
      : rows(p.m, ceil_div(p.m, kTileRows)),
        blocks(rows.pieces, 1),
        chunks(p.k, larger(1, ceil_div(p.k, kChunk))),
        slab_chunks(1),
        width(widest_tile(p.m) * Vec<T>::size),
        panels(ceil_div(p.n, width)),
        round_blocks(1),
        round_panels(panels),
        pack_a(false),
        pack_b(PackB::never),
        parts(1) {
    // Without c to add to, finish needs complete sums.
    if (p.finish != nullptr && p.accumulate) slab_chunks = chunks.pieces;
    // Only where k counts the rows of a batch, which is what makes it long: a row of c must not
    // depend on how many others there are.
    if (p.a_row == 1 && !p.finish && chunks.pieces >= 2 * kPartChunks &&
        rows.pieces * panels <= kFewTiles) {
      parts = smaller(kMaxParts, chunks.pieces / kPartChunks);
    }

    const Index slab = slab_depth();
    const Index work = p.m * p.n * p.k;
    Index block_tiles = kBlockBytes / (slab * Index(sizeof(T)) * kTileRows + 1);
    block_tiles = smaller(larger(block_tiles, 2), kMaxBlockTiles);
    // Enough items for many threads, but only where they have something to do.
    while (work > (1 << 20) && block_tiles > 3 &&
           ceil_div(rows.pieces, block_tiles) * panels < 32) {
      block_tiles /= 2;
    }
    // Hardly more than writing c: then along its rows, which is the order in memory.
    if (p.k <= kLittleDepth && p.b_col == 1) block_tiles = 1;
    blocks = Split(rows.pieces, ceil_div(rows.pieces, block_tiles));
    round_blocks = blocks.pieces;
    if (parts > 1 || work == 0) {
      pack_b = must_pack(p) ? PackB::by_item : PackB::never;
      return;
    }

    const Index bytes_b = p.k * p.n * Index(sizeof(T));
    const bool many_rows = rows.pieces >= (p.b_k * Index(sizeof(T)) < kPage ? kReuse : kReuseFar);
    if (must_pack(p) || (many_rows && bytes_b > (kChunk * width * Index(sizeof(T))))) {
      pack_b = blocks.pieces > 1 ? PackB::at_once : PackB::by_item;
    }
    pack_a = panels >= 4 && work > (1 << 20) && rows.pieces > 1;
    if (pack_a) {
      const Index block_bytes = slab * blocks_rows() * Index(sizeof(T));
      round_blocks = smaller(blocks.pieces, larger(1, kPackedBytesA / (block_bytes + 1)));
    }
    if (pack_b == PackB::at_once) {
      const Index panel_bytes = slab * width * Index(sizeof(T));
      round_panels = smaller(panels, larger(1, kPackedBytesB / (panel_bytes + 1)));
    }
  }

  static bool must_pack(const Product<T>& p) {
    return p.b_col != 1 || (!kPartialLoadsAreFree && p.n % Vec<T>::size != 0);
  }
  Index slab_depth() const { return slab_chunks * (chunks.size + 1); }
  Index blocks_rows() const { return (blocks.size + 1) * (rows.size + 1); }
  Index row(Index tile) const { return rows.begin(tile); }
  bool panel_on_stack() const { return slab_depth() * width * Index(sizeof(T)) <= kStackBytes; }

  // A thread that has whole blocks to itself packs each when it comes to it, so that the block is read
  // from the second-level cache and nobody waits. Where there are more threads than blocks, the team
  // packs them together.
  bool packs_own_blocks(Index threads) const { return pack_a && threads <= blocks.pieces; }

  // The layout of the workspace, in elements.
  static Index aligned(Index n) {
    constexpr Index step = kAlign / sizeof(T);
    return ceil_div(n, step) * step;
  }
  Index packed_block() const { return aligned(blocks_rows() * slab_depth()); }
  Index packed_a(Index threads) const {
    return !pack_a ? 0 : (packs_own_blocks(threads) ? threads : round_blocks) * packed_block();
  }
  Index packed_panel() const { return aligned(slab_depth() * width); }
  Index packed_b(Index threads) const {
    if (pack_b == PackB::at_once) return round_panels * packed_panel();
    return pack_b == PackB::by_item && !panel_on_stack() ? threads * packed_panel() : 0;
  }
  Index part_size(const Product<T>& p) const { return aligned((p.m + 1) * p.n); }
  Index partial(const Product<T>& p) const { return parts > 1 ? parts * part_size(p) : 0; }
};

// What an item reads and where it is.
template <class T>
struct Item {
  Index block, panel;
  Index first_chunk, end_chunk;
  Source<T> b;        // the columns of the panel, from the first chunk on
  const T* packed_a;  // of the block, or null
  T* c;               // of the whole product
  T* column_sums;
};

template <class T>
void add_column_sums(const Item<T>& item, Source<T> b, Index depth, int cols, bool add) {
  using W = Vec<T>;
  T* sums = item.column_sums;
  for (int j = 0; j < cols; j += W::size) {
    const int lanes = cols - j < W::size ? cols - j : W::size;
    // Four sums in flight, because one addition waits for the last.
    W s[4] = {W(T(0)), W(T(0)), W(T(0)), W(T(0))};
    const T* x = b.data + j;
    Index k = 0;
    for (; k + 4 <= depth; k += 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) s[u] = s[u] + W::load(x + (k + u) * b.stride, lanes);
    }
    for (; k < depth; ++k) s[0] = s[0] + W::load(x + k * b.stride, lanes);
    W total = (s[0] + s[1]) + (s[2] + s[3]);
    if (add) total = W::load(sums + j, lanes) + total;
    total.store(sums + j, lanes);
  }
}

template <class T>
void compute_item(const Product<T>& p, const Plan<T>& plan, const Item<T>& item) {
  constexpr int kWidth = kTileVectors * Vec<T>::size;
  alignas(kAlign) T scratch[kMaxBlockRows * kWidth];

  const Index col = item.panel * plan.width;
  const int cols = static_cast<int>(smaller(plan.width, p.n - col));
  const int vectors = (cols + Vec<T>::size - 1) / Vec<T>::size;
  const Index first_tile = plan.blocks.begin(item.block);
  const Index end_tile = first_tile + plan.blocks.length(item.block);
  const Index block_row = plan.row(first_tile);
  const bool apart = p.finish != nullptr && p.accumulate;
  const Index k0 = plan.chunks.begin(item.first_chunk);
  const Index slab = plan.chunks.begin(item.end_chunk) - k0;

  Tile<T> tile;
  tile.a_stride = p.a_row == 1 ? p.a_k : p.a_row;
  tile.b_stride = item.b.stride;
  tile.c_stride = apart ? plan.width : p.c_row;
  tile.saved_stride = p.saved_row;
  tile.far = p.m * p.n * Index(sizeof(T)) > kNearBytes && !apart;
  tile.lanes = cols - (vectors - 1) * Vec<T>::size;

  for (Index chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
    const bool last = chunk == plan.chunks.pieces - 1;
    const Index k = plan.chunks.begin(chunk);
    const bool add = chunk > 0 || p.accumulate;
    tile.k = plan.chunks.length(chunk);
    tile.b = item.b.data + (k - k0) * item.b.stride;
    tile.bias = last && p.bias != nullptr ? p.bias + col : nullptr;
    tile.add = apart ? chunk > 0 : add;
    tile.relu = last && p.relu;
    if (item.column_sums != nullptr) {
      add_column_sums(item, {tile.b, tile.b_stride}, tile.k, cols, add);
    }
    for (Index t = first_tile; t < end_tile; ++t) {
      const Index row = plan.row(t);
      const Index height = plan.rows.length(t);
      if (item.packed_a != nullptr) {
        tile.a = item.packed_a + (row - block_row) * slab + (k - k0) * height;
        tile.a_stride = height;
      } else {
        tile.a = p.a + row * p.a_row + k * p.a_k;
      }
      tile.c = apart ? scratch + (row - block_row) * plan.width : item.c + row * p.c_row + col;
      if (last && p.relu_saved != nullptr) {
        tile.relu_saved = p.relu_saved + row * p.saved_row + col;
      }
      const bool adjacent = item.packed_a != nullptr || p.a_row == 1;
      kTiles<T>.of[adjacent][height - 1][vectors - 1](tile);
      if (last && p.finish != nullptr) {
        p.finish(p.state, {tile.c, tile.c_stride, row, col, height, cols});
      }
    }
  }
}

// Columns [col, col + cols) of b from k0 on, `depth` deep, with rows of plan.width elements.
template <class T>
void pack_panel(const Product<T>& p, const Plan<T>& plan, Index panel, Index k0, Index depth,
                T* dst) {
  const Index col = panel * plan.width;
  const Index cols = smaller(plan.width, p.n - col);
  const T* b = p.b + k0 * p.b_k + col * p.b_col;
  if (p.b_col == 1) {
    pack_straight<T>({b, p.b_k}, depth, cols, dst, plan.width, true);
  } else {
    pack_transposed<T>({b, p.b_col}, cols, depth, dst, plan.width, true);
  }
}

// Several panels, one after the other in dst.
template <class T>
void pack_panels(const Product<T>& p, const Plan<T>& plan, Range panels, Index k0, Index depth,
                 T* dst) {
  // Many at a time, so that long runs of memory are read.
  const Index together = p.b_col == 1 ? 8 : 1;
  const Index step = p.b_col == 1 ? 4 : depth;
  for (Index first = panels.begin; first < panels.end; first += together) {
    const Index end = smaller(first + together, panels.end);
    for (Index k = 0; k < depth; k += step) {
      const Index some = smaller(step, depth - k);
      for (Index j = first; j < end; ++j) {
        T* to = dst + (j - panels.begin) * plan.packed_panel() + k * plan.width;
        pack_panel(p, plan, j, k0 + k, some, to);
      }
    }
  }
}

// The rows of some tiles, tile after tile, the height of a tile innermost.
template <class T>
void pack_tiles(const Product<T>& p, const Plan<T>& plan, Range tiles, Index k0, Index depth,
                T* dst) {
  const Index row0 = plan.row(tiles.begin);
  const T* a = p.a + row0 * p.a_row + k0 * p.a_k;
  if (p.a_row != 1) {
    for (Index t = tiles.begin; t < tiles.end; ++t) {
      const Index row = plan.row(t) - row0, height = plan.rows.length(t);
      T* to = dst + row * depth;
      pack_transposed<T>({a + row * p.a_row, p.a_row}, height, depth, to, height, false);
    }
    return;
  }
  // Several tiles at a time, so that whole lines of a are read while they are in cache.
  constexpr Index kTogether = 8;
  constexpr Index kDepth = 32;
  for (Index first = tiles.begin; first < tiles.end; first += kTogether) {
    const Index end = smaller(first + kTogether, tiles.end);
    for (Index k = 0; k < depth; k += kDepth) {
      const Index some = smaller(kDepth, depth - k);
      for (Index t = first; t < end; ++t) {
        const Index row = plan.row(t) - row0, height = plan.rows.length(t);
        pack_straight<T>({a + row + k * p.a_k, p.a_k}, some, height, dst + row * depth + k * height,
                         height, false);
      }
    }
  }
}

// One panel after the other, each packed into a buffer of this thread if it must be.
template <class T>
void run_item(const Product<T>& p, const Plan<T>& plan, Item<T>& item, T* buffer) {
  const Index k0 = plan.chunks.begin(item.first_chunk);
  if (plan.pack_b == PackB::by_item) {
    const Index depth = plan.chunks.begin(item.end_chunk) - k0;
    pack_panel(p, plan, item.panel, k0, depth, buffer);
    item.b = {buffer, plan.width};
  } else if (plan.pack_b == PackB::never) {
    item.b = {p.b + k0 * p.b_k + item.panel * plan.width, p.b_k};
  }
  compute_item(p, plan, item);
}

// The product over some chunks of k, with whatever packing the plan asks for.
template <class T>
void run_slab(const Product<T>& p, const Plan<T>& plan, Range chunks, const Context& context,
              T* own_panel) {
  T* packed_a = reinterpret_cast<T*>(context.workspace);
  T* packed_b = packed_a + plan.packed_a(context.size);
  const bool own_blocks = plan.packs_own_blocks(context.size);
  if (own_blocks) packed_a += context.rank * plan.packed_block();
  const bool share_a = plan.pack_a && !own_blocks;
  const bool share_b = plan.pack_b == PackB::at_once;
  const Index round_blocks = own_blocks ? plan.blocks.pieces : plan.round_blocks;
  const Index k0 = plan.chunks.begin(chunks.begin);
  const Index depth = plan.chunks.begin(chunks.end) - k0;

  for (Index panel0 = 0; panel0 < plan.panels; panel0 += plan.round_panels) {
    const Index panels = smaller(plan.round_panels, plan.panels - panel0);
    if (share_b) {
      const Range mine = cpu::share(panels, context);
      pack_panels(p, plan, {panel0 + mine.begin, panel0 + mine.end}, k0, depth,
                  packed_b + mine.begin * plan.packed_panel());
    }
    for (Index block0 = 0; block0 < plan.blocks.pieces; block0 += round_blocks) {
      const Index blocks = smaller(round_blocks, plan.blocks.pieces - block0);
      const Index row0 = plan.row(plan.blocks.begin(block0));
      if (share_a) {
        const Index tile0 = plan.blocks.begin(block0);
        const Range mine = cpu::share(plan.blocks.begin(block0 + blocks) - tile0, context);
        const Range tiles{tile0 + mine.begin, tile0 + mine.end};
        if (tiles.begin < tiles.end) {
          pack_tiles(p, plan, tiles, k0, depth, packed_a + (plan.row(tiles.begin) - row0) * depth);
        }
      }
      if (share_a || share_b) context.sync();

      const Range mine = cpu::share(blocks * panels, context);
      Index block = block0 + mine.begin / panels;
      Index panel = mine.begin - (block - block0) * panels;
      Index packed_block = -1;
      for (Index i = mine.begin; i < mine.end; ++i) {
        Item<T> item{block, panel0 + panel, chunks.begin, chunks.end, {}, nullptr, p.c, nullptr};
        if (own_blocks) {
          if (block != packed_block) {
            const Index tile = plan.blocks.begin(block);
            pack_tiles(p, plan, {tile, tile + plan.blocks.length(block)}, k0, depth, packed_a);
            packed_block = block;
          }
          item.packed_a = packed_a;
        } else if (share_a) {
          item.packed_a = packed_a + (plan.row(plan.blocks.begin(block)) - row0) * depth;
        }
        if (plan.pack_b == PackB::at_once) {
          item.b = {packed_b + panel * plan.packed_panel(), plan.width};
        }
        if (p.column_sums != nullptr && block == 0) {
          item.column_sums = p.column_sums + item.panel * plan.width;
        }
        run_item(p, plan, item, own_panel);
        if (++panel == panels) {
          panel = 0;
          ++block;
        }
      }
      // Nobody may pack the next round over what another thread still reads.
      if (share_a || share_b) context.sync();
    }
  }
}

template <class T>
void run_slabs(const Product<T>& p, const Plan<T>& plan, const Context& context, T* own_panel) {
  const Index chunks = plan.chunks.pieces;
  for (Index c = 0; c < chunks; c += plan.slab_chunks) {
    run_slab(p, plan, {c, smaller(c + plan.slab_chunks, chunks)}, context, own_panel);
  }
}

// Each part of k alone into the workspace, then their sum in the order of the parts.
template <class T>
void run_parts(const Product<T>& p, const Plan<T>& plan, const Context& context, T* own_panel) {
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
    run_slabs(part, inner, Context{}, own_panel);
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
  if (is_transposed_row(p)) {
    if (p.column_sums != nullptr && context.rank == context.size - 1) {
      sum_column(p.b, p.b_k, p.k, p.accumulate, p.column_sums);
    }
    return multiply(as_row(p), context);
  }
  const Plan<T> plan(p);
  alignas(kAlign) T stack[kStackBytes / sizeof(T)];
  T* own_panel = stack;
  if (plan.pack_b == PackB::by_item && !plan.panel_on_stack()) {
    own_panel = reinterpret_cast<T*>(context.workspace) + plan.packed_a(context.size) +
                context.rank * plan.packed_panel();
  }
  if (plan.parts > 1) {
    run_parts(p, plan, context, own_panel);
  } else {
    run_slabs(p, plan, context, own_panel);
  }
}

template <class T>
Demand multiply_demand(const Product<T>& p, int threads) {
  if (p.m <= 0 || p.n <= 0) return {};
  if (is_transposed_row(p)) return multiply_demand(as_row(p), threads);
  const Plan<T> plan(p);
  // About two thirds of what a core of each kind does at 4 GHz, in operations per nanosecond.
  constexpr double speed = vector_bytes * (vector_bytes >= 32 ? 2.5 : 1.2) * 4 / sizeof(T) / 4;
  const double flops = 2.0 * double(p.m) * double(p.n) * double(p.k);
  const double touched =
      double(p.m) * double(p.k) + double(p.k) * double(p.n) + 2 * double(p.m) * double(p.n);
  Demand demand;
  demand.nanoseconds = 30 + flops / speed + touched * sizeof(T) / 50;
  demand.workspace_bytes =
      sizeof(T) * size_t(plan.packed_a(threads) + plan.packed_b(threads) + plan.partial(p));
  return demand;
}

template void multiply<float>(const Product<float>&, const Context&);
template void multiply<double>(const Product<double>&, const Context&);
template Demand multiply_demand<float>(const Product<float>&, int);
template Demand multiply_demand<double>(const Product<double>&, int);

}  // namespace fusednn::FNN_ISA
