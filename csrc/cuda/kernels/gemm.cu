// SPDX-License-Identifier: Apache-2.0
// Products in float32 and float64.
//
// A block of 256 threads computes a tile of the result. Tiles of both operands go from memory through
// registers to shared memory, one ahead of the one that is being multiplied, and from there to
// registers: 8 x 8 sums for each thread in large tiles, 4 x 4 in small ones. In the smallest tile four
// groups of threads each take a quarter of k.
#include "cuda/kernels/gemm.cuh"
#include "cuda/kernels/gemm_tiles.cuh"

namespace fusednn::cuda {
namespace {

template <int kM_, int kN_, int kK_, int kThread_, int kSlices_>
struct Shape {
  static constexpr int kM = kM_, kN = kN_, kK = kK_;
  static constexpr int kThread = kThread_;  // a thread sums kThread x kThread elements ...
  static constexpr int kSlices = kSlices_;  // ... of kK / kSlices products at a time
  // The lanes of a warp are 4 x 8, of 4 x 4 elements each that come kThread / 4 times per side.
  static constexpr int kLanesM = 4, kLanesN = 8;
  static constexpr int kWarpM = kLanesM * kThread, kWarpN = kLanesN * kThread;
  static constexpr int kWarpsM = kM / kWarpM, kWarpsN = kN / kWarpN;
  static_assert(kWarpsM * kWarpsN * kSlices * kWarp == kThreads);
  static constexpr TileSize size{kM, kN, kK};
  static constexpr int kShared = 2 * kK * (kM + kN);
  static_assert(kSlices * kWarpM * kN <= kShared, "results pass through the same memory");
};

template <class T>
struct Shapes {
  using Small =
      Shape<kSmallTile.m, kSmallTile.n, sizeof(T) == 4 ? kSmallTile.k : 32, 4, kSmallSlices>;
  using Medium = Shape<64, 64, 16, 4, 1>;
  using Large = Shape<128, 128, 8, 8, 1>;
};

// In shared memory a tile has kOuter elements for each k. Quads change places with k, so that elements
// that are written down a column do not meet in a bank.
__device__ int swizzled(int outer, int k) { return outer ^ (k / kQuad % 8 * kQuad); }

template <class T, int kOuter, int kK, bool kAlongK>
__device__ void to_shared(const OperandTile<T, kOuter, kK, kAlongK>& tile, T* shared) {
  using Tile = OperandTile<T, kOuter, kK, kAlongK>;
#pragma unroll
  for (int i = 0; i < Tile::kQuads; ++i) {
    const int outer = Tile::outer_of(i), k = Tile::k_of(i);
    if constexpr (kAlongK) {
#pragma unroll
      for (int q = 0; q < kQuad; ++q) {
        shared[(k + q) * kOuter + swizzled(outer, k)] = tile.quads[i].lane[q];
      }
    } else {
      store_pack(shared + k * kOuter + swizzled(outer, k), tile.quads[i]);
    }
  }
}

// kThread elements of a side, quads of which are 4 * kLanes apart.
template <int kThread, int kLanes, int kOuter, class T>
__device__ void from_shared(const T* shared, int outer, int k, T (&lanes)[kThread]) {
#pragma unroll
  for (int u = 0; u < kThread / kQuad; ++u) {
    const Quad<T> quad = load_quad(shared + k * kOuter + swizzled(outer + u * kLanes * kQuad, k));
#pragma unroll
    for (int q = 0; q < kQuad; ++q) lanes[u * kQuad + q] = quad.lane[q];
  }
}

template <class T, class S, bool kAAlongK, bool kBAlongK>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 2 : 1)
    multiply_tile(const GemmWork<T> work) {
  // A left operand that is read down its columns is that of a gradient of weights.
  constexpr bool kRules = kAAlongK;
  constexpr int kThread = S::kThread;
  __align__(16) __shared__ T shared[S::kShared];
  const Index column_work = work.plan.column_work();
  if (blockIdx.x < column_work) return sum_columns(work, blockIdx.x, shared);

  const GemmPlace place = gemm_place(work, blockIdx.x - column_work);
  const Product<T>& p = work.product;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int slice = warp / (S::kWarpsM * S::kWarpsN), in_tile = warp % (S::kWarpsM * S::kWarpsN);
  const int warp_m = in_tile / S::kWarpsN, warp_n = in_tile % S::kWarpsN;
  const int row = warp_m * S::kWarpM + lane / S::kLanesN * kQuad;
  const int col = warp_n * S::kWarpN + lane % S::kLanesN * kQuad;

  OperandTile<T, S::kM, S::kK, kAAlongK> a;
  OperandTile<T, S::kN, S::kK, kBAlongK> b;
  const auto read = [&](Index k) {
    a.read(p.a, kAAlongK ? p.a_row : p.a_k, place.row, p.m, k, place.end_k, work.a_quads);
    b.read(p.b, kBAlongK ? p.b_col : p.b_k, place.col, p.n, k, place.end_k, work.b_quads);
  };
  constexpr int kBuffer = S::kK * (S::kM + S::kN);
  const auto write = [&](T* buffer) {
    to_shared(a, buffer);
    to_shared(b, buffer + S::kK * S::kM);
  };

  T sums[kThread][kThread] = {};
  read(place.k);
  write(shared);
  __syncthreads();
  int current = 0;
#pragma unroll 1
  for (Index k = place.k; k < place.end_k; k += S::kK) {
    const bool more = k + S::kK < place.end_k;
    if (more) read(k + S::kK);
    const T* from = shared + current * kBuffer;
    constexpr int kSteps = S::kK / S::kSlices;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      T left[kThread], right[kThread];
      const int at = slice * kSteps + step;
      from_shared<kThread, S::kLanesM, S::kM>(from, row, at, left);
      from_shared<kThread, S::kLanesN, S::kN>(from + S::kK * S::kM, col, at, right);
#pragma unroll
      for (int i = 0; i < kThread; ++i) {
#pragma unroll
        for (int j = 0; j < kThread; ++j) sums[i][j] = fma(left[i], right[j], sums[i][j]);
      }
    }
    current ^= 1;
    if (more) write(shared + current * kBuffer);
    __syncthreads();
  }

