// SPDX-License-Identifier: Apache-2.0
// How a matrix product is cut: into tiles, blocks, panels and chunks, and what of it is packed. Follows
// from its shape and strides alone.
#pragma once

#include "cpu/kernels/gemm_cut.h"

namespace fusednn::FNN_ISA {

// Long enough that going through c once more per chunk costs little. A chunk of a panel of b streams
// from the second-level cache.
constexpr Index kChunk = vector_bytes == 64 ? 1024 : 384;
constexpr Index kBlockBytes =
    448 << 10;  // of a; the second-level cache also has b and c passing through
// A panel of b that need not be packed is, where so many tiles read it. Fewer, where each of its rows
// lies in another page of memory: the caches then hold little of the panel.
constexpr Index kReuse = 40, kReuseFar = 8;
constexpr Index kPage = 4096;
constexpr Index kTinyBytes = 32 << 10;  // of c: what stays in a first-level cache
constexpr Index kLongTile = 128;        // steps of k; to ask for c in advance costs nothing beside
constexpr Index kFarSteps = 512;        // of such rows; more do not stay in the second-level cache
constexpr Index kNearPanelBytes = 64 << 10;  // so little of b stays near without that
constexpr Index kPackedBytesA = 4 << 20;     // with that of b it fits into a third-level cache
constexpr Index kStackBytes = 16 << 10;      // a panel of b this small is packed on the stack
constexpr Index kLittleWork = 1 << 20;       // multiplications

// Sums over a long k with few elements of c are cut into parts that threads compute side by side.
constexpr Index kPartChunks = 2;
constexpr Index kMaxParts = 16;
constexpr Index kFewTiles = 8;

// Into how many pieces a sum over k is cut. Nothing else may decide that.
constexpr Index chunks_of(Index k) { return larger(1, ceil_div(k, kChunk)); }

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
  bool far;     // a and b are too large for the second-level cache

  explicit Plan(const Product<T>& p)
      : rows(p.m, ceil_div(p.m, kTileRows)),
        blocks(rows.pieces, 1),
        chunks(p.k, chunks_of(p.k)),
        slab_chunks(1),
        width(widest_tile(p.m) * Vec<T>::size),
        panels(ceil_div(p.n, width)),
        round_blocks(1),
        round_panels(panels),
        pack_a(false),
        pack_b(PackB::never),
        parts(1),
        far((p.m + p.n) * p.k * Index(sizeof(T)) > kNearBytes) {
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
    blocks = split_into_blocks(p, rows.pieces, panels,
                               {slab * Index(sizeof(T)) * kTileRows, kBlockBytes, kLittleWork});
    round_blocks = blocks.pieces;
    if (parts > 1 || work == 0) {
      pack_b = must_pack(p) ? PackB::by_item : PackB::never;
      return;
    }

    const Index bytes_b = p.k * p.n * Index(sizeof(T));
    const bool many_rows = rows.pieces >= (p.b_k * Index(sizeof(T)) < kPage ? kReuse : kReuseFar);
    if (must_pack(p) || (many_rows && bytes_b > kNearPanelBytes)) {
      pack_b = blocks.pieces > 1 ? PackB::at_once : PackB::by_item;
    }
    pack_a = panels >= 4 && work > kLittleWork && rows.pieces > 1;
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
  Index blocks_rows() const { return (blocks.size + 1) * kTileRows; }
  Index row(Index tile) const { return rows.begin(tile); }
  bool panel_on_stack() const { return slab_depth() * width * Index(sizeof(T)) <= kStackBytes; }

  // A thread that has whole blocks to itself packs each when it comes to it, so that the block is read
  // from the second-level cache and nobody waits. Where there are more threads than blocks, the team
  // packs them together.
  bool packs_own_blocks(Index threads) const { return pack_a && threads <= blocks.pieces; }

  // Then each thread has as many rows as the others, in tiles and blocks of its own.
  Plan for_rows(Index m) const {
    Plan own = *this;
    own.rows = Split(m, ceil_div(m, kTileRows));
    own.blocks = Split(own.rows.pieces, ceil_div(own.rows.pieces, blocks.size + (blocks.rest > 0)));
    return own;
  }

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

}  // namespace fusednn::FNN_ISA
