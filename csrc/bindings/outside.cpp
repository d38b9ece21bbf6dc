// SPDX-License-Identifier: Apache-2.0
#include "bindings/outside.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "bindings/array.h"

namespace fusednn::bindings {

py::dict describe(const engine::EpochReport& report) {
  py::dict result;
  result["rows"] = report.rows;
  result["steps"] = report.steps;
  result["losses"] = report.losses;
  py::list metrics;
  for (size_t i = 0; i < report.metrics.size(); ++i) {
    const engine::TallyReport& tally = report.tallies[i];
    if (tally.counts == nullptr) {
      metrics.append(report.metrics[i]);
    } else {
      metrics.append(py::array_t<double>(static_cast<py::ssize_t>(tally.n), tally.counts));
    }
  }
  result["metrics"] = metrics;
  result["penalty"] = report.penalty;
  result["stopped"] = report.stopped;
  return result;
}

Outside::Outside(py::object callable, double interval)
    : callable_(std::move(callable)), interval_(interval), last_(Clock::now()) {
  if (!callable_.is_none() && PyCallable_Check(callable_.ptr()) == 0) {
    throw py::type_error("watcher: " + shown(callable_) + " cannot be called");
  }
  if (!(interval >= 0)) {
    throw std::invalid_argument("interval=" + std::to_string(interval) + " must not be negative");
  }
}

engine::Watcher Outside::watcher() {
  constexpr double kSignals = 0.05;  // seconds between two looks at them
  return {[this](const engine::EpochReport& report) { return look(report); },
          callable_.is_none() ? kSignals : std::min(interval_, kSignals)};
}

void Outside::raise() const {
  if (raised_) std::rethrow_exception(raised_);
}

bool Outside::look(const engine::EpochReport& report) {
  const py::gil_scoped_acquire gil;
  try {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (callable_.is_none()) return true;
    const Clock::time_point now = Clock::now();
    if (std::chrono::duration<double>(now - last_).count() < interval_) return true;
    last_ = now;
    const py::object answer = callable_(describe(report));
    const int wish = answer.is_none() ? 1 : PyObject_IsTrue(answer.ptr());
    if (wish < 0) throw py::error_already_set();
    return wish != 0;
  } catch (...) {
    raised_ = std::current_exception();
    return false;
  }
}

}  // namespace fusednn::bindings
