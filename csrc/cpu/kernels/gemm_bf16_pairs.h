// SPDX-License-Identifier: Apache-2.0
// bfloat16 is the upper half of a float32. A pair is two neighbours along k, rounded to bfloat16, in
// one word: the first in its low half. Pairs are packed from float32 matrices and multiplied with
// sums in float32, in one of two ways that give the same bits:
//
//   DotInstructions  AVX512-BF16: vcvtne2ps2bf16 rounds, vdpbf16ps multiplies
//   DotEmulation     the same steps in ordinary arithmetic, for every other processor
//
// Rounding is to nearest even. A float32 so large that it rounds beyond the largest bfloat16 becomes
// infinite, a subnormal one becomes zero, a NaN stays one. vdpbf16ps adds the product of the second
// elements of a pair to the sum, rounds, adds that of the first and rounds again; both products are
// exact. It also takes subnormal sums for zero, which the emulation does not.
#pragma once

#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/simd_math.h"

namespace fusednn::FNN_ISA {

constexpr Index pairs_in(Index k) { return (k + 1) / 2; }

struct DotEmulation {
  // What is multiplied at a time: one element of each pair, widened to float32. The second goes first.
  using Part = Vec<float>;
  static constexpr int parts = 2;
  static constexpr bool rounds_fast = false;

  template <int P>
  FNN_HD static Part part(VecU32 pairs) {
    return as_float(P == 0 ? pairs & VecU32(0xffff0000u) : pairs << 16);
  }
  FNN_HD static Vec<float> add_product(Vec<float> sum, Part a, Part b) { return fma(a, b, sum); }

  // Rounded; the low half of each word is not yet clear.
  FNN_HD static VecU32 round(Vec<float> x) {
    const VecU32 bits = as_u32(x), sign(0x80000000u);
    const VecU32 nearest = bits + VecU32(0x7fff) + ((bits >> 16) & VecU32(1));
    const Vec<float> quiet = as_float(bits | VecU32(0x00400000));
    const Vec<float> finite =
        select(abs(x) < Vec<float>(0x1p-126), as_float(bits & sign), as_float(nearest));
    return as_u32(select(x == x, finite, quiet));
  }
  FNN_HD static VecU32 pair(Vec<float> first, Vec<float> second) {
    return (round(second) & VecU32(0xffff0000u)) | (round(first) >> 16);
  }

  // The pairs in a run of elements that two vectors hold.
  FNN_HD static VecU32 neighbours(Vec<float> low, Vec<float> high) {
    return neighbours(low, high, typename IndicesUpTo<Vec<float>::size>::Type{});
  }
  template <int... I>
  FNN_HD static VecU32 neighbours(Vec<float> low, Vec<float> high, Indices<I...>) {
    return pair(Vec<float>(__builtin_shufflevector(low.raw, high.raw, (2 * I)...)),
                Vec<float>(__builtin_shufflevector(low.raw, high.raw, (2 * I + 1)...)));
  }
};

#if defined(__AVX512F__)
// Assembler instead of intrinsics: those exist only in code that is compiled for AVX512-BF16 as a
// whole, and all but these two instructions is the same as for every processor with AVX-512.
struct DotInstructions {
  using Part = VecU32;
  static constexpr int parts = 1;
  static constexpr bool rounds_fast = true;

  template <int P>
  FNN_HD static Part part(VecU32 pairs) {
    return pairs;
  }
  FNN_HD static Vec<float> add_product(Vec<float> sum, Part a, Part b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }

  FNN_HD static VecU32 neighbours(Vec<float> low, Vec<float> high) {
    VecU32 pairs;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(pairs.raw) : "v"(low.raw), "v"(high.raw));
    return pairs;
  }
  FNN_HD static VecU32 pair(Vec<float> first, Vec<float> second) {
    typedef uint16_t U16 __attribute__((vector_size(vector_bytes)));
    const U16 both =
        (U16)neighbours(first, second).raw;  // all of the first, then all of the second
    return VecU32((U32)__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                               6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                               13, 29, 14, 30, 15, 31));
  }
};
#endif

