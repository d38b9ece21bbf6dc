// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine/memory.h"

namespace fusednn::engine {

// What the memory is for; one call may use all of them at once.
enum class Scratch { workspace, values, count };

// Memory for the time of one call. It is kept for the calling thread from one call to the next, so that a
// run allocates nothing; what the last call left is in it. On somebody else's queue it is allocated each
// time, because only that queue knows when it is free again.
class ScratchMemory {
 public:
  ScratchMemory(const Backend& backend, Scratch use, size_t bytes);
  char* data() const { return data_; }

 private:
  Arena own_;
  char* data_;
};

}  // namespace fusednn::engine
