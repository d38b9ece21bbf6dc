// SPDX-License-Identifier: Apache-2.0
// A list of commands that one block runs many times, with what it works on in its shared memory.
//
// The host says what goes where (cuda/resident.cpp); the kernel brings it there, makes the pointers of
// commands and tables lead to it, runs the list, and takes back what has been written.
#pragma once

#include <cuda_runtime.h>

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"

namespace fusednn::cuda {

// Device memory with a place in shared memory, which begins as far from 16 bytes as the memory does.
struct ResidentPiece {
  char* memory = nullptr;
  uint32_t place = 0;
  uint32_t bytes = 0;
  bool written = false;
};

// A pointer in shared memory that is to lead there as well.
struct ResidentLink {
  uint32_t pointer = 0;
  uint32_t target = 0;
};

struct ResidentWork {
  const ResidentPiece* pieces = nullptr;
  const ResidentLink* links = nullptr;
  uint32_t n_pieces = 0, n_links = 0;
  uint32_t commands = 0, n_commands = 0;  // where they are, and how many
  uint32_t scratch = 0;
  uint32_t times = 1;
};

// What a block makes of a command.
struct ResidentForm {
  bool taken = false;
  size_t scratch = 0;  // bytes of shared memory
  double cycles = 0;   // a prediction
};
ResidentForm resident_form(const Command& command);

void run_resident(const ResidentWork& work, size_t shared_bytes, cudaStream_t stream);

}  // namespace fusednn::cuda
