// SPDX-License-Identifier: Apache-2.0
// Runs commands whose memory is the host's on a device that has its own: everything they name is copied
// there, and what they write comes back. What is the device's already stays where it is. For single
// operations on the arrays of a caller.
#pragma once

#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

// A pointer in the arguments of a command, and the memory behind it.
struct Footprint {
  void* pointer = nullptr;  // where the pointer is, of whatever type
  size_t bytes = 0;         // behind it
  bool written = false;

  const void* memory() const;
  void move_to(const void* memory) const;
};

// Every pointer of a command that is not null. Two of them that begin at the same address are the same
// memory; others do not overlap. The tables of an optimizer hold pointers of their own, which come with
// those of the command, so that changing all of them moves the command to other memory.
std::vector<Footprint> footprints(Command& command);

// Returns when all that the host sees of it has been done.
void run_with_copies(const Backend& backend, std::vector<Command> commands);

}  // namespace fusednn::engine
