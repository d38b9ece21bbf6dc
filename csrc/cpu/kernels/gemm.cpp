// SPDX-License-Identifier: Apache-2.0
// The loops around the register tiles.
//
// c is cut into panels, as wide as a tile, and blocks of rows. An item is one panel of one block: its
// rows of a stay in the second-level cache while the tiles of the block are computed one after the
// other; then comes the next chunk of k. So c is written while it is in cache, and meets its epilogue
// there. What the next items read is asked for meanwhile.
#include "cpu/kernels/gemm.h"

#include "cpu/kernels/gemm_dots.h"
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_plan.h"
#include "cpu/kernels/gemm_stream.h"

namespace fusednn::FNN_ISA {
namespace {

// What is asked for while an item is computed: the next panel of b and the place where it will be
// packed, and a part of the next block of a.
struct Prefetch {
  Ahead b, packed_b, a;
  Index lines_of_a = 0;  // for each item

  // The first tile takes a, the others share b.
  template <class T>
  void give(Tile<T>& tile, bool first, Index tiles) {
    const bool takes_a = first && tiles > 1;
    tile.ahead = takes_a ? &a : b.count > 0 ? &b : &packed_b;
    if (first) lines_of_b_ = (b.count + packed_b.count) / larger(1, tiles - 1) + 1;
    tile.ahead_lines = takes_a ? lines_of_a : lines_of_b_;
  }

 private:
  Index lines_of_b_ = 0;  // for each tile
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
  Prefetch* ahead;  // null: everything is near
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

  // Where nothing is in c yet, a chunk may be walked in steps, between which c holds the sums so far.
  const bool whole = apart || tile.b_stride * Index(sizeof(T)) < kPage;

