// SPDX-License-Identifier: Apache-2.0
// What a warp does in the backward pass of a chain (fused_backward.cu): products of its own rows, its part of
// the gradients of weights, columns summed for the gradient of a bias, derivatives on fragments.
#pragma once

#include "cuda/kernels/fused_chain.cuh"

namespace fusednn::cuda {

constexpr int kRows = int(kGradientRows);
static_assert(kRows == 16 * kWarps);

// How warps share a gradient of weights, in fragments of 16 x 8; and how many such matrices a block keeps.
template <int kWidth>
struct Share;
template <>
struct Share<32> {
  static constexpr int kWarpsN = 2, kM = 1, kN = 2, kMatrices = 10;  // for half of the warps
};
template <>
struct Share<64> {
  static constexpr int kWarpsN = 2, kM = 1, kN = 4, kMatrices = 6;
};
template <>
struct Share<128> {
  static constexpr int kWarpsN = 2, kM = 2, kN = 8, kMatrices = 2;
};
// Of a layer with few outputs, or with few inputs, in the widest kernel: each warp has 16 of the others.
constexpr bool has_few(int width) { return width == 128; }

struct WarpPlace {
  int warp, lane, row;  // the first of its rows
  __device__ WarpPlace() {
    warp = threadIdx.x / kWarp;
    lane = threadIdx.x % kWarp;
    row = 16 * warp;
  }
};

// A fragment, rounded, to columns from `col` on of the warp's rows in shared memory.
template <Storage kHalf = Storage::bfloat16, int kTiles>
__device__ void keep(uint16_t* to, int row_step, int col, int cols, const Fragment<kTiles>& v) {
  const WarpPlace here;
  uint16_t* place = to + (here.row + here.lane / 4) * row_step + col + here.lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    if (col + 8 * j >= fragment_up(cols)) break;
    *reinterpret_cast<uint32_t*>(place + 8 * j) = half_pair<kHalf>(v[j][0], v[j][1]);
    *reinterpret_cast<uint32_t*>(place + 8 * row_step + 8 * j) = half_pair<kHalf>(v[j][2], v[j][3]);
  }
}

// f(number of the fragment, what is kept at its place).
template <Storage kHalf = Storage::bfloat16, int kTiles, class F>
__device__ void with_kept(const uint16_t* from, int row_step, int col, int cols,
                          Fragment<kTiles>& v, F f) {
  const WarpPlace here;
  const uint16_t* place = from + (here.row + here.lane / 4) * row_step + col + here.lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    if (col + 8 * j >= fragment_up(cols)) break;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto pair = *reinterpret_cast<const uint32_t*>(place + half * 8 * row_step + 8 * j);
      v[j][2 * half] = f(v[j][2 * half], widen(kHalf, uint16_t(pair)));
      v[j][2 * half + 1] = f(v[j][2 * half + 1], widen(kHalf, uint16_t(pair >> 16)));
    }
  }
}

// Columns from `col` on of the warp's rows times the weights of a layer, or times their transposed.
template <bool kBack, int kTiles>
__device__ void multiply(const uint16_t* rows, const FusedWeights& layer, int col,
                         Fragment<kTiles>& sums) {
  const WarpPlace here;
  const int lane = here.lane;
  const int inner = kBack ? layer.out : layer.in, outer = kBack ? layer.in : layer.out;
  const int rows_step = row_halves(inner), step = row_halves(layer.out);
  const uint16_t* left_at = rows + (here.row + lane % 16) * rows_step + lane / 16 * 8;
  const uint16_t* right_at = shared_at<uint16_t>(layer.weights_at);
  if constexpr (kBack) {
    right_at += (col + lane / 16 * 8 + lane % 8) * step + lane / 8 % 2 * 8;
  } else {
    right_at += lane % 16 * step + col + lane / 16 * 8;
  }
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) sums[j][q] = 0;
  }
#pragma unroll 2
  for (int k = 0; k < inner; k += 16) {
    uint32_t left[4];
    load_matrices<false>(left, left_at + k);
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      if (col + 8 * j >= outer) break;
      uint32_t right[4];
      load_matrices<!kBack>(right, right_at + (kBack ? 8 * j * step + k : k * step + 8 * j));
      multiply_add<Storage::bfloat16>(sums[j], left, {right[0], right[1]});
      multiply_add<Storage::bfloat16>(sums[j + 1], left, {right[2], right[3]});
    }
  }
}

