// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace fusednn::cpu {

// Instruction sets by their psABI or common names: "x86-64-v2", "x86-64-v3", "x86-64-v4", "neon",
// "generic". False also for names of another architecture.
bool processor_runs(const char* isa);

// Whether it has AVX512-BF16: dot products of pairs of bfloat16, summed in float32.
bool processor_has_bf16();

}  // namespace fusednn::cpu
