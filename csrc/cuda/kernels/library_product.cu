// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels/library_product.h"

#include "cuda/kernels/dense.cuh"
#include "cuda/kernels/storage.cuh"

namespace fusednn::cuda {
namespace {

constexpr int kHalves = 8;  // elements of 2 bytes in an access of 16

__global__ void __launch_bounds__(kThreads)
    round_to(Storage storage, ConstMatrix x, Index cols, bool quads, Matrix halves, RowGrid grid) {
  grid.for_each([&](Index row, Index unit) {
    const float* from = row_of<float>(x, row);
    Pack<uint16_t, kHalves> pack;
#pragma unroll
    for (int half = 0; half < kHalves; half += kQuad) {
      const Index col = unit * kHalves + half;
      const Index left = smaller(cols - col, kQuad);
      const Quad<float> quad =
          load(from, Place{row, col, int(left), quads && left == kQuad});  // 0 beyond the end
#pragma unroll
      for (int q = 0; q < kQuad; ++q) pack.lane[half + q] = narrow(storage, quad.lane[q]);
    }
    store_pack(row_of<uint16_t>(halves, row) + unit * kHalves, pack);
  });
}

template <class T>
void finish_as(const DenseForward& op, const Context& context) {
  const Finish<T> finish = parse<T>(op).finish;
  const Matrix& product = op.z.data != nullptr ? op.z : op.y;
  finish_product(Parts<T>{typed<T>(product.data), 1, op.rows, product.stride}, op.out, finish,
                 context);
}

}  // namespace

void round_rows(const ConstMatrix& x, Index rows, Index cols, Storage to, const Matrix& halves,
                const Context& context) {
  const RowGrid grid(rows, divide_up(cols, kHalves));
  launch(round_to, grid.blocks(), kThreads, 0, context.stream, to, x, cols,
         rows_hold_packs<float>(x), halves, grid);
}

void finish_forward(const DenseForward& op, DType dtype, const Context& context) {
  dtype == DType::float32 ? finish_as<float>(op, context) : finish_as<double>(op, context);
}

}  // namespace fusednn::cuda
