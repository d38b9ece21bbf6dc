// SPDX-License-Identifier: Apache-2.0
// What no kernel can beat: the loops whose speed is the limit of the processor or of its memory.
#pragma once

#include "cpu/kernels/context.h"

namespace fusednn::cpu {

enum class Ceiling : int {
  fma,    // multiply-adds between registers
  read,   // sum of x
  copy,   // y = x
  triad,  // z = x + 0.5 y
};

struct Strain {
  Ceiling ceiling = Ceiling::fma;
  Index n = 0;  // elements of each array; for `fma` multiply-adds, a multiple of kMultiplyAddsUnit
  void* x = nullptr;
  void* y = nullptr;
  void* z = nullptr;
};

// Independent sums, so that the latency of one hides behind the others. More would not fit into the
// 16 registers of the older instruction sets.
constexpr int kSums = 12;
constexpr Index kMultiplyAddsUnit = kSums * 64;  // one round with the longest vectors there are

}  // namespace fusednn::cpu
