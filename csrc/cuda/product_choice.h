// SPDX-License-Identifier: Apache-2.0
// Who multiplies: our own kernels or cuBLASLt, and who then does what belongs to a product. From the
// shape alone, so that the same product has the same bits each time.
//
// Nothing in this table has been measured. The stage `products` of bench/device.sh times every way for
// every class (products.json); where it contradicts a line, the line is wrong. Decision 0012 has the
// arithmetic behind each.
#pragma once

#include "core/dtype.h"

namespace fusednn::cuda {

//   own       our kernel, with everything in its epilogue
//   bare      the library's product as it is; bias, activation and sums of columns by our kernels
//   epilogue  the library adds the bias, or sums up the gradient of the bias, as it multiplies;
//             activations and their derivatives by our kernels
enum class Way : int { own, bare, epilogue };

// What the operands are as they are multiplied; `halves` are bfloat16 and float16.
enum class Arithmetic : int { float64, float32, tf32, halves };

struct ShapeClass {
  const char* name;
  double work;  // m n k, at least
  Index side;   // the shortest of m, n and k, at least
  // By Arithmetic, for the three products of a dense layer.
  Way forward[4], input[4], weights[4];
};

namespace product_table {

constexpr Way own = Way::own, bare = Way::bare, both = Way::epilogue;

// The first line whose bounds a product reaches.
// clang-format off
constexpr ShapeClass kLines[] = {
    //          at least         float64, float32, TF32, halves
    //          work     side    forward                    input                      weights
    // Rounding both operands on the way, 8 bytes for each number, costs less than wgmma saves over our
    // mma.sync.
    {"large",  0x1p32, 512, {both, both, both, both}, {bare, bare, bare, bare}, {bare, bare, bare, bare}},
    // Ours have half the speed, but no second launch: that is 2 us, or as much work as this.
    {"medium", 0x1p25, 9,   {both, both, both, own},  {bare, bare, bare, own},  {bare, bare, bare, own}},
    // Bound by launches, or by memory where a side is short: ours then read the weights once.
    {"small",  0,      0,   {own, own, own, own},     {own, own, own, own},     {own, own, own, own}},
};
// clang-format on

}  // namespace product_table

constexpr const ShapeClass& class_of(Index m, Index n, Index k) {
  const Index side = m < n ? (m < k ? m : k) : (n < k ? n : k);
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const ShapeClass* line = product_table::kLines;
  while (work < line->work || side < line->side) ++line;
  return *line;
}

}  // namespace fusednn::cuda
