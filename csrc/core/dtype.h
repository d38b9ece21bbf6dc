// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusednn {

enum class DType : int32_t { float32, float64 };
constexpr int kDTypes = 2;

constexpr size_t size_of(DType dtype) { return dtype == DType::float32 ? 4 : 8; }

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::float32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::float64;
}

// What a network computes in: the type of all that is in memory, and what the operands of dense products
// are rounded to (of float32 only; they are summed in float32): to bfloat16, or to float16 in the forward
// pass and to bfloat16 in the backward pass, where numbers get too small for float16.
struct Precision {
  DType dtype;
  bool bfloat16;
  bool float16;
  constexpr Precision(DType type, bool rounded = false, bool half_forward = false)
      : dtype(type), bfloat16(rounded), float16(half_forward) {}
};

using Index = int64_t;  // sizes, strides and positions, in elements unless a name says bytes

}  // namespace fusednn
