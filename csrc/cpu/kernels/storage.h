// SPDX-License-Identifier: Apache-2.0
// Numbers that lie in memory as bfloat16 or float16 while the arithmetic is that of float32. Both
// directions are exact where they can be and else rounded to nearest even, on every instruction set
// with the same bits: infinities, subnormals and NaN included.
#pragma once

#include "cpu/kernels/loops.h"
#include "cpu/kernels/strands.h"
#include "rules/rounding.h"

namespace fusednn::FNN_ISA {

typedef uint16_t U16 __attribute__((vector_size(vector_bytes / 2)));

// Bits of a float32, where a < limit for unsigned numbers.
FNN_HD U32 select_below(U32 a, uint32_t limit, U32 yes, U32 no) {
  return (U32)native::select(native::less(a, U32{} + limit), (F32)yes, (F32)no);
}

// The upper half of a float32.
struct Bfloat16 {
  FNN_HD static U32 widen(U16 half) { return __builtin_convertvector(half, U32) << 16; }
  FNN_HD static U16 narrow(U32 bits) {
    const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const U32 quiet_nan = (bits >> 16) | 0x40u;
    const U32 half = select_below(bits & 0x7fffffffu, 0x7f800001u, rounded, quiet_nan);
    return __builtin_convertvector(half, U16);
  }
};

// One bit of sign, five of exponent, ten of mantissa.
struct Float16 {
#if defined(__AVX512F__)
  FNN_HD static U32 widen(U16 half) { return (U32)_mm512_cvtph_ps((__m256i)half); }
  FNN_HD static U16 narrow(U32 bits) {
    return (U16)_mm512_cvtps_ph((__m512)bits, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
#elif defined(__AVX2__) && defined(__F16C__)
  FNN_HD static U32 widen(U16 half) { return (U32)_mm256_cvtph_ps((__m128i)half); }
  FNN_HD static U16 narrow(U32 bits) {
    return (U16)_mm256_cvtps_ph((__m256)bits, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
#else
  FNN_HD static U32 widen(U16 given) {
    const U32 half = __builtin_convertvector(given, U32);
    const U32 magnitude = (half & 0x7fffu) << 13;
    // A product takes the step from one bias of the exponent to the other, also for subnormals.
    const U32 finite = (U32)((F32)magnitude * 0x1p112f);
    const U32 bits = select_below(magnitude, 0x7c00u << 13, finite, finite | 0x7f800000u);
    return bits | (half & 0x8000u) << 16;
  }
  FNN_HD static U16 narrow(U32 bits) {
    const U32 magnitude = bits & 0x7fffffffu;
    // Added to 1/2, a subnormal result is rounded where its last bit lies.
    const U32 tiny = (U32)((F32)magnitude + 0.5f) - 0x3f000000u;
    const U32 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const U32 nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    const U32 endless = select_below(magnitude, 0x7f800001u, U32{} + 0x7c00u, nan);
    U32 half = select_below(magnitude, 0x38800000u, tiny, normal);
    half = select_below(magnitude, 0x47800000u, half, endless);
    return __builtin_convertvector(half | (bits & 0x80000000u) >> 16, U16);
  }
#endif
};

FNN_HD void store_halves(U16 half, uint16_t* p, int lanes) {
  if (lanes == Vec<float>::size) {
    __builtin_memcpy(p, &half, sizeof(half));
  } else {
    for (int k = 0; k < lanes; ++k) p[k] = half[k];
  }
}

template <class Format>
void widen(const void* src, float* dst, Index n) {
  for_lanes<Vec<float>>(0, n, [&](Index i, int lanes) FNN_INLINE {
    const uint16_t* p = static_cast<const uint16_t*>(src) + i;
    U16 half{};
    if (lanes == Vec<float>::size) {
      __builtin_memcpy(&half, p, sizeof(half));
    } else {
      for (int k = 0; k < lanes; ++k) half[k] = p[k];
    }
    Vec<float>::from_bits(Format::widen(half)).store(dst + i, lanes);
  });
}

template <class Format>
void narrow(const float* src, void* dst, Index n) {
  for_lanes<Vec<float>>(0, n, [&](Index i, int lanes) FNN_INLINE {
    const U16 half = Format::narrow(Vec<float>::load(src + i, lanes).bits());
    store_halves(half, static_cast<uint16_t*>(dst) + i, lanes);
  });
}

// ---- stochastic rounding to bfloat16 ---------------------------------------------------------------

constexpr int kNoiseAhead = 512;  // elements whose noise is drawn at a time

// a[0], b[0], a[1], b[1], ... of the lower or the upper halves.
template <int kUpper, class Raw, int... I>
FNN_HD Raw interleave(Raw a, Raw b, Indices<I...>) {
  constexpr int n = sizeof...(I);
  return __builtin_shufflevector(a, b, (I % 2 * n + I / 2 + kUpper * (n / 2))...);
}

// From the lanes of four vectors, one for each word, to the order of blocks in memory.
FNN_HD void store_blocks(const U32 (&word)[4], uint16_t* to) {
  using Words = IndicesUpTo<VecU32::size>::Type;
  using Pairs = IndicesUpTo<VecU32::size / 2>::Type;
  const U64 pairs[2][2] = {
      {(U64)interleave<0>(word[0], word[1], Words{}),
       (U64)interleave<0>(word[2], word[3], Words{})},
      {(U64)interleave<1>(word[0], word[1], Words{}),
       (U64)interleave<1>(word[2], word[3], Words{})}
  };
  for (const auto& half : pairs) {
    const U64 blocks[2] = {interleave<0>(half[0], half[1], Pairs{}),
                           interleave<1>(half[0], half[1], Pairs{})};
    __builtin_memcpy(to, blocks, sizeof(blocks));
    to += 2 * sizeof(U64) / sizeof(*to);
  }
}

// The noise of the elements from `begin` on, a multiple of kNoiseAhead, in the order of the elements.
inline void draw_noise(const rules::NoiseKey& key, int which, Index begin, uint16_t* noise) {
  constexpr int blocks = kNoiseAhead / rules::kNoiseBlock;
  static_assert(blocks % Strands::size == 0);
  const uint64_t first = static_cast<uint64_t>(begin) / rules::kNoiseBlock;
  for (int i = 0; i < blocks; i += Strands::size) {
    const uint64_t number = first + static_cast<uint64_t>(i);
    Strands low;
    for (int k = 0; k < Strands::kCount; ++k) {
      low.part[k] =
          VecU32(static_cast<uint32_t>(number) + uint32_t(k * VecU32::size)) + iota<VecU32>();
    }
    const PhiloxBlock<Strands> block =
        rules::noise_block(key, which, low, static_cast<uint32_t>(number >> 32));
    for (int k = 0; k < Strands::kCount; ++k) {
      const U32 word[4] = {block.word[0].part[k].raw, block.word[1].part[k].raw,
                           block.word[2].part[k].raw, block.word[3].part[k].raw};
      store_blocks(word, noise + (i + k * VecU32::size) * rules::kNoiseBlock);
    }
  }
}

// n elements at most kNoiseAhead, given their noise.
inline void round_at_random(const float* src, void* dst, Index n, const uint16_t* noise) {
  for_lanes<Vec<float>>(0, n, [&](Index i, int lanes) FNN_INLINE {
    U16 bits16;
    __builtin_memcpy(&bits16, noise + i, sizeof(bits16));
    const VecU32 rounded = rules::round_at_random(as_u32(Vec<float>::load(src + i, lanes)),
                                                  VecU32(__builtin_convertvector(bits16, U32)));
    store_halves(__builtin_convertvector(rounded.raw, U16), static_cast<uint16_t*>(dst) + i, lanes);
  });
}

inline void widen(Storage storage, const void* src, float* dst, Index n) {
  storage == Storage::bfloat16 ? widen<Bfloat16>(src, dst, n) : widen<Float16>(src, dst, n);
}
inline void narrow(Storage storage, const float* src, void* dst, Index n) {
  storage == Storage::bfloat16 ? narrow<Bfloat16>(src, dst, n) : narrow<Float16>(src, dst, n);
}

}  // namespace fusednn::FNN_ISA