  for (Index chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
    const bool add = chunk > 0 || p.accumulate;
    const Index begin = plan.chunks.begin(chunk), length = plan.chunks.length(chunk);
    const Index step = whole || add ? length : smaller(length, kFarSteps);
    if (item.column_sums != nullptr) {
      const T* b = item.b.data + (begin - k0) * item.b.stride;
      add_column_sums(item, {b, tile.b_stride}, length, cols, add);
    }
    Index k = begin;
    do {
      tile.k = smaller(step, begin + length - k);
      const bool last = chunk == plan.chunks.pieces - 1 && k + tile.k == begin + length;
      tile.b = item.b.data + (k - k0) * item.b.stride;
      tile.bias = last && p.bias != nullptr ? p.bias + col : nullptr;
      tile.add = apart ? chunk > 0 : add;
      tile.resume = k > begin;
      tile.relu = last && p.relu;
      for (Index t = first_tile; t < end_tile; ++t) {
        const Index row = plan.row(t);
        if (item.ahead != nullptr) item.ahead->give(tile, t == first_tile, end_tile - first_tile);
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
      k += tile.k;
    } while (k < begin + length);
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

// The lines of rows x cols elements, where rows lie `stride` apart.
template <class T>
Ahead lines_of(const T* data, Index stride, Index rows, Index cols) {
  Ahead ahead;
  if (rows <= 0 || cols <= 0) return ahead;
  const Index offset = Index(reinterpret_cast<uintptr_t>(data) % kLine);
  ahead.at = reinterpret_cast<const char*>(data) - offset;
  ahead.lines = (offset + cols * Index(sizeof(T)) + kLine - 1) / kLine;
  ahead.left = ahead.lines;
  ahead.jump = stride * Index(sizeof(T)) - ahead.lines * kLine;
  ahead.count = rows * ahead.lines;
  return ahead;
}

// The product over some chunks of k, with whatever packing the plan asks for: what one thread of the
// team does.
template <class T>
class Slab {
 public:
  Slab(const Product<T>& p, const Plan<T>& plan, Range chunks, const Context& context, T* own_panel)
      : p_(p),
        plan_(plan),
        context_(context),
        chunks_(chunks),
        k0_(plan.chunks.begin(chunks.begin)),
        depth_(plan.chunks.begin(chunks.end) - k0_),
        packed_a_(reinterpret_cast<T*>(context.workspace)),
        packed_b_(packed_a_ + plan.packed_a(context.size)),
        own_panel_(own_panel),
        own_blocks_(plan.packs_own_blocks(context.size)),
        share_a_(plan.pack_a && !own_blocks_),
        share_b_(plan.pack_b == PackB::at_once) {
    if (own_blocks_) packed_a_ += context.rank * plan.packed_block();
  }

  void run() {
    const Index round_blocks = own_blocks_ ? plan_.blocks.pieces : plan_.round_blocks;
    for (panel0_ = 0; panel0_ < plan_.panels; panel0_ += plan_.round_panels) {
      panels_ = smaller(plan_.round_panels, plan_.panels - panel0_);
      const Range own = share_b_ ? cpu::share(panels_, context_) : Range{0, 0};
      for (block0_ = 0; block0_ < plan_.blocks.pieces; block0_ += round_blocks) {
        const Index blocks = smaller(round_blocks, plan_.blocks.pieces - block0_);
        mine_ = cpu::share(blocks * panels_, context_);
        const Index whole = (mine_.begin + panels_ - 1) / panels_;
        const bool at_first_use = share_b_ && own_blocks_ && (whole + 1) * panels_ <= mine_.end;
        if (at_first_use) {
          run_first_block(block0_ + whole, own);
        } else {
          if (share_a_) pack_round(blocks);
          if (share_b_ && block0_ == 0) {
            pack_panels(p_, plan_, {panel0_ + own.begin, panel0_ + own.end}, k0_, depth_,
                        packed_b_ + own.begin * plan_.packed_panel());
          }
          if (share_a_ || share_b_) context_.sync();
        }
        run_items(at_first_use ? block0_ + whole : -1);
        // Nobody may pack the next round over what another thread still reads.
        if (share_a_ || share_b_) context_.sync();
      }
    }
  }

 private:
  void pack_round(Index blocks) {
    const Index tile0 = plan_.blocks.begin(block0_);
    const Range mine = cpu::share(plan_.blocks.begin(block0_ + blocks) - tile0, context_);
    const Range tiles{tile0 + mine.begin, tile0 + mine.end};
    if (tiles.begin >= tiles.end) return;
    pack_tiles(p_, plan_, tiles, k0_, depth_,
               packed_a_ + (plan_.row(tiles.begin) - plan_.row(tile0)) * depth_);
  }

  // The panels that this thread packs for the team are packed one by one, each just before its first
  // use; those of the others come after them.
  void run_first_block(Index block, Range own) {
    begin_block(block);
    Index panel = own.begin;
    for (Index i = 0; i < panels_; ++i) {
      if (i == own.end - own.begin) context_.sync();
      T* packed = packed_b_ + panel * plan_.packed_panel();
      if (i < own.end - own.begin) {
        pack_panels(p_, plan_, {panel0_ + panel, panel0_ + panel + 1}, k0_, depth_, packed);
      }
      const Index next = panel + 1 < panels_ ? panel + 1 : 0;
      const bool to_pack = i + 1 < own.end - own.begin;
      if (plan_.far) {
        ahead_.b = to_pack ? source_of_panel(next) : packed_lines(next);
        ahead_.packed_b = to_pack ? packed_lines(next) : Ahead{};
      }
      run_item(block, panel);
      panel = next;
    }
    if (own.end - own.begin == panels_) context_.sync();
  }

  // All items of this thread, but those of the block `done`.
  void run_items(Index done) {
    Index block = block0_ + mine_.begin / panels_;
    Index panel = mine_.begin - (block - block0_) * panels_;
    for (Index i = mine_.begin; i < mine_.end; ++i) {
      if (block == done) {
        i += panels_ - 1;
        ++block;
        continue;
      }
      if (own_blocks_ && block != packed_block_) begin_block(block);
      const Index next = panel + 1 < panels_ ? panel + 1 : 0;
      if (plan_.far) ahead_.b = share_b_ ? packed_lines(next) : source_of_panel(next);
      run_item(block, panel);
      if (++panel == panels_) {
        panel = 0;
        ++block;
      }
    }
  }

  void begin_block(Index block) {
    const Index tile = plan_.blocks.begin(block);
    pack_tiles(p_, plan_, {tile, tile + plan_.blocks.length(block)}, k0_, depth_, packed_a_);
    packed_block_ = block;
    if (!plan_.far || block + 1 == plan_.blocks.pieces) return;
    ahead_.a = source_of_block(block + 1);
    ahead_.lines_of_a = ahead_.a.count / panels_ + 1;
  }

  Ahead source_of_block(Index block) const {
    const Index tile = plan_.blocks.begin(block);
    const Index row = plan_.row(tile);
    const Index rows = plan_.row(tile + plan_.blocks.length(block)) - row;
    const T* a = p_.a + row * p_.a_row + k0_ * p_.a_k;
    return p_.a_row == 1 ? lines_of(a, p_.a_k, depth_, rows) : lines_of(a, p_.a_row, rows, depth_);
  }

  Ahead source_of_panel(Index panel) const {
    const Index col = (panel0_ + panel) * plan_.width;
    const Index cols = smaller(plan_.width, p_.n - col);
    const T* b = p_.b + k0_ * p_.b_k + col * p_.b_col;
    return p_.b_col == 1 ? lines_of(b, p_.b_k, depth_, cols) : lines_of(b, p_.b_col, cols, depth_);
  }

  Ahead packed_lines(Index panel) const {
    return lines_of(packed_b_ + panel * plan_.packed_panel(), plan_.width, 1, depth_ * plan_.width);
  }

  void run_item(Index block, Index panel) {
    Item<T> item{block, panel0_ + panel, chunks_.begin, chunks_.end, {}, nullptr,
                 p_.c,  nullptr,         nullptr};
    if (own_blocks_) {
      item.packed_a = packed_a_;
    } else if (share_a_) {
      const Index row0 = plan_.row(plan_.blocks.begin(block0_));
      item.packed_a = packed_a_ + (plan_.row(plan_.blocks.begin(block)) - row0) * depth_;
    }
    if (plan_.pack_b == PackB::at_once) {
      item.b = {packed_b_ + panel * plan_.packed_panel(), plan_.width};
    } else if (plan_.pack_b == PackB::by_item) {
      pack_panel(p_, plan_, item.panel, k0_, depth_, own_panel_);
      item.b = {own_panel_, plan_.width};
    } else {
      item.b = {p_.b + k0_ * p_.b_k + item.panel * plan_.width, p_.b_k};
    }
    if (p_.column_sums != nullptr && block == 0) {
      item.column_sums = p_.column_sums + item.panel * plan_.width;
    }
    item.ahead = plan_.far ? &ahead_ : nullptr;
    compute_item(p_, plan_, item);
  }

  const Product<T>& p_;
  const Plan<T>& plan_;
  const Context& context_;
  const Range chunks_;
  const Index k0_, depth_;
  T* packed_a_;
  T* const packed_b_;
  T* const own_panel_;
  const bool own_blocks_, share_a_, share_b_;

  Index panel0_ = 0, panels_ = 0;  // of this round
  Index block0_ = 0;
  Range mine_{0, 0};  // items
  Index packed_block_ = -1;
  Prefetch ahead_;
};

template <class T>
void run_slabs(const Product<T>& p, const Plan<T>& plan, const Context& context, T* own_panel) {
  const Index chunks = plan.chunks.pieces;
  for (Index c = 0; c < chunks; c += plan.slab_chunks) {
    Slab<T>(p, plan, {c, smaller(c + plan.slab_chunks, chunks)}, context, own_panel).run();
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
  if (is_stream(p)) return multiply_stream(p, context);
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
  // Operations per nanosecond that two FMA units reach at 4 GHz. What lanes of a last vector stay
  // empty takes as long; dot products have none.
  constexpr double speed = 13.5 * vector_bytes / sizeof(T);
  constexpr Index lanes = Vec<T>::size;
  const bool dots = is_column(p) || has_few_rows(p);
  const Index columns = dots ? p.n : ceil_div(p.n, lanes) * lanes;
  const double flops = 2.0 * double(p.m) * double(columns) * double(p.k);
  const double touched =
      double(p.m) * double(p.k) + double(p.k) * double(p.n) + 2 * double(p.m) * double(p.n);
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
