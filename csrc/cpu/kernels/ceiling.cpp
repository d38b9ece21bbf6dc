// SPDX-License-Identifier: Apache-2.0
#include "cpu/kernels/ceiling.h"

#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

// n multiply-adds. Every sum tends to 1, far from numbers that are slow to compute with.
template <class T>
T multiply_add(Index n) {
  using V = Vec<T>;
  const V half(0.5);
  V sums[cpu::kSums];
  for (int k = 0; k < cpu::kSums; ++k) sums[k] = V(k);
  for (Index i = 0; i < n; i += cpu::kSums * V::size) {
    for (int k = 0; k < cpu::kSums; ++k) sums[k] = fma(sums[k], half, half);
  }
  for (int k = 1; k < cpu::kSums; ++k) sums[0] += sums[k];
  return sum(sums[0]);
}

template <class T>
T read(const T* x, Index begin, Index end) {
  using V = Vec<T>;
  V sums[cpu::kSums];
  for (int k = 0; k < cpu::kSums; ++k) sums[k] = V(0);
  Index i = begin;
  for (; i + cpu::kSums * V::size <= end; i += cpu::kSums * V::size) {
    for (int k = 0; k < cpu::kSums; ++k) sums[k] += V::load(x + i + k * V::size);
  }
  for_lanes<V>(i, end, [&](Index j, int lanes) FNN_INLINE { sums[0] += V::load(x + j, lanes); });
  for (int k = 1; k < cpu::kSums; ++k) sums[0] += sums[k];
  return sum(sums[0]);
}

}  // namespace

template <class T>
void strain(const cpu::Strain& work, const Context& context) {
  using V = Vec<T>;
  T* x = static_cast<T*>(work.x);
  T* y = static_cast<T*>(work.y);
  T* z = static_cast<T*>(work.z);
  // Where a sum goes that nobody asks for: a cache line of this thread's own.
  T* result = z + context.rank * Index(64 / sizeof(T));
  const cpu::Range mine = share_lines<T>(work.n, context);
  const cpu::Range rounds = cpu::share(work.n / cpu::kMultiplyAddsUnit, context);
  switch (work.ceiling) {
    case cpu::Ceiling::fma:
      *result = multiply_add<T>((rounds.end - rounds.begin) * cpu::kMultiplyAddsUnit);
      break;
    case cpu::Ceiling::read:
      *result = read(x, mine.begin, mine.end);
      break;
    // Whole lines of aligned arrays, around the caches: nothing moves memory faster.
    case cpu::Ceiling::copy:
      for (Index i = mine.begin; i < mine.end; i += V::size) V::load(x + i).stream(y + i);
      native::finish_streams();
      break;
    case cpu::Ceiling::triad:
      for (Index i = mine.begin; i < mine.end; i += V::size) {
        fma(V::load(y + i), V(0.5), V::load(x + i)).stream(z + i);
      }
      native::finish_streams();
      break;
  }
}

template void strain<float>(const cpu::Strain&, const Context&);
template void strain<double>(const cpu::Strain&, const Context&);

}  // namespace fusednn::FNN_ISA
