// SPDX-License-Identifier: Apache-2.0
// The innermost loops of gemm.cpp: the tiles of one panel of one block, over some chunks of k.
#pragma once

#include "cpu/kernels/gemm_epilogue.h"
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_plan.h"

namespace fusednn::FNN_ISA {

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
  // Where given, not packed yet: the tiles of this item do it on the way, from here to the places above.
  const T* fresh_a;
  Source<T> fresh_b;
  T* c;  // of the whole product
  T* column_sums;
  Prefetch* ahead;  // null: everything is near
};

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
  tile.to.c_stride = apart ? plan.width : p.c_row;
  tile.to.saved_stride = p.saved_row;
  tile.far = p.m * p.n * Index(sizeof(T)) > kTinyBytes && p.k >= kLongTile && !apart;
  tile.to.lanes = cols - (vectors - 1) * Vec<T>::size;

  // Where nothing is in c yet, a chunk may be walked in steps, between which c holds the sums so far.
  const bool whole = apart || item.b.stride * Index(sizeof(T)) < kPage;

  for (Index chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
    const bool add = chunk > 0 || p.accumulate;
    const Index begin = plan.chunks.begin(chunk), length = plan.chunks.length(chunk);
    const Index step = whole || add ? length : smaller(length, kFarSteps);
    Index k = begin;
    do {
      tile.k = smaller(step, begin + length - k);
      const bool last = chunk == plan.chunks.pieces - 1 && k + tile.k == begin + length;
      tile.to.bias = last && p.bias != nullptr ? p.bias + col : nullptr;
      tile.to.add = apart ? chunk > 0 : add;
      tile.resume = k > begin;
      tile.to.relu = last && p.relu;
      for (Index t = first_tile; t < end_tile; ++t) {
        const Index row = plan.row(t);
        if (item.ahead != nullptr) item.ahead->give(tile, t == first_tile, end_tile - first_tile);
        const Index height = plan.rows.length(t);
        const T* packed_b = item.b.data + (k - k0) * item.b.stride;
        const bool fresh_b = item.fresh_b.data != nullptr && t == first_tile;
        tile.b = fresh_b ? item.fresh_b.data + (k - k0) * item.fresh_b.stride : packed_b;
        tile.b_stride = fresh_b ? item.fresh_b.stride : item.b.stride;
        tile.copy_b = fresh_b ? const_cast<T*>(packed_b) : nullptr;
        tile.copy_a = nullptr;
        if (item.packed_a != nullptr) {
          const T* packed_a = item.packed_a + (row - block_row) * slab + (k - k0) * height;
          const bool fresh_a = item.fresh_a != nullptr;
          tile.a = fresh_a ? item.fresh_a + (row - block_row) + (k - k0) * p.a_k : packed_a;
          tile.a_stride = fresh_a ? p.a_k : height;
          tile.copy_a = fresh_a ? const_cast<T*>(packed_a) : nullptr;
        } else {
          tile.a = p.a + row * p.a_row + k * p.a_k;
        }
        tile.to.c = apart ? scratch + (row - block_row) * plan.width : item.c + row * p.c_row + col;
        if (last && p.relu_saved != nullptr) {
          tile.to.relu_saved = p.relu_saved + row * p.saved_row + col;
        }
        if (tile.copy_a != nullptr || tile.copy_b != nullptr) {
          kCopyingTiles<T>.of[height - kAheadRows][vectors - 1](tile);
        } else {
          const bool adjacent = item.packed_a != nullptr || p.a_row == 1;
          kTiles<T>.of[adjacent][height - 1][vectors - 1](tile);
        }
        if (last && p.finish != nullptr) {
          p.finish(p.state, {tile.to.c, tile.to.c_stride, p.row0 + row, col, height, cols});
        }
      }
      k += tile.k;
    } while (k < begin + length);
    if (item.column_sums != nullptr) {
      const T* b = item.b.data + (begin - k0) * item.b.stride;
      add_column_sums<T>({b, item.b.stride}, length, cols, add, item.column_sums);
    }
  }
}

}  // namespace fusednn::FNN_ISA
