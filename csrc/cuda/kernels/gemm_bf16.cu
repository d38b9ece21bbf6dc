// SPDX-License-Identifier: Apache-2.0
// Products whose operands are rounded to bfloat16 or float16 and multiplied by tensor cores, summed in float32.
// They lie in memory as float32 and are rounded on their way to shared memory, where they take half
// the room: there a tile has a word for every pair of neighbours along k.
#include "cuda/kernels/gemm_tiles.cuh"
#include "cuda/kernels/tensor_core.cuh"

namespace fusednn::cuda {
namespace {

// A block is 4 x 2 warps, a warp kFragmentsM x kFragmentsN sums of 16 x 8.
template <int kM_, int kN_, int kK_>
struct Shape {
  static constexpr int kM = kM_, kN = kN_, kK = kK_;
  static constexpr int kWarpsM = 4, kWarpsN = 2;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static_assert(kWarpsM * kWarpsN * kWarp == kThreads);
  static constexpr TileSize size{kM, kN, kK};
  // Words of a row of pairs. 8 more, so that lanes that read 8 neighbours of 4 rows do not meet in a
  // bank.
  static constexpr int kRowM = kM + 8, kRowN = kN + 8;
  static constexpr int kBuffer = kK / 2 * (kRowM + kRowN);
  static constexpr int kShared = 2 * kBuffer;
  static_assert(kWarpM * kN <= kShared, "results pass through the same memory");
};

using Small = Shape<64, 64, 32>;
using Large = Shape<128, 128, 16>;

// As OperandTile, with both numbers of a pair in the same thread.
template <Storage kHalf, int kOuter, int kK, bool kAlongK>
struct PairTile {
  static constexpr int kQuads = kOuter * kK / kQuad / kThreads;
  static_assert(kQuads % 2 == 0 && kQuads * kQuad * kThreads == kOuter * kK);
  Quad<float> quads[kQuads];

  __device__ static int outer_of(int i) {
    if constexpr (kAlongK) {
      // 4 x 8 lanes: 64 bytes of each of 8 rows.
      const int q = threadIdx.x + i * kThreads;
      return q / 4 % kOuter;
    } else {
      return (threadIdx.x + i / 2 * kThreads) % (kOuter / kQuad) * kQuad;
    }
  }
  __device__ static int k_of(int i) {
    if constexpr (kAlongK) {
      const int q = threadIdx.x + i * kThreads;
      return (q % 4 + q / (4 * kOuter) * 4) * kQuad;
    } else {
      return (threadIdx.x + i / 2 * kThreads) / (kOuter / kQuad) * 2 + i % 2;
    }
  }

  __device__ void read(const float* x, Index step, Index outer, Index end_outer, Index k,
                       Index end_k, bool whole) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      quads[i] =
          read_quad<kAlongK>(x, step, outer + outer_of(i), end_outer, k + k_of(i), end_k, whole);
    }
  }

  // To place [pair][outer].
  template <int kRow>
  __device__ void write(uint32_t* shared) const {
    if constexpr (kAlongK) {
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        uint32_t* to = shared + k_of(i) / 2 * kRow + outer_of(i);
        to[0] = half_pair<kHalf>(quads[i].lane[0], quads[i].lane[1]);
        to[kRow] = half_pair<kHalf>(quads[i].lane[2], quads[i].lane[3]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kQuads; i += 2) {
        Quad<uint32_t> pairs;
#pragma unroll
        for (int q = 0; q < kQuad; ++q) {
          pairs.lane[q] = half_pair<kHalf>(quads[i].lane[q], quads[i + 1].lane[q]);
        }
        store_pack(shared + k_of(i) / 2 * kRow + outer_of(i), pairs);
      }
    }
  }
};

