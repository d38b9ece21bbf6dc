// SPDX-License-Identifier: Apache-2.0
// Losses: the value of each row and its gradient in one pass. Which kernel: by the place of the rule,
// first the pointwise ones, then the rowwise ones.
#include "cuda/kernels/loss.cuh"
#include "cuda/kernels/table.h"

namespace fusednn::cuda {

template <class T>
void run(const Loss& op, const Context& context) {
  constexpr int kPointwise = rules::PointwiseLosses::size;
  if (op.rule < kPointwise) {
    run_pointwise<T>(op, op.rule, context);
  } else {
    run_rowwise<T>(op, op.rule - kPointwise, context);
  }
}

template <class T>
size_t workspace(const Loss&) {
  return 0;
}

template void run<float>(const Loss&, const Context&);
template void run<double>(const Loss&, const Context&);
template size_t workspace<float>(const Loss&);
template size_t workspace<double>(const Loss&);

}  // namespace fusednn::cuda
