// SPDX-License-Identifier: Apache-2.0
// What the engine compiles from a graph for one batch size: a list of commands over arenas. Nothing
// is allocated and nothing decided when it runs.
#pragma once

#include <optional>
#include <vector>

#include "engine/graph.h"
#include "engine/memory.h"

namespace fusednn::engine {

// A loss or a metric at one node. With `labels` the target is one class number per row, otherwise
// rows of values as wide as the node.
struct Criterion {
  int node = 0;
  int rule = 0;  // place in losses(), or kAccuracy
  std::vector<double> parameters;
  double threshold = 0.5;  // of accuracy with a single column
  bool labels = false;
  int target = 0;             // which of the caller's target arrays
  double weight = 1;          // factor of a loss in the sum that is minimised
  bool against_zero = false;  // there is no target, nor a weight for each row
  static constexpr int kAccuracy = -1;
  Index top = 1;  // of accuracy
  // Of a metric that is counted: its numbers are among PlanMemory::counts.
  static constexpr int kTally = -2;
  Tallied tallied = Tallied::levels;
  Index first_threshold = 0, n_thresholds = 0;
  Index first_count = 0, n_counts = 0;
  Index column = -1;
  bool per_column = false;
};

// One array the caller brings, as the plan sees it: a batch of rows is gathered from it into a buffer.
struct Feed {
  Index row_elements = 0;
  bool labels = false;  // int32, otherwise the plan's dtype
  Index classes = 0;    // labels lie in [0, classes)
};

struct PlanRequest {
  Index rows = 0;
  bool training = false;  // with dropout, batch statistics and a backward pass
  bool backward = false;
  bool weighted = false;          // a sample weight per row is fed
  std::vector<int> outputs;       // nodes whose values the caller wants
  std::vector<Criterion> losses;  // their weighted sum is differentiated
  std::vector<Criterion> metrics;
  std::vector<Feed> targets;
  std::vector<bool> bytes;  // which inputs of the graph are fed as bytes; none: no input
  double mixup = 0;         // not 0: inputs and targets are mixed by MixRows with this alpha
  uint64_t seed = 0;
};

// Memory that outlives plans and that commands point to.
struct PlanMemory {
  char* parameters = nullptr;
  char* gradients = nullptr;
  const uint64_t* step = nullptr;
  const double* loss_scales = nullptr;  // one per loss: weight / rows
  double* totals = nullptr;             // one per loss, then one per metric
  const double* thresholds = nullptr;   // of all tallies, one after the other
  double* counts = nullptr;             // likewise
};

struct Plan {
  Index rows = 0;
  std::vector<Command> commands;
  std::vector<void*> inputs;   // where each input of the graph is read from
  std::vector<void*> targets;  // where each target is read from
  void* sample_weight = nullptr;
  bool apart = false;  // no two buffers share memory: commands may run ahead of each other
  std::vector<ConstMatrix> outputs;  // values of the wanted nodes, after running
  Arena arena;                       // activations and their gradients
};

Plan compile(const Graph& graph, const PlanRequest& request, const PlanMemory& memory,
             const Backend& backend, Precision precision);

}  // namespace fusednn::engine
