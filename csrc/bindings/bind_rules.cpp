// SPDX-License-Identifier: Apache-2.0
// The rules by name, as Python sees them: the lists of csrc/rules and nothing else.
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "engine/catalog.h"

namespace fusednn::bindings {
namespace {

namespace py = pybind11;

py::dict describe(const std::vector<engine::ParameterInfo>& parameters) {
  py::dict result;
  for (const engine::ParameterInfo& p : parameters) {
    result[py::str(p.name)] = py::make_tuple(p.value, p.low, p.high);
  }
  return result;
}

py::dict activations() {
  py::dict result;
  for (const engine::ActivationInfo& info : engine::activations()) {
    py::dict entry;
    entry["parameters"] = describe(info.parameters);
    entry["saves_input"] = info.saves_input;
    result[py::str(info.name)] = entry;
  }
  return result;
}

py::dict losses() {
  py::dict result;
  for (const engine::LossInfo& info : engine::losses()) {
    py::dict entry;
    entry["parameters"] = describe(info.parameters);
    entry["rowwise"] = info.rowwise;
    result[py::str(info.name)] = entry;
  }
  return result;
}

py::dict optimizers() {
  py::dict result;
  for (const engine::OptimizerInfo& info : engine::optimizers()) {
    py::dict entry;
    entry["parameters"] = describe(info.parameters);
    entry["states"] = info.states;
    entry["layerwise"] = info.layerwise;
    result[py::str(info.name)] = entry;
  }
  return result;
}

}  // namespace

void bind_rules(py::module_& m) {
  m.def(
      "activations", &activations,
      "Name -> parameters as {name: (default, low, high)}, and whether the rule saves its input.");
  m.def(
      "losses", &losses,
      "Name -> parameters as {name: (default, low, high)}, and whether the rule works row by row.");
  m.def("optimizers", &optimizers,
        "Name -> parameters as {name: (default, low, high)}, the names of the state tensors, and "
        "whether the rule works with norms of whole tensors.");
  m.def("elementary_functions", &engine::elementary_functions, "Names that elementary() knows.");
}

}  // namespace fusednn::bindings
