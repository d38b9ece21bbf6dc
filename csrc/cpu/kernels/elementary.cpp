// SPDX-License-Identifier: Apache-2.0
// Elementary functions over arrays: one kernel per rule of rules::ElementaryFunctions.
#include "rules/elementary.h"

#include "core/type_list.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

template <class Function, class T>
void apply(const T* x, T* y, Index n) {
  using V = Vec<T>;
  for (Index i = 0; i < n; i += V::size) {
    const int lanes = n - i < V::size ? int(n - i) : V::size;
    Function::forward(V::load(x + i, lanes)).store(y + i, lanes);
  }
}

template <class T, class... Functions>
void apply(TypeList<Functions...>, int function, const T* x, T* y, Index n) {
  static constexpr void (*kernels[])(const T*, T*, Index) = {&apply<Functions, T>...};
  kernels[function](x, y, n);
}

}  // namespace

template <class T>
void run(const Elementary& operation, const Context& context) {
  const cpu::Range mine = cpu::share(operation.n, context);
  apply(rules::ElementaryFunctions{}, operation.function,
        static_cast<const T*>(operation.x) + mine.begin, static_cast<T*>(operation.y) + mine.begin,
        mine.end - mine.begin);
}

template <class T>
Demand demand(const Elementary& operation, int) {
  constexpr double bytes_per_nanosecond = 4;  // a log in double precision, without AVX
  return {double(operation.n) * sizeof(T) / bytes_per_nanosecond, 0};
}

template void run<float>(const Elementary&, const Context&);
template void run<double>(const Elementary&, const Context&);
template Demand demand<float>(const Elementary&, int);
template Demand demand<double>(const Elementary&, int);

}  // namespace fusednn::FNN_ISA
