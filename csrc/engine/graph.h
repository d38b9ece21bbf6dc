// SPDX-License-Identifier: Apache-2.0
// What the user described: layers as nodes of a directed acyclic graph, with shapes worked out and
// parameters given their places in one arena.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/layer.h"

namespace fusednn::engine {

// A node as the caller says it. Inputs are places of earlier nodes, so the order is topological.
struct NodeSpec {
  std::string type;
  std::string name;
  std::vector<int> inputs;
  std::map<std::string, Value> config;
};

struct Parameter {
  std::string node;  // name of the layer it belongs to
  std::string name;
  Shape shape;
  Index size = 0;
  Index offset = 0;       // elements from the start of the parameter arena
  bool trainable = true;  // by nature; see Node::frozen for the caller's wish
};

struct Node {
  std::string type, name;
  std::unique_ptr<Layer> layer;  // null for inputs
  std::vector<int> inputs;
  Shape shape;
  Index size = 0;               // product of the shape
  std::vector<int> parameters;  // places in Graph::parameters
  bool frozen = false;          // its parameters do not learn
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<int> inputs;  // nodes of type "input", in the caller's order
  std::vector<Parameter> parameters;
  Index parameter_elements = 0;  // length of the parameter arena, padding included

  int find(const std::string& name) const;  // std::invalid_argument when there is no such node
};

Graph build_graph(const std::vector<NodeSpec>& specs, DType dtype);

}  // namespace fusednn::engine
