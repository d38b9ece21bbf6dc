// SPDX-License-Identifier: Apache-2.0
// How a product is cut up, from its shape alone: so the same product has the same bits on every device.
#pragma once

#include "core/dtype.h"
#include "core/hd.h"

namespace fusednn::cuda {

// A tile of the result, which a block computes, and how far along k it goes at a time.
struct TileSize {
  int m, n, k;
};

struct GemmPlan {
  TileSize tile;
  Index tiles_m, tiles_n;
  Index parts, part_k;  // along k
  Index column_blocks, column_parts, column_rows;

  FNN_HD Index tiles() const { return tiles_m * tiles_n; }
  FNN_HD Index column_work() const { return column_blocks * column_parts; }
  unsigned blocks() const { return unsigned(column_work() + tiles() * parts); }
};

constexpr Index kEnoughTiles = 128;  // about one per multiprocessor
constexpr Index kLeastPart = 512;    // of k: shorter ones cost more to put together than they save
constexpr Index kMostParts = 64;
constexpr Index kColumnPart = 2048;  // rows that one block sums up a few columns of
constexpr Index kColumnsPerBlock = 32;

// The smallest tile of float32; its threads come in groups that each take a share of every k-step.
constexpr TileSize kSmallTile{32, 32, 64};
constexpr int kSmallSlices = 4;

// The tile of products with few rows, which are all it has.
constexpr TileSize kThinTile{8, 32, 128};

// The largest tile of which there are enough, if it is not empty for the better part, else the smallest.
template <int kSizes>
FNN_HD GemmPlan plan_product(const TileSize (&sizes)[kSizes], Index m, Index n, Index k,
                             Index columns) {
  const auto up = [](Index a, Index b) { return (a + b - 1) / b; };
  GemmPlan plan = {};
  for (const TileSize& size : sizes) {
    plan.tile = size;
    plan.tiles_m = up(m, size.m);
    plan.tiles_n = up(n, size.n);
    if (plan.tiles() >= kEnoughTiles && 2 * m > size.m && 2 * n > size.n) break;
  }
  Index parts = plan.tiles() > 0 ? up(kEnoughTiles, plan.tiles()) : 1;
  if (parts > k / kLeastPart) parts = k / kLeastPart;
  if (parts > kMostParts) parts = kMostParts;
  if (parts < 1) parts = 1;
  plan.part_k = up(up(k, parts), plan.tile.k) * plan.tile.k;
  plan.parts = k > 0 ? up(k, plan.part_k) : 1;
  plan.column_blocks = up(columns, kColumnsPerBlock);
  plan.column_parts = columns > 0 && k > 0 ? up(k, kColumnPart) : 1;
  plan.column_rows = up(k, plan.column_parts);
  return plan;
}

}  // namespace fusednn::cuda
