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

namespace {

template <class Copy>
FNN_HD void gather(const GatherRows& op, const cpu::Range& mine, Copy copy) {
  const char* src = static_cast<const char*>(op.src);
  char* dst = static_cast<char*>(op.dst);
  const Index* order = op.order + *op.first;
  // Rows are anywhere in memory: ask for them before they are needed.
  constexpr Index ahead = 16;
  for (Index i = mine.begin; i < mine.end; ++i) {
    if (i + ahead < mine.end) __builtin_prefetch(src + order[i + ahead] * op.row_bytes);
    copy(dst + i * op.row_bytes, src + order[i] * op.row_bytes);
  }
}

}  // namespace

// Bytes: the dtype plays no part. Short rows, such as labels, are copied without a call.
template <class T>
void run(const GatherRows& op, const Context& context) {
  using V = Vec<float>;
  constexpr Index word = sizeof(float), few = 512;
  const cpu::Range mine = share(op.rows, context);
  const size_t bytes = static_cast<size_t>(op.row_bytes);
  if (op.order == nullptr) {
    __builtin_memcpy(static_cast<char*>(op.dst) + mine.begin * op.row_bytes,
                     static_cast<const char*>(op.src) + (*op.first + mine.begin) * op.row_bytes,
                     bytes * static_cast<size_t>(mine.end - mine.begin));
  } else if (op.row_bytes == word) {
    gather(op, mine,
           [](char* to, const char* from) FNN_INLINE { __builtin_memcpy(to, from, word); });
  } else if (op.row_bytes % word == 0 && op.row_bytes <= few) {
    gather(op, mine, [&](char* to, const char* from) FNN_INLINE {
      for_lanes<V>(0, op.row_bytes / word, [&](Index j, int lanes) FNN_INLINE {
        V::load(reinterpret_cast<const float*>(from) + j, lanes)
            .store(reinterpret_cast<float*>(to) + j, lanes);
      });
    });
  } else {
    gather(op, mine,
           [&](char* to, const char* from) FNN_INLINE { __builtin_memcpy(to, from, bytes); });
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
