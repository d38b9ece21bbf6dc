// SPDX-License-Identifier: Apache-2.0
// Brings the rows of a data set to where commands can read them.
#pragma once

#include <map>
#include <vector>

#include "engine/memory.h"

namespace fusednn::engine {

// One array in the host's memory, rows without gaps.
struct SupplyArray {
  const void* data = nullptr;
  size_t row_bytes = 0;
};

// Where the device's memory is the host's, commands read the arrays where they are. Otherwise all
// arrays are uploaded when a run begins, or, where they are too large for the device, part after part,
// gathered in the order in which they are visited: there is room for two parts, and while commands read
// one of them the next one is on its way.
class Supply {
 public:
  explicit Supply(const Backend& backend) : backend_(&backend) {}

  // These arrays stay as they are until this is called again, so that one copy of each is enough.
  void hold(const std::vector<const void*>& arrays);
  // Begins a run over all rows. Batches begin at multiples of `batch`. The arrays and the order (null:
  // as they lie) must stay as they are until the run has ended.
  void begin(std::vector<SupplyArray> arrays, Index rows, const Index* order, Index batch);

  // What the commands read: the same addresses from run to run, where no array is larger than before.
  const void* array(size_t i) const;
  const Index* order() const;

  // Sees to it that the rows of the batch that begins at row `first` of the run are there, and says what
  // GatherRows::first must be; `end()` is where it begins at 0 again.
  Index fetch(Index first);
  Index end() const { return whole_ ? INT64_MAX : 2 * part_rows_; }
  // How many rows there are without another look here, from that row on.
  Index there(Index first) const;

 private:
  void need(Arena& arena, size_t bytes, Side side = Side::device);
  void bring(size_t i);
  void stage(Index part);

  const Backend* backend_;
  std::vector<SupplyArray> arrays_;
  Index rows_ = 0;
  const Index* order_ = nullptr;

  bool whole_ = true;
  std::vector<const char*> places_;  // of the arrays on the device
  std::vector<Arena> copies_;        // of those that are not held
  std::map<const void*, Arena> held_;
  Arena order_copy_;

  // Where not all are there.
  Index part_rows_ = 0;
  Index part_ = -1;  // that is there; the next one has been staged
  Arena staging_;    // for one part of all arrays
};

// A permutation of 0 .. n-1, a function of seed and epoch alone.
std::vector<Index> shuffled(Index n, uint64_t seed, uint64_t epoch);

}  // namespace fusednn::engine
