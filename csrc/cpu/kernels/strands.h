// SPDX-License-Identifier: Apache-2.0
// The lanes that core/philox.h runs on fastest here.
#pragma once

#include "core/philox.h"
#include "cpu/kernels/simd.h"

namespace fusednn::FNN_ISA {

// Several vectors as one lane type: each step of the generator waits for the one before, so others are
// needed to do meanwhile.
struct Strands {
  static constexpr int kCount = vector_bytes == 64 ? 4 : 2;
  static constexpr int size = kCount * VecU32::size;
  VecU32 part[kCount];

  Strands() = default;
  FNN_HD explicit Strands(uint32_t x) {
    for (VecU32& each : part) each = VecU32(x);
  }
  FNN_HD friend Strands operator^(Strands a, Strands b) {
    for (int k = 0; k < kCount; ++k) a.part[k] = a.part[k] ^ b.part[k];
    return a;
  }
};

FNN_HD void mulhilo(Strands a, uint32_t b, Strands& high, Strands& low) {
  for (int k = 0; k < Strands::kCount; ++k) mulhilo(a.part[k], b, high.part[k], low.part[k]);
}

}  // namespace fusednn::FNN_ISA
