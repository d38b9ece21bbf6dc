// SPDX-License-Identifier: Apache-2.0
// Brings the rows of a data set to where commands can read them.
#pragma once

#include <vector>

#include "engine/memory.h"

namespace fusednn::engine {

// One array in the host's memory, rows without gaps.
struct SupplyArray {
  const void* data = nullptr;
  size_t row_bytes = 0;
};

// Where the device's memory is the host's, commands read the arrays where they are. Otherwise all
// arrays are uploaded when a run begins, or, where they are too large for the device, as many rows at a
// time as fit, gathered in the order in which they are visited.
class Supply {
 public:
  explicit Supply(const Backend& backend) : backend_(&backend) {}

  // Begins a run over all rows. Batches begin at multiples of `batch`. The arrays and the order (null:
  // as they lie) must stay as they are until the run has ended.
  void begin(std::vector<SupplyArray> arrays, Index rows, const Index* order, Index batch);

  // What the commands read: the same addresses from run to run, where no array is larger than before.
  const void* array(size_t i) const;
  const Index* order() const;

  // Sees to it that the rows of the batch that begins at row `first` of the run are there, and says what
  // GatherRows::first must be.
  Index fetch(Index first);

 private:
  void need(Arena& arena, size_t bytes);
  void upload_rows(Index first, Index n);

  const Backend* backend_;
  std::vector<SupplyArray> arrays_;
  Index rows_ = 0;
  const Index* order_ = nullptr;

  bool whole_ = true;
  std::vector<Arena> copies_;
  Arena order_copy_;

  // Of the part that is there, where not all are.
  Index part_rows_ = 0, part_first_ = 0, part_end_ = 0;
  std::vector<char> staging_;
};

// A permutation of 0 .. n-1, a function of seed and epoch alone.
std::vector<Index> shuffled(Index n, uint64_t seed, uint64_t epoch);

}  // namespace fusednn::engine
