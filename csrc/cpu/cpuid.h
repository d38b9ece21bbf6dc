// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace fusednn::cpu {

// Instruction sets by their psABI or common names: "x86-64-v2", "x86-64-v3", "x86-64-v4", "neon",
// "generic". False also for names of another architecture.
bool processor_runs(const char* isa);

}  // namespace fusednn::cpu