template <class S, Storage kHalf, bool kAAlongK, bool kBAlongK>
__global__ void __launch_bounds__(kThreads, 2) multiply_tile(const GemmWork<float> work) {
  constexpr bool kRules = kAAlongK;
  __align__(16) __shared__ uint32_t shared[S::kShared];
  float* results = reinterpret_cast<float*>(shared);
  const Index column_work = work.plan.column_work();
  if (blockIdx.x < column_work) return sum_columns(work, blockIdx.x, results);

  const GemmPlace place = gemm_place(work, blockIdx.x - column_work);
  const Product<float>& p = work.product;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int warp_m = warp / S::kWarpsN, warp_n = warp % S::kWarpsN;

  PairTile<kHalf, S::kM, S::kK, kAAlongK> a;
  PairTile<kHalf, S::kN, S::kK, kBAlongK> b;
  const auto read = [&](Index k) {
    a.read(p.a, kAAlongK ? p.a_row : p.a_k, place.row, p.m, k, place.end_k, work.a_quads);
    b.read(p.b, kBAlongK ? p.b_col : p.b_k, place.col, p.n, k, place.end_k, work.b_quads);
  };
  const auto write = [&](uint32_t* buffer) {
    a.template write<S::kRowM>(buffer);
    b.template write<S::kRowN>(buffer + S::kK / 2 * S::kRowM);
  };

  float sums[S::kFragmentsM][S::kFragmentsN][4] = {};
  read(place.k);
  write(shared);
  __syncthreads();
  int current = 0;
#pragma unroll 1
  for (Index k = place.k; k < place.end_k; k += S::kK) {
    const bool more = k + S::kK < place.end_k;
    if (more) read(k + S::kK);
    const uint32_t* from_a = shared + current * S::kBuffer + warp_m * S::kWarpM + g;
    const uint32_t* from_b =
        shared + current * S::kBuffer + S::kK / 2 * S::kRowM + warp_n * S::kWarpN + g;
#pragma unroll
    for (int pair = t, step = 0; step < S::kK / 16; ++step, pair += 8) {
      uint32_t left[S::kFragmentsM][4];
#pragma unroll
      for (int i = 0; i < S::kFragmentsM; ++i) {
        left[i][0] = from_a[pair * S::kRowM + i * 16];
        left[i][1] = from_a[pair * S::kRowM + i * 16 + 8];
        left[i][2] = from_a[(pair + 4) * S::kRowM + i * 16];
        left[i][3] = from_a[(pair + 4) * S::kRowM + i * 16 + 8];
      }
#pragma unroll
      for (int j = 0; j < S::kFragmentsN; ++j) {
        const uint32_t right[2] = {from_b[pair * S::kRowN + j * 8],
                                   from_b[(pair + 4) * S::kRowN + j * 8]};
#pragma unroll
        for (int i = 0; i < S::kFragmentsM; ++i) multiply_add<kHalf>(sums[i][j], left[i], right);
      }
    }
    current ^= 1;
    if (more) write(shared + current * S::kBuffer);
    __syncthreads();
  }

#pragma unroll 1
  for (int turn = 0; turn < S::kWarpsM; ++turn) {
    if (warp_m == turn) {
#pragma unroll
      for (int i = 0; i < S::kFragmentsM; ++i) {
#pragma unroll
        for (int j = 0; j < S::kFragmentsN; ++j) {
          float* to = results + (i * 16 + g) * S::kN + warp_n * S::kWarpN + j * 8 + 2 * t;
          store_pack(to, Pack<float, 2>{
                             {sums[i][j][0], sums[i][j][1]}
          });
          store_pack(to + 8 * S::kN, Pack<float, 2>{
                                         {sums[i][j][2], sums[i][j][3]}
          });
        }
      }
    }
    __syncthreads();
    finish_rows<kRules, 1, S::kWarpM, S::kN>(work, place, turn * S::kWarpM, results);
    __syncthreads();
  }
}

template <class S, Storage kHalf>
void start(const GemmWork<float>& work, const Context& context) {
  const bool a_along_k = work.product.a_k == 1, b_along_k = work.product.b_col != 1;
  const auto kernel = !a_along_k  ? multiply_tile<S, kHalf, false, false>
                      : b_along_k ? multiply_tile<S, kHalf, true, true>
                                  : multiply_tile<S, kHalf, true, false>;
  launch(kernel, work.plan.blocks(), kThreads, 0, context.stream, work);
}

template <class S>
void start(const GemmWork<float>& work, const Context& context) {
  if (work.product.operands == Storage::float16) return start<S, Storage::float16>(work, context);
  start<S, Storage::bfloat16>(work, context);
}

}  // namespace

GemmPlan plan_half(Index m, Index n, Index k, Index columns) {
  return plan_product({Large::size, Small::size}, m, n, k, columns);
}

void multiply_half(const GemmWork<float>& work, const Context& context) {
  if (work.plan.tile.m == Large::kM) return start<Large>(work, context);
  start<Small>(work, context);
}

}  // namespace fusednn::cuda
