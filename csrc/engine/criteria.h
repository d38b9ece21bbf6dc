// SPDX-License-Identifier: Apache-2.0
// Losses and metrics, from what the caller says to what a plan is made of.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/plan.h"

namespace fusednn::engine {

// A loss or metric as the caller names it.
struct CriterionSpec {
  std::string rule;  // a loss rule, "accuracy", or of Tallied "levels", "classes" or "moments"
  std::string node;  // name of the node it looks at
  std::map<std::string, double> parameters;
  int target = 0;
  bool labels = false;  // the target is one class number per row
  double weight = 1;
  bool against_zero = false;       // of a loss by elements: there is no target
  double threshold = 0.5;          // of accuracy
  std::vector<double> thresholds;  // of what is tallied; ascending
  Index top = 0;                   // of accuracy (0: 1) and of levels
  Index column = -1;
  bool per_column = false;
};

// Also notes in `targets` what the criterion expects of its target; std::invalid_argument where that
// contradicts what is noted there already.
Criterion resolve(const CriterionSpec& spec, const Graph& graph, std::vector<Feed>& targets);

}  // namespace fusednn::engine
