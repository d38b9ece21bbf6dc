// SPDX-License-Identifier: Apache-2.0
// Dictionaries from Python, read into the structs of the engine. A key that is missing, unknown or of
// the wrong type is an error that names it.
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <string>
#include <vector>

#include "engine/network.h"

namespace fusednn::bindings {

namespace py = pybind11;

using Numbers = std::map<std::string, double>;

Numbers numbers(const py::dict& given, const std::string& owner);
std::vector<int> node_places(py::handle given,
                             const std::string& argument);  // of nodes, from a list
std::vector<double> number_list(py::handle given, const std::string& argument);
std::map<std::string, engine::Value> config_of(py::handle given, const std::string& argument);
engine::NodeSpec node_spec(const py::dict& given);
engine::CriterionSpec criterion_spec(const py::dict& given);
engine::OptimizerSpec optimizer_spec(const py::dict& given);

}  // namespace fusednn::bindings
