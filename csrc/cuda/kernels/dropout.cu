// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/dropout.cuh"

#include "cuda/kernels/table.h"

namespace fusednn::cuda {
namespace {

template <class T, class Change>
__global__ void __launch_bounds__(kThreads) apply(Dropout op, Change change, bool quads) {
  change_elements<T>(op, change, quads, blockIdx.x);
}

}  // namespace

template <class T>
void run(const Dropout& op, const Context& context) {
  const bool quads =
      holds_packs(static_cast<const T*>(op.x)) && holds_packs(static_cast<const T*>(op.y));
  with_noise<T>(op, [&](const auto& change) {
    launch(apply<T, std::decay_t<decltype(change)>>, unsigned(blocks_of(op)), kThreads, 0,
           context.stream, op, change, quads);
  });
}

template <class T>
size_t workspace(const Dropout&) {
  return 0;
}

template void run<float>(const Dropout&, const Context&);
template void run<double>(const Dropout&, const Context&);
template size_t workspace<float>(const Dropout&);
template size_t workspace<double>(const Dropout&);

}  // namespace fusednn::cuda