// dst[p * dst_stride + j] = the pair src(2p, j), src(2p + 1, j); a row that does not exist counts as
// zeros. Up to the next multiple of the vector size, columns that do not exist give zeros if `pad`.
template <class Dot>
FNN_HD void pack_pairs_straight(Source<float> src, Index depth, Index cols, uint32_t* dst,
                                Index dst_stride, bool pad) {
  using W = Vec<float>;
  const Index full = cols / W::size * W::size;
  const int rest = static_cast<int>(cols - full);
  for (Index k = 0; k < depth; k += 2) {
    const float* first = src.data + k * src.stride;
    const float* second = first + src.stride;
    if (k + 1 < depth) {
      for (Index j = 0; j < full; j += W::size) {
        Dot::pair(W::load(first + j), W::load(second + j)).store(dst + j);
      }
      if (rest > 0) {
        const VecU32 last = Dot::pair(W::load(first + full, rest), W::load(second + full, rest));
        last.store(dst + full, pad ? W::size : rest);
      }
    } else {
      for (Index j = 0; j < cols; j += W::size) {
        const int lanes = j < full ? W::size : rest;
        Dot::pair(W::load(first + j, lanes), W(0.0f)).store(dst + j, pad ? W::size : lanes);
      }
    }
    dst += dst_stride;
  }
}

// The first pairs of a row of `depth` elements, as many as there are lanes; zeros behind its end.
template <class Dot>
FNN_HD VecU32 load_pairs(const float* row, Index depth) {
  using W = Vec<float>;
  if (depth >= 2 * W::size) return Dot::neighbours(W::load(row), W::load(row + W::size));
  const int some = static_cast<int>(depth);
  const W low = W::load(row, some < W::size ? some : W::size);
  return Dot::neighbours(low, some > W::size ? W::load(row + W::size, some - W::size) : W(0.0f));
}

// Vector c of the square becomes the pairs number c of `height` rows of `depth` elements. As floats,
// because that is what exchange() moves; nothing is computed with them.
template <class Dot>
FNN_HD void load_square(Source<float> src, int height, Index depth,
                        Vec<float> (&square)[Vec<float>::size]) {
  using W = Vec<float>;
  const bool full = depth >= 2 * W::size;
#pragma GCC unroll 16
  for (int r = 0; r < W::size; ++r) {
    const float* row = src.data + (r < height ? r : 0) * src.stride;
    square[r] = as_float(full ? Dot::neighbours(W::load(row), W::load(row + W::size))
                              : load_pairs<Dot>(row, depth));
  }
  if (height < W::size) {
#pragma GCC unroll 16
    for (int r = 0; r < W::size; ++r) {
      if (r >= height) square[r] = W(0.0f);
    }
  }
  transpose_from<W::size / 2>(square);
}

// dst[p * dst_stride + i] = the pair src(i, 2p), src(i, 2p + 1), for rows of `depth` elements.
template <class Dot>
FNN_HD void pack_pairs_transposed(Source<float> src, Index rows, Index depth, uint32_t* dst,
                                  Index dst_stride, bool pad) {
  using W = Vec<float>;
  const Index pairs = pairs_in(depth);
  if (rows == 1 && dst_stride == 1) {
    for (Index p = 0; p < pairs; p += W::size) {
      const Index lanes = pairs - p < W::size ? pairs - p : W::size;
      load_pairs<Dot>(src.data + 2 * p, depth - 2 * p).store(dst + p, static_cast<int>(lanes));
    }
    return;
  }
  for (Index i = 0; i < rows; i += W::size) {
    const int height = rows - i < W::size ? static_cast<int>(rows - i) : W::size;
    const int lanes = pad ? W::size : height;
    for (Index p = 0; p < pairs; p += W::size) {
      W square[W::size];
      const float* from = src.data + i * src.stride + 2 * p;
      load_square<Dot>({from, src.stride}, height, depth - 2 * p, square);
      const int width = pairs - p < W::size ? static_cast<int>(pairs - p) : W::size;
      uint32_t* to = dst + p * dst_stride + i;
      if (width == W::size && lanes == W::size) {
#pragma GCC unroll 16
        for (int c = 0; c < W::size; ++c) as_u32(square[c]).store(to + c * dst_stride);
      } else {
#pragma GCC unroll 16
        for (int c = 0; c < W::size; ++c) {
          if (c < width) as_u32(square[c]).store(to + c * dst_stride, lanes);
        }
      }
    }
  }
}

}  // namespace fusednn::FNN_ISA
