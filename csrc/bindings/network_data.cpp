// SPDX-License-Identifier: Apache-2.0
#include "bindings/network_data.h"

#include <stdexcept>

namespace fusednn::bindings {
namespace {

using engine::Node;
using engine::Shape;

void expect_count(const py::list& given, const char* name, size_t expected) {
  if (given.size() != expected) {
    throw std::invalid_argument(std::string(name) + ": has " + std::to_string(given.size()) +
                                " arrays, expected " + std::to_string(expected));
  }
}

// Rows of `columns` values each, under any shape after the first axis.
const void* rows_of(Data& data, const py::object& given, const std::string& argument, DType dtype,
                    Index columns) {
  const View& view = data.hold(as_it_lies(given, argument, Expected{dtype, "the network"}));
  const Shape& shape = view.shape;
  const bool known = data.set.rows >= 0;
  if (shape.empty() || (known && shape[0] != data.set.rows) ||
      engine::size_of(Shape(shape.begin() + 1, shape.end())) != columns) {
    throw std::invalid_argument(argument + ": has shape " + engine::to_string(shape) +
                                ", expected " + (known ? std::to_string(data.set.rows) : "some") +
                                " rows of " + std::to_string(columns) + " values");
  }
  data.set.rows = shape[0];
  return view.data;
}

}  // namespace

Data read_inputs(const engine::Network& network, const py::list& inputs) {
  Data data;
  data.set.rows = -1;  // not known yet
  const engine::Graph& graph = network.graph();
  expect_count(inputs, "inputs", graph.inputs.size());
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Node& node = graph.nodes[static_cast<size_t>(graph.inputs[i])];
    data.set.inputs.push_back(
        rows_of(data, inputs[i], "inputs[" + std::to_string(i) + "]", network.dtype(), node.size));
  }
  return data;
}

Data read_data(const engine::Network& network, const py::list& inputs, const py::list& targets,
               const py::object& sample_weight) {
  Data data = read_inputs(network, inputs);
  if (data.set.rows == 0) throw std::invalid_argument("inputs[0]: has no rows");
  expect_count(targets, "targets", network.targets().size());
  for (size_t i = 0; i < targets.size(); ++i) {
    const engine::Feed& feed = network.targets()[i];
    const std::string argument = "targets[" + std::to_string(i) + "]";
    const py::object target = targets[i];
    data.set.targets.push_back(
        feed.labels ? data.hold(labels(target, argument, data.set.rows, feed.classes)).data
                    : rows_of(data, target, argument, network.dtype(), feed.row_elements));
  }
  if (!sample_weight.is_none()) {
    data.set.sample_weight = rows_of(data, sample_weight, "sample_weight", network.dtype(), 1);
  }
  return data;
}

const Index* read_order(Data& data, const py::object& order) {
  if (order.is_none()) return nullptr;
  const View& view = data.hold(places(order, "order", data.set.rows));
  return reinterpret_cast<const Index*>(view.data);
}

std::vector<std::pair<std::string, const double*>> read_schedules(Data& data, const py::dict& given,
                                                                  Index steps) {
  std::vector<std::pair<std::string, const double*>> schedules;
  for (const auto& [key, values] : given) {
    const auto name = py::cast<std::string>(key);
    const std::string argument = "schedules['" + name + "']";
    const View& view =
        data.hold(as_it_lies(values, argument, Expected{DType::float64, "a schedule"}));
    expect_shape(view, argument, {steps});
    schedules.emplace_back(name, static_cast<const double*>(static_cast<const void*>(view.data)));
  }
  return schedules;
}

}  // namespace fusednn::bindings
