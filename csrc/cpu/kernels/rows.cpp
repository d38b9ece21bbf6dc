// SPDX-License-Identifier: Apache-2.0
// Moving rows about: copies, gathers, fills.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {

// Elements are shared, not rows: one long row then keeps the whole team busy as well as many short ones.
template <class T>
void run(const CopyRows& op, const Context& context) {
  using V = Vec<T>;
  const T* src = static_cast<const T*>(op.src.data);
  T* dst = static_cast<T*>(op.dst.data);
  const bool adjacent = op.src.stride == op.cols && op.dst.stride == op.cols;
  const Index cols = adjacent ? op.rows * op.cols : op.cols;
  const cpu::Range mine = share_lines<T>(op.rows * op.cols, context);
  for (Index i = mine.begin; i < mine.end;) {
    const Index row = i / cols, col = i % cols;
    const Index n = mine.end - i < cols - col ? mine.end - i : cols - col;
    const T* from = src + row * op.src.stride + col;
    T* to = dst + row * op.dst.stride + col;
    for_lanes<V>(0, n, [&](Index j, int lanes) FNN_INLINE {
      V v = V::load(from + j, lanes);
      if (op.accumulate) v += V::load(to + j, lanes);
      v.store(to + j, lanes);
    });
    i += n;
  }
}

template <class T>
Demand demand(const CopyRows& op, int) {
  return {0.05 * sizeof(T) * double(op.rows * op.cols) + 4.0 * double(op.rows), 0};
}

// Bytes: the dtype plays no part.
template <class T>
void run(const GatherRows& op, const Context& context) {
  const char* src = static_cast<const char*>(op.src);
  char* dst = static_cast<char*>(op.dst);
  const cpu::Range mine = share(op.rows, context);
  const size_t bytes = static_cast<size_t>(op.row_bytes);
  if (op.order == nullptr) {
    __builtin_memcpy(dst + mine.begin * op.row_bytes, src + (*op.first + mine.begin) * op.row_bytes,
                     bytes * static_cast<size_t>(mine.end - mine.begin));
    return;
  }
  const Index* order = op.order + *op.first;
  // Rows are anywhere in memory: ask for them before they are needed.
  constexpr Index ahead = 8;
  for (Index i = mine.begin; i < mine.end; ++i) {
    if (i + ahead < mine.end) __builtin_prefetch(src + order[i + ahead] * op.row_bytes);
    __builtin_memcpy(dst + i * op.row_bytes, src + order[i] * op.row_bytes, bytes);
  }
}

template <class T>
Demand demand(const GatherRows& op, int) {
  return {double(op.rows) * (3 + 0.05 * double(op.row_bytes)), 0};
}

template <class T>
void run(const Fill& op, const Context& context) {
  using V = Vec<T>;
  T* dst = static_cast<T*>(op.dst);
  const V value(op.value);
  const cpu::Range mine = share_lines<T>(op.n, context);
  for_lanes<V>(mine.begin, mine.end,
               [&](Index i, int lanes) FNN_INLINE { value.store(dst + i, lanes); });
}

template <class T>
Demand demand(const Fill& op, int) {
  return {0.03 * sizeof(T) * double(op.n), 0};
}

template void run<float>(const CopyRows&, const Context&);
template void run<double>(const CopyRows&, const Context&);
template void run<float>(const GatherRows&, const Context&);
template void run<double>(const GatherRows&, const Context&);
template void run<float>(const Fill&, const Context&);
template void run<double>(const Fill&, const Context&);
template Demand demand<float>(const CopyRows&, int);
template Demand demand<double>(const CopyRows&, int);
template Demand demand<float>(const GatherRows&, int);
template Demand demand<double>(const GatherRows&, int);
template Demand demand<float>(const Fill&, int);
template Demand demand<double>(const Fill&, int);

}  // namespace fusednn::FNN_ISA
