// SPDX-License-Identifier: Apache-2.0
// The forward pass of a chain of dense layers. All weights lie in shared memory, rounded. A warp takes its
// rows through all layers in registers: the sums of one layer, with bias and activation and rounded, are
// the left operands of the next one, lane by lane. So there is no barrier but the one behind the weights,
// and global memory sees the first x, the last y and what else somebody reads.
#include <algorithm>

#include "cuda/kernels/fused_chain.cuh"

namespace fusednn::cuda {
namespace {

// 16 or 32 rows at a time: two fragments share what is read of the weights, where registers allow it.
template <int kWidth>
constexpr int kFragments = kWidth <= 64 ? 2 : 1;
template <int kWidth>
constexpr int kBlocks = kWidth <= 128 ? 2 : 1;

template <int kWidth, Storage kHalf>
struct Rows {
  static constexpr int kM = kFragments<kWidth>, kSteps = kWidth / 16, kTiles = kWidth / 8;
  uint32_t left[kM][kSteps][4];  // what goes into a layer
  Fragment<kTiles> sums[kM];     // what comes out of it

  // The sums of two tiles side by side, rounded, are one left operand.
  __device__ void round() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const auto& low = sums[m][2 * s];
        const auto& high = sums[m][2 * s + 1];
        left[m][s][0] = half_pair<kHalf>(low[0], low[1]);
        left[m][s][1] = half_pair<kHalf>(low[2], low[3]);
        left[m][s][2] = half_pair<kHalf>(high[0], high[1]);
        left[m][s][3] = half_pair<kHalf>(high[2], high[3]);
      }
    }
  }

  __device__ void multiply(const FusedWeights& layer) {
    const int lane = threadIdx.x % kWarp, row = row_halves(layer.out);
    const uint16_t* weights =
        shared_at<uint16_t>(layer.weights_at) + lane % 16 * row + lane / 16 * 8;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int q = 0; q < 4; ++q) sums[m][j][q] = 0;
      }
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (16 * s >= layer.in) break;
#pragma unroll
      for (int j = 0; j < kTiles; j += 2) {
        if (8 * j >= layer.out) break;
        uint32_t right[4];
        load_matrices<true>(right, weights + 16 * s * row + 8 * j);
        const uint32_t even[2] = {right[0], right[1]}, odd[2] = {right[2], right[3]};
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          multiply_add<kHalf>(sums[m][j], left[m][s], even);
          multiply_add<kHalf>(sums[m][j + 1], left[m][s], odd);
        }
      }
    }
  }
};

template <int kWidth, Storage kHalf>
__global__ void __launch_bounds__(kThreads, kBlocks<kWidth>)
    forward_chain(const __grid_constant__ FusedForward chain) {
  constexpr int kM = kFragments<kWidth>;
  for (int l = 0; l < chain.layers; ++l) load_weights<kHalf>(chain.layer[l]);
  __syncthreads();

  const Index tiles = divide_up(chain.rows, 16 * kM);
  const Index first = Index(blockIdx.x) * kWarps + threadIdx.x / kWarp;
#pragma unroll 1
  for (Index tile = first; tile < tiles; tile += Index(gridDim.x) * kWarps) {
    const Index row = tile * 16 * kM;
    Rows<kWidth, kHalf> rows;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      load_fragment(chain.x, row + 16 * m, chain.rows, 0, chain.layer[0].in, rows.sums[m]);
    }
#pragma unroll 1
    for (int l = 0; l < chain.layers; ++l) {
      const FusedForwardLayer& layer = chain.layer[l];
      rows.round();
      rows.multiply(layer);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const auto store = [&](const FusedMatrix& to) {
          if (to.data == nullptr) return;
          store_fragment(to, row + 16 * m, chain.rows, 0, layer.out, rows.sums[m]);
        };
        add_bias(shared_at<float>(layer.bias_at), layer.out, rows.sums[m]);
        store(layer.z);
        activate(layer.rule, layer.out, rows.sums[m]);
        store(layer.y);
      }
    }
  }
}

template <int kWidth, Storage kHalf>
void start(const FusedForward& chain, const Context& context) {
  constexpr Index kRows = kWarps * 16 * kFragments<kWidth>;
  const unsigned blocks =
      unsigned(smaller(divide_up(chain.rows, kRows), kBlocks<kWidth> * context.multiprocessors));
  launch(forward_chain<kWidth, kHalf>, blocks, kThreads, size_t(chain.shared_bytes), context.stream,
         chain);
}

template <Storage kHalf>
void start(const FusedForward& chain, const Context& context) {
  int widest = chain.layer[0].in;
  for (int l = 0; l < chain.layers; ++l) widest = std::max(widest, chain.layer[l].out);
  if (widest <= 32) return start<32, kHalf>(chain, context);
  if (widest <= 64) return start<64, kHalf>(chain, context);
  if (widest <= 128) return start<128, kHalf>(chain, context);
  start<256, kHalf>(chain, context);
}

}  // namespace

bool lay_out(FusedForward& chain, int shared_bytes) {
  int bytes = 0;
  for (int l = 0; l < chain.layers; ++l) {
    FusedForwardLayer& layer = chain.layer[l];
    layer.weights_at = bytes;
    bytes += fragment_up(layer.in) * row_halves(layer.out) * int(sizeof(uint16_t));
    layer.bias_at = bytes;
    bytes += fragment_up(layer.out) * int(sizeof(float));
  }
  chain.shared_bytes = bytes;
  return bytes <= shared_bytes;
}

void run(const FusedForward& chain, const Context& context) {
  if (chain.float16) return start<Storage::float16>(chain, context);
  start<Storage::bfloat16>(chain, context);
}

}  // namespace fusednn::cuda
