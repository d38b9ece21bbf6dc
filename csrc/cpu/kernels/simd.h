// SPDX-License-Identifier: Apache-2.0
// Vec<float>, Vec<double>: as many lanes as a register of the instruction set holds, with the
// vocabulary of core/math.h, so that a rule runs on them unchanged. VecU32 has the lanes of
// Vec<float>. The elementary functions are in simd_math.h.
//
// An operation never depends on the lane it happens in. Everything is inlined: no symbol leaves the
// translation unit.
#pragma once

#include <stdint.h>

#include "core/hd.h"
#include "cpu/kernels/simd_native.h"

namespace fusednn::FNN_ISA {

// What belongs to a scalar type: native vectors, and the layout of its bits.
template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  using Raw = F32;
  using Bits = U32;
  using Mask = native::MaskF32;
  using Word = uint32_t;
  static constexpr int mantissa = 23;
  static constexpr int bias = 127;
};

template <>
struct Lanes<double> {
  using Raw = F64;
  using Bits = U64;
  using Mask = native::MaskF64;
  using Word = uint64_t;
  static constexpr int mantissa = 52;
  static constexpr int bias = 1023;
};

// One truth value per lane of Vec<T>.
template <class T>
struct LaneMask {
  using Raw = typename Lanes<T>::Mask;
  Raw raw;

  // clang-format off
  FNN_HD friend LaneMask operator&(LaneMask a, LaneMask b) { return {Raw(a.raw & b.raw)}; }
  FNN_HD friend LaneMask operator|(LaneMask a, LaneMask b) { return {Raw(a.raw | b.raw)}; }
  FNN_HD friend LaneMask operator^(LaneMask a, LaneMask b) { return {Raw(a.raw ^ b.raw)}; }
  FNN_HD friend LaneMask operator~(LaneMask a) { return {Raw(~a.raw)}; }
  FNN_HD friend LaneMask operator!(LaneMask a) { return ~a; }  // also right for a scalar rule's bool
  // clang-format on
};

// A list of lane numbers, for shuffles.
template <int... I>
struct Indices {};
template <int N, int... I>
struct IndicesUpTo : IndicesUpTo<N - 1, N - 1, I...> {};
template <int... I>
struct IndicesUpTo<0, I...> {
  using Type = Indices<I...>;
};

template <class T>
struct Vec {
  using Scalar = T;
  using Mask = LaneMask<T>;
  using Raw = typename Lanes<T>::Raw;
  using Bits = typename Lanes<T>::Bits;
  static constexpr int size = vector_bytes / int(sizeof(T));

  Raw raw;

  Vec() = default;
  // Broadcasts x. Subtracting a vector of zeros keeps the sign of -0, adding one would not.
  FNN_HD explicit Vec(double x) : raw(T(x) - Raw{}) {}
  FNN_HD explicit Vec(Raw lanes) : raw(lanes) {}

  FNN_HD static Vec from_bits(Bits bits) { return Vec((Raw)bits); }
  FNN_HD Bits bits() const { return (Bits)raw; }

  // No alignment is needed beyond that of T.
  FNN_HD static Vec load(const T* p) {
    Vec v;
    __builtin_memcpy(&v.raw, p, sizeof(Raw));
    return v;
  }
  FNN_HD void store(T* p) const { __builtin_memcpy(p, &raw, sizeof(Raw)); }

  // The first `lanes` elements (0 .. size); the other lanes are zero. Touches no other memory.
  FNN_HD static Vec load(const T* p, int lanes) {
    return lanes == size ? load(p) : Vec(native::load_partial(p, lanes));
  }
  FNN_HD void store(T* p, int lanes) const {
    if (lanes == size) {
      store(p);
    } else {
      native::store_partial(p, raw, lanes);
    }
  }

  // Around the caches where the processor can: p is a multiple of the vector's size, and
  // native::finish_streams() must follow before another thread reads.
  FNN_HD void stream(T* p) const { native::stream(p, raw); }

  FNN_HD T operator[](int lane) const { return raw[lane]; }

