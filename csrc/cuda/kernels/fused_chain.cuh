// SPDX-License-Identifier: Apache-2.0
// What the kernels of whole chains of dense layers share: weights on their way to shared memory, fragments
// on theirs from and to global memory, and rules applied to fragments.
//
// A fragment is a row of kTiles tiles of 16 x 8 numbers that a warp holds as the sums of its products
// (tensor_core.cuh). With g = lane / 4 and t = lane % 4 a lane has of tile j the columns 8 j + 2 t and one
// more of row g, then of row g + 8.
#pragma once

#include "cuda/kernels/epilogue.cuh"
#include "cuda/kernels/fused_chain.h"
#include "cuda/kernels/tensor_core.cuh"

namespace fusednn::cuda {

constexpr int kWarps = kThreads / kWarp;

template <int kTiles>
using Fragment = float[kTiles][4];

// Rules that cost so little that each fragment has them in line. The sign of the output tells their
// derivative, rounded or not.
using SignRules = TypeList<rules::Linear, rules::Relu, rules::LeakyRelu>;
static_assert(PlaceIn<rules::LeakyRelu, rules::Activations>::value + 1 == SignRules::size);

// ---- shared memory -----------------------------------------------------------------------------------

template <class T>
__device__ T* shared_at(int bytes) {
  return reinterpret_cast<T*>(dynamic_shared<unsigned char>() + bytes);
}

// All threads bring the weights of a layer, rounded, as (in, out), and its bias. What lies beyond is 0.
template <Storage kHalf>
__device__ void load_weights(const FusedWeights& layer) {
  if (layer.w == nullptr) return;
  uint16_t* to = shared_at<uint16_t>(layer.weights_at);
  const int row = row_halves(layer.out);
  // Rows of memory are columns on the chip where they are transposed.
  const int rows = layer.transposed ? layer.out : layer.in;
  const int cols = layer.transposed ? layer.in : layer.out;
  const int quads_per_row = fragment_up(cols) / kQuad, all_rows = fragment_up(rows);
  const bool packed = holds_packs(layer.w) && layer.stride % kQuad == 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < all_rows * quads_per_row; i += kThreads) {
    const int r = i / quads_per_row, c = i % quads_per_row * kQuad;
    Quad<float> quad = {};
    if (r < rows && c < cols) {
      const int count = cols - c;
      quad = load(layer.w + r * layer.stride, Place{r, c, count, packed && count >= kQuad});
    }
#pragma unroll
    for (int q = 0; q < kQuad; ++q) {
      const int k = layer.transposed ? c + q : r, n = layer.transposed ? r : c + q;
      to[k * row + n] = narrow(kHalf, quad.lane[q]);
    }
  }
  float* bias = shared_at<float>(layer.bias_at);
  for (int n = threadIdx.x; n < fragment_up(layer.out); n += kThreads) {
    bias[n] = n < layer.out && layer.bias != nullptr ? layer.bias[n] : 0.0f;
  }
}

// ---- fragments and global memory ---------------------------------------------------------------------

// Two neighbours of a row, 0 beyond the matrix.
__device__ inline void load_two(const FusedMatrix& m, Index row, Index rows, int col, int cols,
                                float& first, float& second) {
  first = second = 0;
  if (row >= rows || col >= cols) return;
  const float* from = m.data + row * m.stride + col;
  if (m.pairs && col + 1 < cols) {
    const Pack<float, 2> pair = load_pack<2>(from);
    first = pair.lane[0];
    second = pair.lane[1];
    return;
  }
  first = from[0];
  if (col + 1 < cols) second = from[1];
}

__device__ inline void store_two(const FusedMatrix& m, Index row, Index rows, int col, int cols,
                                 float first, float second) {
  if (row >= rows || col >= cols) return;
  float* to = m.data + row * m.stride + col;
  if (m.pairs && col + 1 < cols) {
    store_pack(to, Pack<float, 2>{
                       {first, second}
    });
    return;
  }
  to[0] = first;
  if (col + 1 < cols) to[1] = second;
}

template <int kTiles>
__device__ void load_fragment(const FusedMatrix& m, Index row, Index rows, int col, int cols,
                              Fragment<kTiles>& v) {
  const int lane = threadIdx.x % kWarp;
  row += lane / 4;
  col += lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    load_two(m, row, rows, col + 8 * j, cols, v[j][0], v[j][1]);
    load_two(m, row + 8, rows, col + 8 * j, cols, v[j][2], v[j][3]);
  }
}

template <int kTiles>
__device__ void store_fragment(const FusedMatrix& m, Index row, Index rows, int col, int cols,
                               const Fragment<kTiles>& v) {
  const int lane = threadIdx.x % kWarp;
  row += lane / 4;
  col += lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    store_two(m, row, rows, col + 8 * j, cols, v[j][0], v[j][1]);
    store_two(m, row + 8, rows, col + 8 * j, cols, v[j][2], v[j][3]);
  }
}

// ---- rules on fragments ------------------------------------------------------------------------------

template <int kTiles>
__device__ void add_bias(const float* bias, int cols, Fragment<kTiles>& v) {
  const int col = threadIdx.x % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    if (8 * j >= cols) break;
    const Pack<float, 2> pair = load_pack<2>(bias + col + 8 * j);
#pragma unroll
    for (int q = 0; q < 4; ++q) v[j][q] += pair.lane[q % 2];
  }
}

// f(Rule, quad) for the numbers of a fragment, four at a time in local memory: the rules are there once and
// not for every number.
template <int kTiles, class F>
__device__ void with_rule_in_turn(int rule, int cols, F f) {
  const int tiles = int(smaller(fragment_up(cols) / 8, kTiles));
#pragma unroll 1
  for (int j = 0; j < tiles; ++j) {
    with_rule(rules::Activations{}, rule, [&](auto known) { f(known, j); });
  }
}

template <int kTiles>
__device__ void activate(const FusedRule& rule, int cols, Fragment<kTiles>& v) {
  if (rule.place < SignRules::size) {
    with_rule(SignRules{}, rule.place, [&](auto known) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          v[j][q] = decltype(known)::forward(v[j][q], rule.parameters);
        }
      }
    });
    return;
  }
  Fragment<kTiles> turn;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) turn[j][q] = v[j][q];
  }
  with_rule_in_turn<kTiles>(rule.place, cols, [&](auto known, int j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      turn[j][q] = decltype(known)::forward(turn[j][q], rule.parameters);
    }
  });
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) v[j][q] = turn[j][q];
  }
}

}  // namespace fusednn::cuda
