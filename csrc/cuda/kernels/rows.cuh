// SPDX-License-Identifier: Apache-2.0
// Copies and gathers of rows, by a grid of any size.
#pragma once

#include "cuda/kernels/loops.cuh"

namespace fusednn::cuda {

// A unit is a quad or an element.
template <class T, bool kQuads>
__device__ void copy_units(const CopyRows& op, const RowGrid& grid) {
  grid.for_each([&](Index row, Index unit) {
    const T* src = row_of<T>(op.src, row);
    T* dst = row_of<T>(op.dst, row);
    if constexpr (kQuads) {
      Quad<T> v = load_quad(src + unit * kQuad);
      if (op.accumulate) {
        const Quad<T> old = load_quad(dst + unit * kQuad);
        for (int q = 0; q < kQuad; ++q) v.lane[q] += old.lane[q];
      }
      store_pack(dst + unit * kQuad, v);
    } else {
      dst[unit] = op.accumulate ? dst[unit] + src[unit] : src[unit];
    }
  });
}

// Rows as units of some bytes.
template <class Unit, class Grid>
__device__ void gather_units(const GatherRows& op, const Grid& grid) {
  const Unit* src = static_cast<const Unit*>(op.src);
  Unit* dst = static_cast<Unit*>(op.dst);
  const Index first = *op.first;
  grid.for_each([&](Index row, Index unit) {
    const Index from = op.order == nullptr ? first + row : op.order[first + row];
    dst[row * grid.units + unit] = src[from * grid.units + unit];
  });
}

template <class Unit>
FNN_HD bool fits(const GatherRows& op) {
  const auto place = reinterpret_cast<uintptr_t>(op.src) | reinterpret_cast<uintptr_t>(op.dst);
  return place % alignof(Unit) == 0 && op.row_bytes % Index(sizeof(Unit)) == 0;
}

template <class Unit>
FNN_HD RowGrid grid_of(const GatherRows& op) {
  return {op.rows, op.row_bytes / Index(sizeof(Unit))};
}
template <class T, bool kQuads>
FNN_HD RowGrid grid_of(const CopyRows& op) {
  return {op.rows, kQuads ? op.cols / kQuad : op.cols};
}

// Whether rows can be copied as quads.
template <class T>
FNN_HD bool in_quads(const CopyRows& op) {
  return op.cols % kQuad == 0 && rows_hold_packs<T>(op.src) && rows_hold_packs<T>(op.dst);
}

}  // namespace fusednn::cuda
