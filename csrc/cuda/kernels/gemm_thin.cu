// SPDX-License-Identifier: Apache-2.0
// Products with at most eight rows.
#include "cuda/kernels/gemm_thin.cuh"

namespace fusednn::cuda {
namespace {

template <class T, bool kBAlongK>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 2 : 1)
    multiply_rows(const GemmWork<T> work) {
  __align__(16) __shared__ T shared[ThinTile::numbers<kBAlongK>];
  multiply_thin_tile<kBAlongK>(work, blockIdx.x, shared);
}

}  // namespace

template <class T>
void multiply_thin(const GemmWork<T>& work, const Context& context) {
  launch(work.product.b_col != 1 ? multiply_rows<T, true> : multiply_rows<T, false>,
         work.plan.blocks(), kThreads, 0, context.stream, work);
}

template void multiply_thin<float>(const GemmWork<float>&, const Context&);
template void multiply_thin<double>(const GemmWork<double>&, const Context&);

}  // namespace fusednn::cuda
