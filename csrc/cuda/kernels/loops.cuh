// SPDX-License-Identifier: Apache-2.0
// What most kernels are made of: accesses of 16 bytes, a loop over adjacent elements, threads laid out
// over the rows of a matrix, the hyper-parameters of a rule, and a table with one kernel per rule.
#pragma once

#include "core/hd.h"
#include "core/parameter.h"
#include "cuda/kernels/context.h"
#include "cuda/launch.cuh"
#include "engine/backend.h"

namespace fusednn::cuda {

constexpr int kThreads = 256;  // of a block, unless a kernel says otherwise
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

FNN_HD Index smaller(Index a, Index b) { return a < b ? a : b; }
FNN_HD Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

// ---- neighbours --------------------------------------------------------------------------------

// N neighbours, in accesses as wide as 16 bytes allow.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T lane[N];
};

constexpr int kQuad = 4;
template <class T>
using Quad = Pack<T, kQuad>;

template <int N, class T>
__device__ Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <class T>
__device__ Quad<T> load_quad(const T* p) {
  return load_pack<kQuad>(p);
}
template <class T, int N>
__device__ void store_pack(T* p, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// Whether packs may be taken from here; a null pointer stands for memory that is not touched.
template <class T>
FNN_HD bool holds_packs(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Quad<T>) == 0;
}
// ... from every row of a matrix.
template <class T>
FNN_HD bool rows_hold_packs(const ConstMatrix& m) {
  return m.data == nullptr || (holds_packs(static_cast<const T*>(m.data)) && m.stride % kQuad == 0);
}

// ---- adjacent elements -------------------------------------------------------------------------

// out[i] = f({in[0][i], in[1][i], ...}) over n elements by the whole grid. A null input gives zeros.
// `out` may be one of the inputs: what a thread writes it has read before.
template <class T, int kInputs, class F>
__device__ void map(Index n, const T* const (&in)[kInputs], T* out, F f) {
  constexpr int N = 16 / sizeof(T);
  constexpr int kUnrolled = kInputs == 1 && N == 4 ? 2 : 1;  // rules take registers per element
  const Index threads = Index(gridDim.x) * blockDim.x;
  const Index first = Index(blockIdx.x) * blockDim.x + threadIdx.x;
  bool whole = holds_packs(out);
  for (int k = 0; k < kInputs; ++k) whole &= holds_packs(in[k]);
  const Index end = whole ? n / N * N : 0;
#pragma unroll 1
  for (Index i = first * N; i < end; i += kUnrolled * threads * N) {
    Pack<T, N> x[kUnrolled][kInputs] = {};
#pragma unroll
    for (int u = 0; u < kUnrolled; ++u) {
      const Index place = i + u * threads * N;
#pragma unroll
      for (int k = 0; k < kInputs; ++k) {
        if (in[k] != nullptr && place < end) x[u][k] = load_pack<N>(in[k] + place);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnrolled; ++u) {
      const Index place = i + u * threads * N;
      Pack<T, N> result;
#pragma unroll
      for (int q = 0; q < N; ++q) {
        T lanes[kInputs];
#pragma unroll
        for (int k = 0; k < kInputs; ++k) lanes[k] = x[u][k].lane[q];
        result.lane[q] = f(lanes);
      }
      if (place < end) store_pack(out + place, result);
    }
  }
#pragma unroll 1
  for (Index i = end + first; i < n; i += threads) {
    T lanes[kInputs];
#pragma unroll
    for (int k = 0; k < kInputs; ++k) lanes[k] = in[k] != nullptr ? in[k][i] : T(0);
    out[i] = f(lanes);
  }
}

// Enough blocks to keep every multiprocessor busy; each thread strides over what is left.
inline unsigned blocks_for_map(Index n, const Context& context) {
  constexpr Index kPerMultiprocessor = 16;
  return unsigned(
      smaller(divide_up(n, kThreads * kQuad), kPerMultiprocessor * context.multiprocessors));
}

// ---- the rows of a matrix ----------------------------------------------------------------------

// Blocks of 2^log_across threads along a row and as many rows as threads are left for, where elements
// need no other: short rows share a block. Units are what a thread takes at a time.
struct RowGrid {
  Index rows, units;
  int log_across;

  FNN_HD RowGrid(Index r, Index u) : rows(r), units(u), log_across(0) {
    while (across() < kThreads && across() < units) ++log_across;
  }
  FNN_HD RowGrid(Index r, Index u, int log) : rows(r), units(u), log_across(log) {}
  FNN_HD int across() const { return 1 << log_across; }
  FNN_HD int rows_at_once() const { return kThreads >> log_across; }
  dim3 blocks() const {
    if (rows == 0 || units == 0) return dim3(0);
    return dim3(unsigned(divide_up(rows, rows_at_once())),
                unsigned(smaller(divide_up(units, across()), 65535)));
  }

  // body(row, unit)
  template <class Body>
  __device__ void for_each(Body body) const {
    const int at_once = rows_at_once(), lane = threadIdx.x & (across() - 1);
    const Index step = Index(gridDim.y) << log_across;
#pragma unroll 1
    for (Index row = Index(blockIdx.x) * at_once + (threadIdx.x >> log_across); row < rows;
         row += Index(gridDim.x) * at_once) {
#pragma unroll 1
      for (Index unit = (Index(blockIdx.y) << log_across) + lane; unit < units; unit += step) {
        body(row, unit);
      }
    }
  }
};

// The first element of row i.
template <class T>
FNN_HD const T* row_of(const ConstMatrix& m, Index i) {
  return static_cast<const T*>(m.data) + i * m.stride;
}
template <class T>
FNN_HD T* row_of(const Matrix& m, Index i) {
  return static_cast<T*>(m.data) + i * m.stride;
}

// ---- rules -------------------------------------------------------------------------------------

template <class T>
struct ParameterLanes {
  T list[kMaxParameters];
  FNN_HD explicit ParameterLanes(const double* parameters) {
    for (int i = 0; i < kMaxParameters; ++i) list[i] = T(parameters[i]);
  }
};

template <class Op, int N>
struct RuleTable {
  void (*run[N])(const Op&, const Context&);
};

}  // namespace fusednn::cuda
