// SPDX-License-Identifier: Apache-2.0
// What a kernel may use, as plain C++. Extended when a kernel needs more.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __constant__ static
// One kernel runs at a time, and its blocks one after the other. The linker script gathers these, so
// that each block finds them poisoned.
#define __shared__ static

constexpr int warpSize = 32;

// ---- vectors, aligned as on a device -----------------------------------------------------------------

#define FNN_VECTORS(T, name, one, two, four)                 \
  struct name##1 { T x; };                                   \
  struct alignas(two) name##2 { T x, y; };                   \
  struct name##3 { T x, y, z; };                             \
  struct alignas(four) name##4 { T x, y, z, w; };            \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
FNN_VECTORS(unsigned char, uchar, 1, 2, 4)
FNN_VECTORS(short, short, 2, 4, 8)
FNN_VECTORS(unsigned short, ushort, 2, 4, 8)
FNN_VECTORS(int, int, 4, 8, 16)
FNN_VECTORS(unsigned, uint, 4, 8, 16)
FNN_VECTORS(long long, longlong, 8, 16, 16)
FNN_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
FNN_VECTORS(float, float, 4, 8, 16)
FNN_VECTORS(double, double, 8, 16, 16)
#undef FNN_VECTORS

// ---- meeting the other threads -----------------------------------------------------------------------

inline void __syncthreads() { (void)emulator::meet_block(0); }
inline int __syncthreads_count(int predicate) {
  return static_cast<int>(emulator::meet_block(predicate != 0));
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }

inline void __syncwarp(unsigned mask = 0xffffffffU) { (void)emulator::meet_warp(mask, "", 1); }

namespace emulator {

// The value of another lane; of one that the mask leaves out it is undefined on a device.
template <class T>
T value_of(unsigned mask, T mine, unsigned source) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>);
  const unsigned char* slots = meet_warp(mask, &mine, sizeof(T));
  if ((mask >> source & 1) == 0) fail("a shuffle reads a lane that its mask leaves out");
  T result;
  std::memcpy(&result, slots + size_t{16} * source, sizeof(T));
  return result;
}

template <class T, class Combine>
T over_lanes(unsigned mask, T mine, Combine combine) {
  const unsigned char* slots = meet_warp(mask, &mine, sizeof(T));
  bool first = true;
  T result{};
  for (unsigned i = 0; i < 32; ++i) {
    if ((mask >> i & 1) == 0) continue;
    T value;
    std::memcpy(&value, slots + size_t{16} * i, sizeof(T));
    result = first ? value : combine(result, value);
    first = false;
  }
  return result;
}

}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned lane = emulator::lane(), w = static_cast<unsigned>(width);
  return emulator::value_of(mask, value, lane / w * w + static_cast<unsigned>(source) % w);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulator::lane(), w = static_cast<unsigned>(width);
  return emulator::value_of(mask, value, lane % w + delta < w ? lane + delta : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulator::lane(), w = static_cast<unsigned>(width);
  return emulator::value_of(mask, value, lane % w >= delta ? lane - delta : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const unsigned lane = emulator::lane(), w = static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(lanes);
  return emulator::value_of(mask, value, source / w <= lane / w ? source : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned mine = predicate != 0 ? 1U << emulator::lane() : 0;
  return emulator::over_lanes(mask, mine, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  return emulator::over_lanes(mask, value, [](unsigned a, unsigned b) { return a + b; });
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return emulator::over_lanes(mask, value, [](unsigned a, unsigned b) { return a > b ? a : b; });
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return emulator::over_lanes(mask, value, [](unsigned a, unsigned b) { return a < b ? a : b; });
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- memory ------------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}
template <class T>
T __ldcg(const T* from) {
  return *from;
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}
template <class T>
void __stcg(T* to, T value) {
  *to = value;
}

// Of integers only: atomic additions of floating-point numbers come in no fixed order.
template <class T>
T atomicAdd(T* to, std::common_type_t<T> value) {
  static_assert(std::is_integral_v<T>, "a result must not depend on the order of blocks");
  const T before = *to;
  *to = static_cast<T>(before + value);
  return before;
}
template <class T>
T atomicExch(T* to, std::common_type_t<T> value) {
  const T before = *to;
  *to = value;
  return before;
}
template <class T>
T atomicMax(T* to, std::common_type_t<T> value) {
  const T before = *to;
  if (value > before) *to = value;
  return before;
}
template <class T>
T atomicCAS(T* to, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T before = *to;
  if (before == expected) *to = value;
  return before;
}
inline unsigned atomicInc(unsigned* to, unsigned limit) {
  const unsigned before = *to;
  *to = before >= limit ? 0 : before + 1;
  return before;
}

// ---- numbers -----------------------------------------------------------------------------------------

namespace emulator {
template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
}  // namespace emulator

inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }
#define FNN_EXTREMA(T)                             \
  inline T max(T a, T b) { return a > b ? a : b; } \
  inline T min(T a, T b) { return a < b ? a : b; }
FNN_EXTREMA(int)
FNN_EXTREMA(unsigned)
FNN_EXTREMA(long)
FNN_EXTREMA(unsigned long)
FNN_EXTREMA(long long)
FNN_EXTREMA(unsigned long long)
#undef FNN_EXTREMA
inline float max(float a, float b) { return std::fmax(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
