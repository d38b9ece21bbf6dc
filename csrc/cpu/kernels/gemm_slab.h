// SPDX-License-Identifier: Apache-2.0
// The outer loops of gemm.cpp: what one thread of the team packs and computes, and in which order.
#pragma once

#include "cpu/kernels/gemm_item.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_plan.h"

namespace fusednn::FNN_ISA {

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

// Where a thread packs to, and what it shares with the team.
template <class T>
struct Packed {
  T* a;      // of the team, or of this thread's present block
  T* b;      // of the team
  T* panel;  // of b, of this thread
  bool own_blocks;
};

// The product over some chunks of k, with whatever packing the plan asks for: what one thread of the
// team does.
template <class T>
class Slab {
 public:
  Slab(const Product<T>& p, const Plan<T>& plan, Range chunks, const Context& context,
       const Packed<T>& packed)
      : p_(p),
        plan_(plan),
        context_(context),
        chunks_(chunks),
        k0_(plan.chunks.begin(chunks.begin)),
        depth_(plan.chunks.begin(chunks.end) - k0_),
        packed_a_(packed.a),
        packed_b_(packed.b),
        own_panel_(packed.panel),
        own_blocks_(packed.own_blocks),
        share_a_(plan.pack_a && !own_blocks_),
        share_b_(plan.pack_b == PackB::at_once),
        copies_a_(kPartialLoadsAreFree && own_blocks_ && p.a_row == 1),
        copies_b_(kPartialLoadsAreFree && own_blocks_ && p.b_col == 1) {}

  void run() {
    for (panel0_ = 0; panel0_ < plan_.panels; panel0_ += plan_.round_panels) {
      panels_ = smaller(plan_.round_panels, plan_.panels - panel0_);
      packs_ = share_b_ ? cpu::share(panels_, context_) : Range{0, 0};
      if (own_blocks_) {
        run_own_blocks();
      } else {
        run_shared_blocks();
      }
    }
  }

 private:
  // All rows of p are those of this thread.
  void run_own_blocks() {
    for (Index block = 0; block < plan_.blocks.pieces; ++block) {
      begin_block(block);
      if (share_b_ && block == 0) {
        run_first_block();
        continue;
      }
      for (Index panel = 0; panel < panels_; ++panel) {
        ask_for_panel(panel + 1 < panels_ ? panel + 1 : 0, share_b_);
        run_item(block, panel);
      }
    }
    // Nobody may pack the next round over what another thread still reads.
    if (share_b_) context_.sync();
  }

  void run_shared_blocks() {
    for (block0_ = 0; block0_ < plan_.blocks.pieces; block0_ += plan_.round_blocks) {
      const Index blocks = smaller(plan_.round_blocks, plan_.blocks.pieces - block0_);
      if (share_a_) pack_round(blocks);
      if (share_b_ && block0_ == 0) {
        pack_panels(p_, plan_, {panel0_ + packs_.begin, panel0_ + packs_.end}, k0_, depth_,
                    packed_b_ + packs_.begin * plan_.packed_panel());
      }
      if (share_a_ || share_b_) context_.sync();
      const Range mine = cpu::share(blocks * panels_, context_);
      Index block = block0_ + mine.begin / panels_;
      Index panel = mine.begin - (block - block0_) * panels_;
      for (Index i = mine.begin; i < mine.end; ++i) {
        ask_for_panel(panel + 1 < panels_ ? panel + 1 : 0, share_b_);
        run_item(block, panel);
        if (++panel == panels_) {
          panel = 0;
          ++block;
        }
      }
      if (share_a_ || share_b_) context_.sync();
    }
  }

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
  void run_first_block() {
    const Index own = packs_.end - packs_.begin;
    Index panel = packs_.begin;
    for (Index i = 0; i < panels_; ++i) {
      if (i == own) context_.sync();
      fresh_panel_ = i < own && copies_b_;
      if (i < own && !copies_b_) {
        pack_panels(p_, plan_, {panel0_ + panel, panel0_ + panel + 1}, k0_, depth_,
                    packed_b_ + panel * plan_.packed_panel());
      }
      const Index next = panel + 1 < panels_ ? panel + 1 : 0;
      ask_for_panel(next, i + 1 >= own);
      if (plan_.far) ahead_.packed_b = i + 1 < own ? packed_lines(next) : Ahead{};
      run_item(0, panel);
      panel = next;
    }
    fresh_panel_ = false;
    if (own == panels_) context_.sync();
  }

  void ask_for_panel(Index panel, bool packed) {
    if (plan_.far) ahead_.b = packed ? packed_lines(panel) : source_of_panel(panel);
  }

  void begin_block(Index block) {
    const Index tile = plan_.blocks.begin(block);
    fresh_block_ = copies_a_;
    if (!copies_a_) {
      pack_tiles(p_, plan_, {tile, tile + plan_.blocks.length(block)}, k0_, depth_, packed_a_);
    }
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
    Item<T> item{};
    item.block = block;
    item.panel = panel0_ + panel;
    item.first_chunk = chunks_.begin;
    item.end_chunk = chunks_.end;
    item.c = p_.c;
    if (own_blocks_) {
      item.packed_a = packed_a_;
      const Index row = plan_.row(plan_.blocks.begin(block));
      if (fresh_block_) item.fresh_a = p_.a + row + k0_ * p_.a_k;
      fresh_block_ = false;
    } else if (share_a_) {
      const Index row0 = plan_.row(plan_.blocks.begin(block0_));
      item.packed_a = packed_a_ + (plan_.row(plan_.blocks.begin(block)) - row0) * depth_;
    }
    if (plan_.pack_b == PackB::at_once) {
      item.b = {packed_b_ + panel * plan_.packed_panel(), plan_.width};
      if (fresh_panel_) item.fresh_b = {p_.b + k0_ * p_.b_k + item.panel * plan_.width, p_.b_k};
    } else if (plan_.pack_b == PackB::by_item) {
      pack_panel(p_, plan_, item.panel, k0_, depth_, own_panel_);
      item.b = {own_panel_, plan_.width};
    } else {
      item.b = {p_.b + k0_ * p_.b_k + item.panel * plan_.width, p_.b_k};
    }
    const bool sums =
        own_blocks_ && share_b_ ? packs_.begin <= panel && panel < packs_.end : p_.row0 == 0;
    if (p_.column_sums != nullptr && block == 0 && sums) {
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
  T* const packed_a_;
  T* const packed_b_;
  T* const own_panel_;
  const bool own_blocks_, share_a_, share_b_;
  const bool copies_a_, copies_b_;  // on the way, while the first tiles are computed

  Index panel0_ = 0, panels_ = 0;  // of this round
  Range packs_{0, 0};              // of those, what this thread packs for the team
  Index block0_ = 0;
  bool fresh_block_ = false, fresh_panel_ = false;  // not yet copied
  Prefetch ahead_;
};

}  // namespace fusednn::FNN_ISA
