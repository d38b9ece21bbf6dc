// SPDX-License-Identifier: Apache-2.0
// The CPU as a backend, and what there is to know and to set about it.
#pragma once

#include <string>
#include <vector>

#include "cpu/processors.h"
#include "cpu/threads.h"
#include "engine/backend.h"

namespace fusednn::cpu {

// Its functions throw std::runtime_error if FUSEDNN_ISA names no instruction set that is compiled
// and runs here, or if the processor runs none of those compiled.
const Backend& backend();

// What prepare() returns, for a team whose size is given instead of chosen.
Schedule prepare_for_team(const Command* commands, int n, int threads);

// Instruction sets this build has kernels for, the fastest last, and those that run here.
std::vector<std::string> compiled_isas();
std::vector<std::string> supported_isas();

// FUSEDNN_ISA or the fastest supported one; throws as backend()'s functions do.
std::string chosen_isa();
// Changes it for all that runs from now on; std::invalid_argument unless it is supported.
void set_isa(const std::string& name);

// Whether bfloat16 products run on AVX512-BF16: the processor has it, the instruction set in use is
// x86-64-v4, and nobody has forbidden it. They are emulated otherwise, with the same bits.
bool uses_bf16();
void allow_bf16(bool allowed);

// The kernels of the chosen instruction set.
struct KernelTable;
const KernelTable& chosen_kernels();

}  // namespace fusednn::cpu
