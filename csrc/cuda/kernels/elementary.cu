// SPDX-License-Identifier: Apache-2.0
// Elementary functions over arrays: one kernel per rule of rules::ElementaryFunctions.
#include "rules/elementary.h"

#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Function>
__global__ void __launch_bounds__(kThreads) apply(const T* x, T* y, Index n) {
  const T* const in[] = {x};
  map(n, in, y, [](const T(&v)[1]) { return Function::forward(v[0]); });
}

template <class T, class Function>
void start(const Elementary& op, const Context& context) {
  launch(apply<T, Function>, blocks_for_map(op.n, context), kThreads, 0, context.stream,
         static_cast<const T*>(op.x), static_cast<T*>(op.y), op.n);
}

template <class T, class... Functions>
constexpr RuleTable<Elementary, sizeof...(Functions)> kernels(TypeList<Functions...>) {
  return {{&start<T, Functions>...}};
}

}  // namespace

template <class T>
void run(const Elementary& op, const Context& context) {
  constexpr auto table = kernels<T>(rules::ElementaryFunctions{});
  table.run[op.function](op, context);
}

template <class T>
size_t workspace(const Elementary&) {
  return 0;
}

template void run<float>(const Elementary&, const Context&);
template void run<double>(const Elementary&, const Context&);
template size_t workspace<float>(const Elementary&);
template size_t workspace<double>(const Elementary&);

}  // namespace fusednn::cuda