// sums += xᵀ dz over the rows of the block, for rows m (inputs) and columns n (outputs) on.
template <int kM, int kN>
__device__ void add_weights(float (&sums)[kM][kN][4], const FusedBackwardLayer& layer, int dz_at,
                            int m, int n) {
  const int lane = threadIdx.x % kWarp;
  if (m >= layer.in || n >= layer.out) return;
  const int x_step = row_halves(layer.in), dz_step = row_halves(layer.out);
  const uint16_t* x =
      shared_at<uint16_t>(layer.x_at) + (lane / 16 * 8 + lane % 8) * x_step + m + lane / 8 % 2 * 8;
  const uint16_t* dz = shared_at<uint16_t>(dz_at) + lane % 16 * dz_step + n + lane / 16 * 8;
#pragma unroll 2
  for (int k = 0; k < kRows; k += 16) {
    uint32_t left[kM][4];
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      if (m + 16 * i < layer.in) load_matrices<true>(left[i], x + k * x_step + 16 * i);
    }
#pragma unroll
    for (int j = 0; j < kN; j += 2) {
      if (n + 8 * j >= layer.out) break;
      uint32_t right[4];
      load_matrices<true>(right, dz + k * dz_step + 8 * j);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        if (m + 16 * i >= layer.in) break;
        multiply_add<Storage::bfloat16>(sums[i][j], left[i], {right[0], right[1]});
        multiply_add<Storage::bfloat16>(sums[i][j + 1], left[i], {right[2], right[3]});
      }
    }
  }
}

template <int kM, int kN>
__device__ void store_weights(const float (&sums)[kM][kN][4], const FusedBackwardLayer& layer,
                              float* part, int m, int n) {
  const FusedMatrix to(ConstMatrix(part + layer.part_at, layer.out));
#pragma unroll
  for (int i = 0; i < kM; ++i) store_fragment(to, m + 16 * i, layer.in, n, layer.out, sums[i]);
}

// What a warp has of all gradients of weights.
template <int kWidth>
struct WeightSums {
  using S = Share<kWidth>;
  float matrices[S::kMatrices][S::kM][S::kN][4] = {};
  float few_outputs[1][kFew / 8][4] = {};
  float few_inputs[kFew / 16][2][4] = {};

  // f(sums, m, n) for the part of a layer's gradient that this warp has.
  template <class F>
  __device__ void with(const FusedBackwardLayer& layer, F f) {
    const int warp = threadIdx.x / kWarp;
    const int m = warp / S::kWarpsN * 16 * S::kM, n = warp % S::kWarpsN * 8 * S::kN;
    with_matrix<0>(layer.place, m, n, f);
    if constexpr (has_few(kWidth)) {
      if (layer.place == kFewOutputs) f(few_outputs, 16 * warp, 0);
      if (layer.place == kFewInputs) f(few_inputs, 0, 16 * warp);
    }
  }

 private:
  template <int kPlace, class F>
  __device__ void with_matrix(int place, int m, int n, F f) {
    if constexpr (kPlace < S::kMatrices) {
      if (place == kPlace) {
        f(matrices[kPlace], m, n);
      } else {
        with_matrix<kPlace + 1>(place, m, n, f);
      }
    }
  }
};

// Adds the columns of a fragment over the warp's rows to its row of sums. In three steps each lane gives
// away half of the columns that it still has, so that 32 lanes end with different ones.
template <int kTiles>
__device__ void add_columns(float* bias_sums, int col, int cols, const Fragment<kTiles>& v) {
  constexpr int kColumns = 2 * kTiles;
  const int lane = threadIdx.x % kWarp;
  float own[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) own[i] = v[i / 2][i % 2] + v[i / 2][i % 2 + 2];
#pragma unroll
  for (int step = 0; step < 3; ++step) {
    const int mask = 16 >> step, left = kColumns >> (step + 1);
    const bool upper = (lane & mask) != 0;
#pragma unroll
    for (int i = 0; i < left; ++i) {
      const float given = upper ? own[i] : own[i + left];
      const float kept = upper ? own[i + left] : own[i];
      own[i] = kept + __shfl_xor_sync(kAllLanes, given, mask);
    }
  }
#pragma unroll
  for (int r = 0; r < kColumns / 8; ++r) {
    const int i = lane / 4 * (kColumns / 8) + r;
    const int c = col + i / 2 * 8 + lane % 4 * 2 + i % 2;
    if (c < cols) bias_sums[c] += own[r];
  }
}

// From z, or where it is given from x, which is in v: x and its derivative; `saved` is what the derivative
// of a given x reads.
template <int kTiles>
__device__ void differentiate(const FusedRule& rule, bool given, int cols, Fragment<kTiles>& v,
                              Fragment<kTiles>& saved) {
  Fragment<kTiles> turn, slopes;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      turn[j][q] = v[j][q];
      slopes[j][q] = saved[j][q];
    }
  }
  with_rule_in_turn<kTiles>(rule.place, cols, [&](auto known, int j) {
    using Rule = decltype(known);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      float y = turn[j][q], reads = slopes[j][q];
      if (!given) {
        reads = y;
        y = Rule::forward(y, rule.parameters);
        if constexpr (Rule::saves == rules::Saves::output) reads = y;
      }
      turn[j][q] = y;
      slopes[j][q] = Rule::derivative(reads, rule.parameters);
    }
  });
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      v[j][q] = turn[j][q];
      saved[j][q] = slopes[j][q];
    }
  }
}

// Rows beyond the batch are 0, whatever a rule makes of 0.
template <int kTiles>
__device__ void clear_beyond(Index row, Index rows, Fragment<kTiles>& v) {
  row += threadIdx.x % kWarp / 4;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (row + q / 2 * 8 >= rows) v[j][q] = 0;
    }
  }
}

}  // namespace fusednn::cuda
