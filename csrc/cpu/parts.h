// SPDX-License-Identifier: Apache-2.0
// Commands cut into one part per thread, so that a thread can go from one command to the next without
// waiting: what its part reads of the command before, its own part there has written.
#pragma once

#include "cpu/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cpu {

// Along what a command can be cut: rows of a batch, or rows of a parameter. Two commands in a row that
// are cut alike have parts that belong together.
struct Cut {
  enum class Along { nothing, batch, parameter } along = Along::nothing;
  Index rows = 0;
  Index granule = 1;  // rows that stay together

  bool any() const { return along != Along::nothing; }
  bool operator==(const Cut& other) const { return along == other.along && rows == other.rows; }
  Range part(int rank, int size) const;
};

// How a team of this size may cut a command: not at all where a part would be too small to be computed
// well, or where its bits would depend on the cut.
Cut cut_for(const Command& command, int size);

// The arguments of one part. Not to be copied: they may point into it. Nothing is cleared, because a
// step makes dozens of these.
struct Part {
  alignas(8) unsigned char arguments[Command::kCapacity];
  alignas(8) unsigned char tensors[2 * sizeof(UpdateTensor)];

  Part(const Command& whole, const Cut& cut, int rank, int size);
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
};

}  // namespace fusednn::cpu
