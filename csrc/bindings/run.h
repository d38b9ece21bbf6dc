// SPDX-License-Identifier: Apache-2.0
// Runs operations on arrays, outside any network.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "engine/footprint.h"
#include "engine/memory.h"
#include "engine/registry.h"

namespace fusednn::bindings {

// Collects operations and runs them in one go. What they point to must stay alive until then.
class Run {
 public:
  explicit Run(DType dtype) : dtype_(dtype) {}

  template <class Op>
  Run& add(const Op& op) {
    commands_.emplace_back(op, dtype_);
    return *this;
  }

  void now() const {
    if (commands_.empty()) return;
    const Backend& backend = engine::find_backend(array_device());
    if (!backend.host_memory) {
      const pybind11::gil_scoped_release without_gil;
      return engine::run_with_copies(backend, commands_);
    }
    const int n = static_cast<int>(commands_.size());
    const Schedule schedule = backend.prepare(commands_.data(), n, 0);
    const engine::Arena workspace(backend, schedule.workspace_bytes);
    const pybind11::gil_scoped_release without_gil;
    backend.execute(commands_.data(), n, schedule, workspace.data());
  }

  // The device that arrays in the host's memory are computed on: the CPU, unless a test says otherwise.
  static std::string& array_device() {
    static std::string name = "cpu";
    return name;
  }

 private:
  DType dtype_;
  std::vector<Command> commands_;
};

}  // namespace fusednn::bindings