  // One row of warps after the other leaves its sums in shared memory, from where all threads take
  // them in the order of the result.
#pragma unroll 1
  for (int turn = 0; turn < S::kWarpsM; ++turn) {
    if (warp_m == turn) {
      T* to = shared + slice * S::kWarpM * S::kN;
#pragma unroll
      for (int i = 0; i < kThread; ++i) {
        const int r = lane / S::kLanesN * kQuad + i / kQuad * S::kLanesM * kQuad + i % kQuad;
#pragma unroll
        for (int u = 0; u < kThread / kQuad; ++u) {
          Quad<T> quad;
#pragma unroll
          for (int q = 0; q < kQuad; ++q) quad.lane[q] = sums[i][u * kQuad + q];
          store_pack(to + r * S::kN + col + u * S::kLanesN * kQuad, quad);
        }
      }
    }
    __syncthreads();
    finish_rows<kRules, S::kSlices, S::kWarpM, S::kN>(work, place, turn * S::kWarpM, shared);
    __syncthreads();
  }
}

template <class T, class S>
void start(const GemmWork<T>& work, const Context& context) {
  const bool a_along_k = work.product.a_k == 1, b_along_k = work.product.b_col != 1;
  const auto kernel = !a_along_k  ? multiply_tile<T, S, false, false>
                      : b_along_k ? multiply_tile<T, S, true, true>
                                  : multiply_tile<T, S, true, false>;
  launch(kernel, work.plan.blocks(), kThreads, 0, context.stream, work);
}

template <class T>
void start(const GemmWork<T>& work, const Context& context) {
  using S = Shapes<T>;
  if (work.plan.tile.m == kThinTile.m) return multiply_thin(work, context);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (work.product.operands != Storage::native) return multiply_half(work, context);
    if (work.plan.tile.m == S::Large::kM) return start<T, typename S::Large>(work, context);
  }
  if (work.plan.tile.m == S::Medium::kM) return start<T, typename S::Medium>(work, context);
  start<T, typename S::Small>(work, context);
}

Index part_stride(Index n) { return divide_up(n, kQuad) * kQuad; }

// Where the parts of a product wait, then those of the column sums, in numbers.
template <class T>
Index part_numbers(const GemmPlan& plan, const Product<T>& p) {
  return plan.parts > 1 ? plan.parts * p.m * part_stride(p.n) : 0;
}
Index column_numbers(const GemmPlan& plan, Index cols) {
  return plan.column_parts > 1 ? plan.column_parts * cols : 0;
}

}  // namespace

template <class T>
GemmPlan plan_for(const Product<T>& p, const ColumnSums<T>& sums) {
  using S = Shapes<T>;
  const Index columns = sums.sums != nullptr ? sums.cols : 0;
  if (is_thin(p, sums)) return plan_product({kThinTile}, p.m, p.n, p.k, 0);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (p.operands != Storage::native) return plan_half(p.m, p.n, p.k, columns);
    return plan_product({S::Large::size, S::Medium::size, S::Small::size}, p.m, p.n, p.k, columns);
  } else {
    return plan_product({S::Medium::size, S::Small::size}, p.m, p.n, p.k, columns);
  }
}

template <class T>
size_t multiply_workspace(const Product<T>& product, const ColumnSums<T>& columns) {
  const GemmPlan plan = plan_for(product, columns);
  return sizeof(T) * size_t(part_numbers(plan, product) + column_numbers(plan, columns.cols));
}

template <class T>
void multiply(const Product<T>& product, const ColumnSums<T>& columns, const Finish<T>& finish,
              const Context& context) {
  GemmWork<T> work = gemm_work(product, columns, finish, plan_for(product, columns));
  const GemmPlan& plan = work.plan;

  T* room = static_cast<T*>(context.workspace);
  Parts<T> parts{room, plan.parts, product.m, part_stride(product.n)};
  Parts<T> column_parts{room + part_numbers(plan, product), plan.column_parts, 1, columns.cols};
  if (plan.parts > 1) {
    work.finish = Finish<T>{};
    work.finish.y = parts.data;
    work.finish.y_row = parts.stride;
    work.finish.quads = true;
    work.finish.accumulate = false;
    work.part_step = parts.rows * parts.stride;
  }
  if (plan.column_parts > 1) {
    work.column_sums = column_parts.data;
    work.accumulates_columns = false;
  }
  start(work, context);

  if (plan.parts > 1) finish_product(parts, product.n, finish, context);
  if (plan.column_parts > 1) {
    Finish<T> sums;
    sums.y = columns.sums;
    sums.y_row = columns.cols;
    sums.accumulate = finish.accumulate;
    finish_product(column_parts, columns.cols, sums, context);
  }
}

template GemmPlan plan_for<float>(const Product<float>&, const ColumnSums<float>&);
template void multiply<float>(const Product<float>&, const ColumnSums<float>&, const Finish<float>&,
                              const Context&);
template void multiply<double>(const Product<double>&, const ColumnSums<double>&,
                               const Finish<double>&, const Context&);
template size_t multiply_workspace<float>(const Product<float>&, const ColumnSums<float>&);
template size_t multiply_workspace<double>(const Product<double>&, const ColumnSums<double>&);

}  // namespace fusednn::cuda
