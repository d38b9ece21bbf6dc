// SPDX-License-Identifier: Apache-2.0
// An array in the memory of a device: our own, for those who have no library that makes one, or somebody
// else's as we see it. It shows itself to other libraries, and to the rest of the bindings, as theirs do.
#pragma once

#include <memory>

#include "bindings/array.h"
#include "engine/memory.h"

namespace fusednn::bindings {

// The stream that all libraries know.
constexpr uint64_t kCommonStream = 1;

struct DeviceArray {
  Shape shape;
  py::dtype dtype;
  char* data = nullptr;
  uint64_t queue = kCommonStream;
  std::shared_ptr<engine::Arena> memory;  // where it is ours
  py::object owner;                       // where it is not

  explicit DeviceArray(const View& view);
  DeviceArray(const Shape& lengths, const py::dtype& type);  // zeros

  size_t bytes() const;
  py::array to_host() const;  // when all is done that is to be done to it
};

}  // namespace fusednn::bindings
