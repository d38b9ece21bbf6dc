// SPDX-License-Identifier: Apache-2.0
// What Python sees of a run, and what may stop it.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>

#include "engine/network.h"

namespace fusednn::bindings {

namespace py = pybind11;

py::dict describe(const engine::EpochReport& report);

// Looks at the world outside between two steps: signals (Ctrl-C) always, Python's callable at its
// interval. What either raises stops the run and is raised again once the network is at rest.
class Outside {
 public:
  Outside(py::object callable, double interval);

  engine::Watcher watcher();
  void raise() const;

 private:
  using Clock = std::chrono::steady_clock;

  bool look(const engine::EpochReport& report);

  py::object callable_;
  double interval_;
  Clock::time_point last_;
  std::exception_ptr raised_;
};

}  // namespace fusednn::bindings
