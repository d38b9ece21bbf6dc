// SPDX-License-Identifier: Apache-2.0
// A graph with its parameters on a device, and all that runs on it: prediction, training, evaluation.
// This is what the bindings wrap.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/criteria.h"
#include "engine/optimizer.h"
#include "engine/pace.h"
#include "engine/plan.h"
#include "engine/supply.h"

namespace fusednn::engine {

// Arrays of whole epochs. All have `rows` rows, contiguous, in host memory and in the network's dtype
// (labels: int32; inputs may be of bytes, whole numbers from 0 to 255).
struct Dataset {
  Index rows = 0;
  std::vector<const void*> inputs;
  std::vector<bool> bytes;  // one for each input; none: no input is
  std::vector<const void*> targets;
  const void* sample_weight = nullptr;
};

// The counts of a metric, in the network's memory until it does something else; null for other metrics.
struct TallyReport {
  const double* counts = nullptr;
  size_t n = 0;
};

struct EpochReport {
  Index rows = 0;  // seen so far
  Index steps = 0;
  std::vector<double> losses;        // sums over the rows, one per loss
  std::vector<double> metrics;       // likewise; 0 for what is tallied
  std::vector<TallyReport> tallies;  // one per metric
  double penalty = 0;    // what regularisation adds to a step's loss, times its rows, summed
  bool stopped = false;  // the watcher asked to stop
};

// Called between steps, and within those that take longer than 50 ms, at most every `interval` seconds.
// False stops; a step that has not reached its update is then as if it had not begun.
struct Watcher {
  std::function<bool(const EpochReport&)> look;
  double interval = 0.05;
};

// How steps of one kind and batch run at present.
struct Running {
  const char* what;  // "train", "evaluate", "predict" or "gradients"
  Index rows = 0;    // of a batch
  int threads = 1;   // of a team
  Pace pace;         // what the backend has learned of it; as at first where threads == 1
};

struct RunOptions {
  Index batch_size = 32;
  // The part of the epoch that was run before: the report goes on from here. Its lists fit, or are empty.
  EpochReport begun;
  const Index* order = nullptr;  // rows in the order to visit them; null: as they lie
  Watcher watcher;
  int max_threads = 0;  // 0: the backend's setting
  double mixup = 0;     // of a run that trains: see PlanRequest
  Schedules schedules;
};

class Network {
 public:
  Network(const std::vector<NodeSpec>& specs, Precision precision, const Backend& backend,
          uint64_t seed);
  ~Network();
  Network(const Network&) = delete;  // commands point into it
  Network& operator=(const Network&) = delete;

  // As long as one lives, a watcher may predict and evaluate in the middle of the run that it looks at:
  // what that run has under way is put aside.
  class Aside;

  const Graph& graph() const { return graph_; }
  DType dtype() const { return precision_.dtype; }
  bool on_host() const { return backend_.host_memory; }
  // As the host sees them. Gradients are null before set_training, then always in the same place.
  char* parameters() { return parameter_window_.show(); }
  char* gradients() { return gradient_window_.show(); }
  bool has_gradients() const { return gradients_.data() != nullptr; }
  // Null without one. Shared, because views of its state may outlive the next set_training.
  const std::shared_ptr<Optimizer>& optimizer() const { return optimizer_; }

  void set_frozen(const std::string& node, bool frozen);
  // Losses, metrics and, where given, the optimizer. Replaces what was set before, in one go.
  void set_training(const std::vector<CriterionSpec>& losses,
                    const std::vector<CriterionSpec>& metrics, const OptimizerSpec* optimizer);

  // These arrays of data sets stay as they are until this is called again: a device copies them once.
  void hold(const std::vector<const void*>& arrays) { supply_.hold(arrays); }
  EpochReport train(const Dataset& data, const RunOptions& options);
  EpochReport evaluate(const Dataset& data, const RunOptions& options);
  // Forward, loss and backward of one batch, in training or inference mode; fills gradients().
  EpochReport compute_gradients(const Dataset& data, bool training, int max_threads = 0);
  // Values of nodes, written to `outputs` (rows x size of the node each).
  void predict(const Dataset& data, const std::vector<int>& nodes,
               const std::vector<void*>& outputs, const RunOptions& options);

  // Of everything that has run lately, a step in several pieces several times, the latest last.
  std::vector<Running> running() const;

  Index collected() const { return n_collected_; }  // steps since the last update
  // Throws std::invalid_argument unless an update needs more steps than that.
  void set_collected(Index steps);
  // The sum of the gradients of those steps; null before an update has needed several.
  char* collected_gradients() { return collected_window_.show(); }
  uint64_t training_steps() const { return training_steps_; }  // drives the random masks
  void set_training_steps(uint64_t steps) { training_steps_ = steps; }
  // What set_training was told.
  const std::vector<Feed>& targets() const { return targets_; }
  const std::vector<Criterion>& losses() const { return losses_; }
  const std::vector<Criterion>& metrics() const { return metrics_; }

 private:
  // Where the mean gradient of several steps makes an update, those before the last one collect.
  enum class Mode { train, collect, evaluate, predict, gradients, inference_gradients };
  struct Program;
  // Steps of one kind, one after the other.
  struct Stretch {
    Index first = 0;  // row of the data set
    Index step = 0;   // of the run
    Index steps = 1;
  };

  static bool trains(Mode mode) { return mode == Mode::train || mode == Mode::collect; }
  Mode mode_of_step(Mode mode) const;
  void count_out(std::vector<Criterion>& metrics, const std::vector<CriterionSpec>& specs);
  PlanRequest request(Mode mode, Index rows, const Dataset& data, const RunOptions& options,
                      const std::vector<int>& outputs) const;
  Program& program(Mode mode, const PlanRequest& request);
  void assemble(Program& program);
  void append_updates(Program& program);
  void append_collection(Program& program);
  void supply(const Dataset& data, bool targets, const RunOptions& options, Index batch);
  void attach(Program& program, const RunOptions& options);
  void hide_windows();
  void begin_sums(EpochReport& report);
  Index steps_in_a_row(const Program& program, Index first, const RunOptions& options) const;
  void set_clock(const Program& program, const Stretch& now);
  bool run_steps(Program& program, const Stretch& now, const Schedules& schedules,
                 const std::function<bool()>& go_on);
  EpochReport run(Mode mode, const Dataset& data, const RunOptions& options,
                  const std::vector<int>& nodes, const std::vector<void*>& outputs);

  const Backend& backend_;
  Precision precision_;
  uint64_t seed_;
  Graph graph_;
  Arena parameters_, gradients_;
  Arena collected_;        // sum of the gradients of the steps since the last update
  Index n_collected_ = 0;  // how many those are
  Window parameter_window_, gradient_window_, collected_window_;
  uint64_t training_steps_ = 0;
  Mirror<StepClock> clock_;             // a device moves its own on; the host's follows
  Mirror<double> totals_;               // of losses, metrics and the penalty; commands add to them
  Mirror<double> thresholds_, counts_;  // of metrics that are tallied
  Supply supply_;
  std::shared_ptr<Optimizer> optimizer_;
  std::vector<Criterion> losses_, metrics_;
  std::vector<Feed> targets_;
  std::vector<std::unique_ptr<Program>> programs_;  // compiled so far, most recent last
  std::vector<std::unique_ptr<Program>> programs_aside_;
};

class Network::Aside {
 public:
  explicit Aside(Network& network);
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

 private:
  void swap();

  Network& network_;
  Supply supply_;
  std::vector<double> totals_, counts_;
};

}  // namespace fusednn::engine
