// SPDX-License-Identifier: Apache-2.0
// An optimizer at work on the parameters of a graph: its state arenas, its step count, and the two
// commands (clip coefficient, update) that end every training step.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/catalog.h"
#include "engine/graph.h"
#include "engine/memory.h"

namespace fusednn::engine {

// How one parameter is treated apart from the others.
struct Treatment {
  double rate = 1;        // factor of the learning rate
  bool decays = true;     // whether the optimizer's weight_decay and l1 are for it
  double l1 = 0, l2 = 0;  // regularisation: l1 |p| + l2 p² / 2 is part of the loss
  bool operator==(const Treatment& other) const {
    return rate == other.rate && decays == other.decays && l1 == other.l1 && l2 == other.l2;
  }
};

// What one parameter is held to after each update.
struct Constraint {
  std::string bound;  // "", "not_negative" or "norm"
  double low = 0, high = 0, rate = 1;
};

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
  double ema_decay = 0;                 // 0: no average is kept
  uint64_t seed = 0;                    // of stochastic rounding, where there is any
  Index accumulation_steps = 1;         // an update takes the mean gradient of so many steps
  std::vector<Treatment> treatments;    // one for each parameter of the graph; none: all alike
  std::vector<Constraint> constraints;  // likewise; none: no bounds
};

// Values of the rule's hyper-parameters in its order; std::invalid_argument where the spec says what no
// step can do. A rule with a weight decay of its own takes the coupled one.
std::vector<double> check(const OptimizerSpec& spec);

// What does not depend on the step.
UpdateRecipe recipe_of(const OptimizerSpec& spec, const OptimizerInfo& info, const double* hyper);

// What the commands of step t = 1, 2, ... read. Moves the rule's memory on by one step, in the
// precision of the type it is kept in.
UpdateGroup prepare_group(const OptimizerSpec& spec, const OptimizerInfo& info, int convention,
                          const double* hyper, int64_t t, double* memory,
                          DType memory_type = DType::float64);

// Hyper-parameters of an optimizer by name, with a value for each step of a run that trains.
using Schedules = std::vector<std::pair<std::string, const double*>>;

class Optimizer {
 public:
  Optimizer(const OptimizerSpec& spec, const Graph& graph, const Backend& backend, DType dtype);
  Optimizer(const Optimizer&) = delete;  // commands point into it
  Optimizer& operator=(const Optimizer&) = delete;

  // Tells which parameters learn; called again after layers were frozen or thawed.
  void bind(const Graph& graph, char* parameters, char* gradients);
  std::vector<Command> commands();
  // Whether each tensor may be updated for itself, as soon as its gradient is there.
  bool updates_one_by_one() const;
  // Every tensor that learns, in the order of the graph's parameters, and the update of some of them:
  // of a matrix and at most one other, or, with `matrix_rows` 0, of any.
  std::vector<UpdateTensor> tensors(const Graph& graph, char* parameters, char* gradients) const;
  Command update(const UpdateTensor* tensors, Index n, Index matrix_rows);
  // What holds parameters that learn within their bounds, after an update.
  std::vector<Command> constraints(const Graph& graph, char* parameters) const;
  // Steps whose gradients are added up before an update.
  Index accumulation_steps() const { return spec_.accumulation_steps; }
  // What brings a step's numbers to where commands read them, on a device that does it itself.
  void bring_numbers(BeginStep& op);
  // At most so many steps at once.
  Index most_steps() const;
  // Writes what the commands of n steps will read, with the hyper-parameters that schedules have from
  // `step` on. They are counted, where they are to update, but for the last one.
  void prepare_steps(const Schedules& schedules, Index step, Index n, bool update);
  // Counts a step that was prepared, as its update begins. Updates count from 1.
  void count_step();
  // What regularisation adds to the loss, times `weight`; empty where there is none.
  std::vector<Command> penalty(double weight, double* total);
  // Its numbers for a run that does not train.
  void prepare_penalty();

  double hyper(const std::string& name) const;
  // Throws std::invalid_argument where set_hyper would.
  void check_hyper(const std::string& name, double value) const;
  // "lr", "weight_decay", ..., and "penalty_scale", a factor of all regularisation.
  void set_hyper(const std::string& name, double value);
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<double>& memory() { return memory_; }

  const OptimizerInfo& info() const { return *info_; }
  // Laid out like the parameters, as the host sees them; null where there is no average.
  char* state(int slot) { return state_windows_[static_cast<size_t>(slot)].show(); }
  char* ema() { return ema_window_.show(); }
  void hide_windows();  // before commands run
  double last_norm();   // global gradient norm, when clipping

 private:
  bool clips() const;
  void prepare_step();

  const OptimizerInfo* info_;
  OptimizerSpec spec_;
  int convention_;
  std::vector<double> hyper_, hyper_of_group_;
  std::vector<double> memory_, memory_after_;  // of the step that is prepared
  double penalty_scale_ = 1;
  int64_t steps_ = 0;
  DType dtype_;
  const Backend& backend_;
  std::vector<Arena> states_;
  Arena ema_;
  std::vector<Window> state_windows_;
  Window ema_window_;
  Mirror<UpdateTensor> tensors_;
  std::vector<Treatment> kinds_;  // all different, one for each group
  std::vector<int32_t> kind_of_;  // place in kinds_ of each parameter of the graph
  Mirror<UpdateGroup> groups_;
  Mirror<UpdateGroup> table_;  // those of several steps, where the device brings them itself
  Mirror<PenaltyTerm> terms_;
  std::vector<void*> term_gradients_;
  Mirror<double> coefficients_;
  Mirror<double> norm_;
};

}  // namespace fusednn::engine