  // clang-format off
  FNN_HD Vec& operator+=(Vec b) { raw += b.raw; return *this; }
  FNN_HD Vec& operator-=(Vec b) { raw -= b.raw; return *this; }
  FNN_HD Vec& operator*=(Vec b) { raw *= b.raw; return *this; }
  FNN_HD Vec& operator/=(Vec b) { raw /= b.raw; return *this; }
  FNN_HD friend Vec operator+(Vec a, Vec b) { return Vec(a.raw + b.raw); }
  FNN_HD friend Vec operator-(Vec a, Vec b) { return Vec(a.raw - b.raw); }
  FNN_HD friend Vec operator*(Vec a, Vec b) { return Vec(a.raw * b.raw); }
  FNN_HD friend Vec operator/(Vec a, Vec b) { return Vec(a.raw / b.raw); }
  FNN_HD friend Vec operator-(Vec a) { return Vec(-a.raw); }
  FNN_HD friend Mask operator<(Vec a, Vec b)  { return {native::less(a.raw, b.raw)}; }
  FNN_HD friend Mask operator<=(Vec a, Vec b) { return {native::less_equal(a.raw, b.raw)}; }
  FNN_HD friend Mask operator>(Vec a, Vec b)  { return b < a; }
  FNN_HD friend Mask operator>=(Vec a, Vec b) { return b <= a; }
  FNN_HD friend Mask operator==(Vec a, Vec b) { return {native::equal(a.raw, b.raw)}; }
  FNN_HD friend Mask operator!=(Vec a, Vec b) { return ~(a == b); }

  FNN_HD friend Vec select(Mask m, Vec a, Vec b) { return Vec(native::select(m.raw, a.raw, b.raw)); }
  // a * b + c; rounded once, except on instruction sets without fused multiply-add.
  FNN_HD friend Vec fma(Vec a, Vec b, Vec c) { return Vec(native::fma(a.raw, b.raw, c.raw)); }
  // As the x86 instructions: b if either argument is NaN, and if both are zeros.
  FNN_HD friend Vec min(Vec a, Vec b) { return Vec(native::min(a.raw, b.raw)); }
  FNN_HD friend Vec max(Vec a, Vec b) { return Vec(native::max(a.raw, b.raw)); }
  FNN_HD friend Vec sqrt(Vec x)       { return Vec(native::sqrt(x.raw)); }
  FNN_HD friend Vec floor(Vec x)      { return Vec(native::floor(x.raw)); }
  FNN_HD friend Vec round_even(Vec x) { return Vec(native::round_even(x.raw)); }
  // clang-format on

  FNN_HD friend Vec abs(Vec x) { return from_bits(x.bits() & ~Vec(-0.0).bits()); }
  FNN_HD friend Vec copysign(Vec magnitude, Vec sign) {
    const Bits sign_bit = Vec(-0.0).bits();
    return from_bits((magnitude.bits() & ~sign_bit) | (sign.bits() & sign_bit));
  }
};

template <class T, int... I>
FNN_HD Vec<T> iota(Indices<I...>) {
  return Vec<T>(typename Vec<T>::Raw{T(I)...});
}

// {0, 1, 2, ...}
template <class V>
FNN_HD V iota() {
  return iota<typename V::Scalar>(typename IndicesUpTo<V::size>::Type{});
}

// Lane i receives lane (i + Step) % size.
template <int Step, class T, int... I>
FNN_HD Vec<T> rotate(Vec<T> v, Indices<I...>) {
  return Vec<T>(__builtin_shufflevector(v.raw, v.raw, ((I + Step) % int(sizeof...(I)))...));
}
template <int Step, class T>
FNN_HD Vec<T> rotate(Vec<T> v) {
  return rotate<Step>(v, typename IndicesUpTo<Vec<T>::size>::Type{});
}

// The sum of all lanes, always over the same tree: lane i meets lane i + size / 2, then the halves'
// halves, and so on.
template <class T>
FNN_HD T sum(Vec<T> v) {
  if constexpr (Vec<T>::size > 8) v += rotate<8>(v);
  if constexpr (Vec<T>::size > 4) v += rotate<4>(v);
  if constexpr (Vec<T>::size > 2) v += rotate<2>(v);
  return (v + rotate<1>(v))[0];
}

// The largest lane. Lanes that are NaN may or may not be seen: test for them beforehand.
template <class T>
FNN_HD T max_of(Vec<T> v) {
  if constexpr (Vec<T>::size > 8) v = max(v, rotate<8>(v));
  if constexpr (Vec<T>::size > 4) v = max(v, rotate<4>(v));
  if constexpr (Vec<T>::size > 2) v = max(v, rotate<2>(v));
  return max(v, rotate<1>(v))[0];
}

// Unsigned 32-bit lanes: random bits, before they decide about the lanes of a Vec.
struct VecU32 {
  using Mask = LaneMask<float>;
  static constexpr int size = Vec<float>::size;

  U32 raw;

  VecU32() = default;
  FNN_HD explicit VecU32(uint32_t x) : raw(U32{} + x) {}
  FNN_HD explicit VecU32(U32 lanes) : raw(lanes) {}

