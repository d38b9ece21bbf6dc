// SPDX-License-Identifier: Apache-2.0
// Arrays that an optimizer changes where they lie, and the gradients that come for them step by step.
#pragma once

#include <vector>

#include "bindings/array.h"

namespace fusednn::bindings {

// The gradients of one step by address, null where there is none.
struct Gradients {
  std::vector<void*> addresses;
  std::vector<py::object> owners;  // of memory that is not the caller's own array

  bool complete() const;  // whether none is null
  Gradients take(const std::vector<size_t>& places) const;
};

class Parameters {
 public:
  // Writable arrays of floats without gaps, in any order of the axes, on a device in that of C; no two may
  // share memory.
  explicit Parameters(const py::list& given);

  // The same memory, as NumPy sees it, or on a device as a DeviceArray.
  py::list arrays() const;
  bool on_device() const { return !parameters_.empty() && parameters_[0].view.on_device; }
  std::vector<uintptr_t> addresses() const;
  // Of the same shape and dtype, or None; copied where the elements lie in another order.
  // Nothing is copied where they have to be writable.
  Gradients gradients(const py::list& given, bool writable);

 private:
  struct Parameter {
    View view;
    py::object array;         // of arrays()
    void* checked = nullptr;  // the last gradient that was found to lie apart from all parameters
  };

  void* read(py::handle given, size_t i, bool writable, std::vector<py::object>& owners) const;
  void need_apart(const void* gradient, size_t i) const;

  std::vector<Parameter> parameters_;
  std::vector<size_t> by_address_;  // the parameters that are not empty, in order
};

}  // namespace fusednn::bindings
