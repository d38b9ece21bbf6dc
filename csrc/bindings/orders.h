// SPDX-License-Identifier: Apache-2.0
// Orders of rows, drawn from a bit generator of NumPy's with the numbers that NumPy would draw.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace fusednn::bindings {

namespace py = pybind11;

// What the capsule of a bit generator holds: numpy/random/bitgen.h, which NumPy promises not to change.
struct BitGenerator {
  void* state;
  uint64_t (*next_uint64)(void* state);
  uint32_t (*next_uint32)(void* state);
  double (*next_double)(void* state);
  uint64_t (*next_raw)(void* state);
};

// One order after another, the first of them that of rows as they lie, each the one before with its
// places shuffled as numpy.random.RandomState.shuffle does it.
class Orders {
 public:
  // `shared` says that others may draw from the generator meanwhile: then its lock is taken each time.
  Orders(Index rows, py::object generator, bool shared);

  Index rows() const { return static_cast<Index>(order_.size()); }
  // In the same memory each time. The caller need not hold the GIL.
  const Index* next();

 private:
  void shuffle();

  py::object generator_;  // owns what bits_ points to
  py::object lock_;       // null where not shared
  BitGenerator* bits_;
  std::vector<Index> order_;
};

}  // namespace fusednn::bindings
