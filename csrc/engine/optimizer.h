// SPDX-License-Identifier: Apache-2.0
// An optimizer at work on the parameters of a graph: its state arenas, its step count, and the two
// commands (clip coefficient, update) that end every training step.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/catalog.h"
#include "engine/graph.h"
#include "engine/memory.h"

namespace fusednn::engine {

struct OptimizerSpec {
  std::string rule;
  std::string convention = "torch";
  std::map<std::string, double> hyper;
  double weight_decay = 0;
  bool decoupled = false;  // weight decay shrinks the weights instead of joining the gradient
  double l1 = 0;
  bool maximize = false;
  double clip_value = 0;  // 0: no limit
  double clip_norm = 0;   // per tensor; 0: no limit
  double global_clip_norm = 0;
  double ema_decay = 0;  // 0: no average is kept
};

// Values of the rule's hyper-parameters in its order; std::invalid_argument where the spec says what no
// step can do. A rule with a weight decay of its own takes the coupled one.
std::vector<double> check(const OptimizerSpec& spec);

// What the commands of step t = 1, 2, ... read. Moves the rule's memory on by one step, in the
// precision of the type it is kept in.
UpdateGroup prepare_group(const OptimizerSpec& spec, const OptimizerInfo& info, int convention,
                          const double* hyper, int64_t t, double* memory,
                          DType memory_type = DType::float64);

class Optimizer {
 public:
  Optimizer(const OptimizerSpec& spec, const Graph& graph, const Backend& backend, DType dtype);
  Optimizer(const Optimizer&) = delete;  // commands point into it
  Optimizer& operator=(const Optimizer&) = delete;

  // Tells which parameters learn; called again after layers were frozen or thawed.
  void bind(const Graph& graph, char* parameters, char* gradients);
  std::vector<Command> commands() const;
  // Whether each tensor may be updated for itself, as soon as its gradient is there.
  bool updates_one_by_one() const;
  // Every tensor that learns, in the order of the graph's parameters, and the update of some of them:
  // of a matrix and at most one other, or, with `matrix_rows` 0, of any.
  std::vector<UpdateTensor> tensors(const Graph& graph, char* parameters, char* gradients) const;
  Command update(const UpdateTensor* tensors, Index n, Index matrix_rows) const;
  // Writes what the next step's commands will read. Steps count from 1.
  void prepare_step();

  double hyper(const std::string& name) const;
  void set_hyper(const std::string& name, double value);  // "lr", "weight_decay", ...
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<double>& memory() { return memory_; }

  const OptimizerInfo& info() const { return *info_; }
  char* state(int slot) const { return states_[slot].data(); }  // laid out like the parameters
  char* ema() const { return ema_.data(); }                     // null when none is kept
  double last_norm() const { return norm_; }  // global gradient norm, when clipping

 private:
  const OptimizerInfo* info_;
  OptimizerSpec spec_;
  int convention_;
  std::vector<double> hyper_;
  std::vector<double> memory_;
  int64_t steps_ = 0;
  DType dtype_;
  std::vector<Arena> states_;
  Arena ema_;
  std::vector<UpdateTensor> tensors_;
  UpdateGroup group_;
  std::vector<double> coefficients_;
  double norm_ = 0;
};

}  // namespace fusednn::engine
