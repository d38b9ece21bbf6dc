// SPDX-License-Identifier: Apache-2.0
// The end of a product as a kernel of its own: it adds up the parts, in order, and applies what
// belongs to the result.
#include "cuda/kernels/gemm.cuh"

namespace fusednn::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    finish(Parts<T> parts, Index n, Finish<T> f, bool quads, RowGrid grid) {
  grid.for_each([&](Index row, Index unit) {
    const Index col = unit * kQuad;
    const int count = int(smaller(n - col, kQuad));
    const Place place{row, col, count, quads && count == kQuad};
    Quad<T> sum = load(static_cast<const T*>(parts.data) + row * parts.stride, place);
    for (Index part = 1; part < parts.count; ++part) {
      const T* from = parts.data + (part * parts.rows + row) * parts.stride;
      const Quad<T> more = load(from, place);
#pragma unroll
      for (int q = 0; q < kQuad; ++q) sum.lane[q] += more.lane[q];
    }
    finish_quad<true>(f, 0, row, col, count, sum);
  });
}

}  // namespace

template <class T>
void finish_product(const Parts<T>& parts, Index n, const Finish<T>& f, const Context& context) {
  const RowGrid grid(parts.rows, divide_up(n, kQuad));
  launch(finish<T>, grid.blocks(), kThreads, 0, context.stream, parts, n, f,
         rows_hold_packs<T>({parts.data, parts.stride}), grid);
}

template void finish_product<float>(const Parts<float>&, Index, const Finish<float>&,
                                    const Context&);
template void finish_product<double>(const Parts<double>&, Index, const Finish<double>&,
                                     const Context&);

}  // namespace fusednn::cuda
