// SPDX-License-Identifier: Apache-2.0
// Moving rows about: copies, gathers, fills.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) copy_adjacent(CopyRows op) {
  T* dst = static_cast<T*>(op.dst.data);
  const T* const in[] = {static_cast<const T*>(op.src.data), op.accumulate ? dst : nullptr};
  const bool accumulate = op.accumulate;
  map(op.rows * op.cols, in, dst, [&](const T(&v)[2]) { return accumulate ? v[1] + v[0] : v[0]; });
}

// A unit is a quad or an element.
template <class T, bool kQuads>
__global__ void __launch_bounds__(kThreads) copy_rows(CopyRows op, RowGrid grid) {
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
template <class Unit>
__global__ void __launch_bounds__(kThreads) gather(GatherRows op, RowGrid grid) {
  const Unit* src = static_cast<const Unit*>(op.src);
  Unit* dst = static_cast<Unit*>(op.dst);
  const Index first = *op.first;
  grid.for_each([&](Index row, Index unit) {
    const Index from = op.order == nullptr ? first + row : op.order[first + row];
    dst[row * grid.units + unit] = src[from * grid.units + unit];
  });
}

template <class Unit>
bool fits(const GatherRows& op) {
  const auto place = reinterpret_cast<uintptr_t>(op.src) | reinterpret_cast<uintptr_t>(op.dst);
  return place % alignof(Unit) == 0 && op.row_bytes % Index(sizeof(Unit)) == 0;
}

template <class Unit>
void start_gather(const GatherRows& op, const Context& context) {
  const RowGrid grid(op.rows, op.row_bytes / Index(sizeof(Unit)));
  launch(gather<Unit>, grid.blocks(), kThreads, 0, context.stream, op, grid);
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill(T* dst, Index n, T value) {
  const T* const in[] = {nullptr};
  map(n, in, dst, [&](const T(&)[1]) { return value; });
}

}  // namespace

template <class T>
void run(const CopyRows& op, const Context& context) {
  if (op.src.stride == op.cols && op.dst.stride == op.cols) {
    launch(copy_adjacent<T>, blocks_for_map(op.rows * op.cols, context), kThreads, 0,
           context.stream, op);
  } else if (op.cols % kQuad == 0 && rows_hold_packs<T>(op.src) && rows_hold_packs<T>(op.dst)) {
    const RowGrid grid(op.rows, op.cols / kQuad);
    launch(copy_rows<T, true>, grid.blocks(), kThreads, 0, context.stream, op, grid);
  } else {
    const RowGrid grid(op.rows, op.cols);
    launch(copy_rows<T, false>, grid.blocks(), kThreads, 0, context.stream, op, grid);
  }
}

// Bytes: the dtype plays no part.
template <class T>
void run(const GatherRows& op, const Context& context) {
  if (fits<uint4>(op)) return start_gather<uint4>(op, context);
  if (fits<uint32_t>(op)) return start_gather<uint32_t>(op, context);
  start_gather<uint8_t>(op, context);
}

template <class T>
void run(const Fill& op, const Context& context) {
  launch(fill<T>, blocks_for_map(op.n, context), kThreads, 0, context.stream,
         static_cast<T*>(op.dst), op.n, T(op.value));
}

// clang-format off
template <class T> size_t workspace(const CopyRows&)   { return 0; }
template <class T> size_t workspace(const GatherRows&) { return 0; }
template <class T> size_t workspace(const Fill&)       { return 0; }

template void run<float>(const CopyRows&, const Context&);
template void run<double>(const CopyRows&, const Context&);
template void run<float>(const GatherRows&, const Context&);
template void run<double>(const GatherRows&, const Context&);
template void run<float>(const Fill&, const Context&);
template void run<double>(const Fill&, const Context&);
template size_t workspace<float>(const CopyRows&);
template size_t workspace<double>(const CopyRows&);
template size_t workspace<float>(const GatherRows&);
template size_t workspace<double>(const GatherRows&);
template size_t workspace<float>(const Fill&);
template size_t workspace<double>(const Fill&);
// clang-format on

}  // namespace fusednn::cuda
