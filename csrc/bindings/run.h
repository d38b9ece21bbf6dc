// SPDX-License-Identifier: Apache-2.0
// Runs operations on arrays, outside any network.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

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
    const Backend& cpu = engine::find_backend("cpu");
    const int n = static_cast<int>(commands_.size());
    const Schedule schedule = cpu.prepare(commands_.data(), n, 0);
    const engine::Arena workspace(cpu, schedule.workspace_bytes);
    const pybind11::gil_scoped_release without_gil;
    cpu.execute(commands_.data(), n, schedule, workspace.data());
  }

 private:
  DType dtype_;
  std::vector<Command> commands_;
};

}  // namespace fusednn::bindings
