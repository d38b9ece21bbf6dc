// SPDX-License-Identifier: Apache-2.0
// The product of gemm.h with its operands rounded to bfloat16 and its sums in float32. Matrices stay
// float32 in memory: they are rounded while they are packed. Column sums and everything that happens
// to a finished sum see float32.
//
// The value of an element depends on its row of a, its column of b and k alone: not on the shape of c,
// nor on threads. With instructions for it and without, the bits are the same (gemm_bf16_pairs.h).
#pragma once

#include "cpu/kernels/gemm.h"

namespace fusednn::FNN_ISA {

// Called by every thread of the team. The context says whether the processor has the instructions.
void multiply_bf16(const Product<float>& product, const Context& context);

Demand multiply_bf16_demand(const Product<float>& product, int threads);

}  // namespace fusednn::FNN_ISA