  FNN_HD static VecU32 load(const uint32_t* p) {
    VecU32 v;
    __builtin_memcpy(&v.raw, p, sizeof(U32));
    return v;
  }
  FNN_HD void store(uint32_t* p) const { __builtin_memcpy(p, &raw, sizeof(U32)); }
  FNN_HD static VecU32 load(const uint32_t* p, int lanes) {
    return lanes == size ? load(p) : VecU32(native::load_partial(p, lanes));
  }
  FNN_HD void store(uint32_t* p, int lanes) const {
    if (lanes == size) {
      store(p);
    } else {
      native::store_partial(p, raw, lanes);
    }
  }

  FNN_HD uint32_t operator[](int lane) const { return raw[lane]; }

  // clang-format off
  FNN_HD friend VecU32 operator+(VecU32 a, VecU32 b) { return VecU32(a.raw + b.raw); }
  FNN_HD friend VecU32 operator^(VecU32 a, VecU32 b) { return VecU32(a.raw ^ b.raw); }
  FNN_HD friend VecU32 operator&(VecU32 a, VecU32 b) { return VecU32(a.raw & b.raw); }
  FNN_HD friend VecU32 operator|(VecU32 a, VecU32 b) { return VecU32(a.raw | b.raw); }
  FNN_HD friend VecU32 operator<<(VecU32 a, int n) { return VecU32(a.raw << n); }
  FNN_HD friend VecU32 operator>>(VecU32 a, int n) { return VecU32(a.raw >> n); }
  FNN_HD friend Mask operator<(VecU32 a, VecU32 b) { return {native::less(a.raw, b.raw)}; }
  // clang-format on
};

template <>
FNN_HD VecU32 iota<VecU32>() {
  // Adding 2^23 leaves a small integer in the low bits of a float.
  return VecU32((iota<Vec<float>>() + Vec<float>(0x1p23)).bits() ^ Vec<float>(0x1p23).bits());
}

// The two halves of the 64-bit products a * b.
FNN_HD void mulhilo(VecU32 a, uint32_t b, VecU32& high, VecU32& low) {
  const U32 factor = VecU32(b).raw;
  const U64 even = native::multiply_even(a.raw, factor);
  const U64 odd = native::multiply_even((U32)((U64)a.raw >> 32), factor);
  const U64 low_half = U64{} + 0xffffffffu;
  high = VecU32((U32)((even >> 32) | (odd & ~low_half)));
  low = VecU32((U32)((even & low_half) | (odd << 32)));
}

FNN_HD VecU32 as_u32(Vec<float> x) { return VecU32(x.bits()); }
FNN_HD Vec<float> as_float(VecU32 x) { return Vec<float>::from_bits(x.raw); }
FNN_HD VecU32 select(VecU32::Mask m, VecU32 a, VecU32 b) {
  return as_u32(select(m, as_float(a), as_float(b)));
}

// words[i] < threshold for the lanes of V, which reads V::size words.
template <class V>
FNN_HD typename V::Mask words_below(const uint32_t* words, uint32_t threshold);

template <>
FNN_HD LaneMask<float> words_below<Vec<float>>(const uint32_t* words, uint32_t threshold) {
  return VecU32::load(words) < VecU32(threshold);
}

// In a double, 2^52 + word is exact and has the word as its low bits.
template <>
FNN_HD LaneMask<double> words_below<Vec<double>>(const uint32_t* words, uint32_t threshold) {
  typedef uint32_t Half __attribute__((vector_size(vector_bytes / 2)));
  Half half;
  __builtin_memcpy(&half, words, sizeof(Half));
  const U64 wide = __builtin_convertvector(half, U64);
  return Vec<double>::from_bits(wide | Vec<double>(0x1p52).bits()) <
         Vec<double>(0x1p52 + threshold);
}

// 1 + the upper 23 bits of a word / 2^23 for the lanes of V, which reads V::size words.
template <class V>
FNN_HD V one_and_upper_bits(const uint32_t* words);

template <>
FNN_HD Vec<float> one_and_upper_bits<Vec<float>>(const uint32_t* words) {
  return as_float((VecU32::load(words) >> 9) | as_u32(Vec<float>(1)));
}

template <>
FNN_HD Vec<double> one_and_upper_bits<Vec<double>>(const uint32_t* words) {
  typedef uint32_t Half __attribute__((vector_size(vector_bytes / 2)));
  Half half;
  __builtin_memcpy(&half, words, sizeof(Half));
  const U64 wide = __builtin_convertvector(half >> 9, U64);
  return Vec<double>::from_bits((wide << 29) | Vec<double>(1).bits());
}

}  // namespace fusednn::FNN_ISA
