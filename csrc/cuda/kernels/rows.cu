// SPDX-License-Identifier: Apache-2.0
// Moving rows about: copies, gathers, fills.
#include "cuda/kernels/rows.cuh"
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

template <class T, bool kQuads>
__global__ void __launch_bounds__(kThreads) copy_rows(CopyRows op, RowGrid grid) {
  copy_units<T, kQuads>(op, grid);
}

template <class T, bool kQuads>
void start_copy(const CopyRows& op, const Context& context) {
  const RowGrid grid = grid_of<T, kQuads>(op);
  launch(copy_rows<T, kQuads>, grid.blocks(), kThreads, 0, context.stream, op, grid);
}

template <class Unit>
__global__ void __launch_bounds__(kThreads) gather(GatherRows op, RowGrid grid) {
  gather_units<Unit>(op, grid);
}

template <class Unit>
void start_gather(const GatherRows& op, const Context& context) {
  const RowGrid grid = grid_of<Unit>(op);
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
  } else if (in_quads<T>(op)) {
    start_copy<T, true>(op, context);
  } else {
    start_copy<T, false>(op, context);
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
