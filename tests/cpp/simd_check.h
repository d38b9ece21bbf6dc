// SPDX-License-Identifier: Apache-2.0
// What the tests of one instruction set share: compile with the flags of the kernels and
// -DFNN_ISA=<name>. Without them they test what the compiler's default target gets.
#pragma once

#ifndef FNN_ISA
#define FNN_ISA generic
#endif

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/kernels/simd.h"

namespace simd = fusednn::FNN_ISA;
using simd::Vec;
using simd::VecU32;

inline int failures = 0;

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      ++failures;                                                         \
      std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                     \
  } while (false)

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
template <class T>
bool same_or_nan(T a, T b) {
  return same_bits(a, b) || (std::isnan(a) && std::isnan(b));
}

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T kNan = std::numeric_limits<T>::quiet_NaN();

template <class T>
std::vector<T> special_values() {
  using L = std::numeric_limits<T>;
  std::vector<T> values{0,
                        T(-0.0),
                        1,
                        -1,
                        T(0.5),
                        T(-2.5),
                        T(1.5),
                        T(2.5),
                        T(3.49),
                        -T(3.5),
                        L::max(),
                        L::lowest(),
                        L::min(),
                        -L::min(),
                        L::denorm_min(),
                        -L::denorm_min(),
                        kInfinity<T>,
                        -kInfinity<T>,
                        kNan<T>};
  return values;
}

// Whether this processor has the instructions the file is compiled for.
inline bool supported() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

inline int outcome() {
  if (failures == 0) {
    std::printf("passed\n");
  } else {
    std::printf("%d checks failed\n", failures);
  }
  return failures == 0 ? 0 : 1;
}
