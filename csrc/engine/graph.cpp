// SPDX-License-Identifier: Apache-2.0
#include "engine/graph.h"

#include <set>
#include <stdexcept>

#include "engine/catalog.h"
#include "engine/memory.h"

namespace fusednn::engine {
namespace {

Shape input_shape(const NodeSpec& spec) {
  const Shape shape = Config(spec.name, spec.config).integers("shape");
  for (const Index dimension : shape) {
    if (dimension < 1) {
      throw std::invalid_argument(spec.name + ": shape=" + to_string(shape) +
                                  " must have positive dimensions");
    }
  }
  return shape;
}

}  // namespace

int Graph::find(const std::string& name) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].name == name) return static_cast<int>(i);
    names.push_back(nodes[i].name);
  }
  const std::string near = nearest(name, names);
  throw std::invalid_argument("there is no layer '" + name + "'" +
                              (near.empty() ? "" : "; did you mean '" + near + "'?"));
}

Graph build_graph(const std::vector<NodeSpec>& specs, DType dtype) {
  const Index alignment = static_cast<Index>(kAlignment / size_of(dtype));
  Graph graph;
  std::set<std::string> names;
  for (const NodeSpec& spec : specs) {
    const int place = static_cast<int>(graph.nodes.size());
    if (!names.insert(spec.name).second) {
      throw std::invalid_argument("two layers are named '" + spec.name + "'");
    }
    Node node;
    node.type = spec.type;
    node.name = spec.name;
    node.inputs = spec.inputs;
    if (spec.type == "input") {
      node.shape = input_shape(spec);
      graph.inputs.push_back(place);
    } else {
      std::vector<Shape> shapes;
      for (const int input : spec.inputs) {
        if (input < 0 || input >= place) {
          throw std::invalid_argument(spec.name + ": input " + std::to_string(input) +
                                      " is not an earlier layer");
        }
        shapes.push_back(graph.nodes[input].shape);
      }
      if (shapes.empty()) throw std::invalid_argument(spec.name + ": has no input");
      node.layer = make_layer(spec.type, Config(spec.name, spec.config));
      node.shape = node.layer->configure(shapes);
      for (const ParameterSpec& parameter : node.layer->parameters()) {
        Parameter p;
        p.node = spec.name;
        p.name = parameter.name;
        p.shape = parameter.shape;
        p.size = size_of(parameter.shape);
        p.offset = graph.parameter_elements;
        p.trainable = parameter.trainable;
        graph.parameter_elements += (p.size + alignment - 1) / alignment * alignment;
        node.parameters.push_back(static_cast<int>(graph.parameters.size()));
        graph.parameters.push_back(std::move(p));
      }
    }
    node.size = size_of(node.shape);
    graph.nodes.push_back(std::move(node));
  }
  if (graph.inputs.empty()) throw std::invalid_argument("a network needs at least one input");
  return graph;
}

}  // namespace fusednn::engine
