// SPDX-License-Identifier: Apache-2.0
// Runs operations on arrays, outside any network.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "bindings/array.h"
#include "engine/footprint.h"
#include "engine/memory.h"
#include "engine/registry.h"

namespace fusednn::bindings {

// Collects operations and runs them in one go. What they point to must stay alive until then.
class Run {
 public:
  explicit Run(DType dtype) : dtype_(dtype) {}
  // On the device where this array is, and on the stream of its library.
  explicit Run(const View& like)
      : dtype_(like.dtype()), on_device_(like.on_device), queue_(like.queue) {}

  template <class Op>
  Run& add(const Op& op) {
    commands_.emplace_back(op, dtype_);
    return *this;
  }

  const Backend& backend() const {
    return engine::find_backend(on_device_ ? "cuda" : array_device());
  }
  // max_threads: 0 for as many as are worth it.
  void now(int max_threads = 0) const {
    if (commands_.empty()) return;
    const Backend& backend = this->backend();
    if (!backend.host_memory) {
      const pybind11::gil_scoped_release without_gil;
      const engine::OnQueue queue(backend, queue_);
      return engine::run_with_copies(backend, commands_);
    }
    const int n = static_cast<int>(commands_.size());
    const Schedule schedule = backend.prepare(commands_.data(), n, max_threads);
    const engine::Arena workspace(backend, schedule.workspace_bytes);
    const pybind11::gil_scoped_release without_gil;
    backend.execute(commands_.data(), n, schedule, workspace.data(), 1);
  }

  // The device that arrays in the host's memory are computed on: the CPU, unless a test says otherwise.
  static std::string& array_device() {
    static std::string name = "cpu";
    return name;
  }

 private:
  DType dtype_;
  bool on_device_ = false;
  uint64_t queue_ = 0;
  std::vector<Command> commands_;
};

}  // namespace fusednn::bindings
