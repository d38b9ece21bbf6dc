// SPDX-License-Identifier: Apache-2.0
#include "bindings/network_data.h"

#include <stdexcept>

#include "bindings/specs.h"

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
const void* rows_in(Data& data, View&& given, const std::string& argument, Index columns) {
  const View& view = data.hold(std::move(given));
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
const void* rows_of(Data& data, const py::object& given, const std::string& argument, DType dtype,
                    Index columns) {
  return rows_in(data, as_it_lies(given, argument, Expected{dtype, "the network"}), argument,
                 columns);
}

}  // namespace

Data read_inputs(const engine::Network& network, const py::list& inputs) {
  Data data;
  data.set.rows = -1;  // not known yet
  const engine::Graph& graph = network.graph();
  expect_count(inputs, "inputs", graph.inputs.size());
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Node& node = graph.nodes[static_cast<size_t>(graph.inputs[i])];
    const std::string argument = "inputs[" + std::to_string(i) + "]";
    const py::object array = inputs[i];
    const bool bytes = py::isinstance<py::array_t<uint8_t>>(array);
    data.set.bytes.push_back(bytes);
    data.set.inputs.push_back(
        bytes ? rows_in(data, as_bytes_lie(array, argument), argument, node.size)
              : rows_of(data, array, argument, network.dtype(), node.size));
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
  const Index rows = data.set.rows;
  const View& view = data.hold(places(order, "order", rows, rows));
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

std::vector<const void*> addresses_of(const py::list& arrays) {
  std::vector<const void*> addresses;
  for (const py::handle array : arrays) addresses.push_back(py::cast<py::array>(array).data());
  return addresses;
}

engine::EpochReport read_begun(Data& data, const engine::Network& network,
                               const py::object& given) {
  engine::EpochReport begun;
  if (given.is_none()) return begun;
  const auto report = py::cast<py::dict>(given);
  begun.rows = py::cast<Index>(report["rows"]);
  begun.steps = py::cast<Index>(report["steps"]);
  begun.losses = number_list(report["losses"], "begun['losses']");
  begun.penalty = py::cast<double>(report["penalty"]);
  const auto metrics = py::cast<py::list>(report["metrics"]);
  if (begun.losses.size() != network.losses().size() ||
      metrics.size() != network.metrics().size()) {
    throw std::invalid_argument("begun: is the report of a network with other losses or metrics");
  }
  for (size_t i = 0; i < metrics.size(); ++i) {
    const engine::Criterion& metric = network.metrics()[i];
    const std::string argument = "begun['metrics'][" + std::to_string(i) + "]";
    if (metric.rule != engine::Criterion::kTally) {
      begun.metrics.push_back(py::cast<double>(metrics[i]));
      begun.tallies.emplace_back();
      continue;
    }
    const View& counts =
        data.hold(as_it_lies(metrics[i], argument, Expected{DType::float64, "counts"}));
    expect_shape(counts, argument, {metric.n_counts});
    begun.metrics.push_back(0);
    begun.tallies.push_back({static_cast<const double*>(static_cast<const void*>(counts.data)),
                             static_cast<size_t>(metric.n_counts)});
  }
  return begun;
}

}  // namespace fusednn::bindings
