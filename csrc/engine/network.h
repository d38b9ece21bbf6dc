// SPDX-License-Identifier: Apache-2.0
// A graph with its parameters on a device, and all that runs on it: prediction, training, evaluation.
// This is what the bindings wrap.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/optimizer.h"
#include "engine/plan.h"

namespace fusednn::engine {

// A loss or metric as the caller names it.
struct CriterionSpec {
  std::string rule;  // a loss rule, or "accuracy"
  std::string node;  // name of the node it looks at
  std::map<std::string, double> parameters;
  int target = 0;
  bool labels = false;  // the target is one class number per row
  double weight = 1;
  double threshold = 0.5;
};

// Arrays of whole epochs. All have `rows` rows, contiguous, in host memory and in the network's dtype
// (labels: int32).
struct Dataset {
  Index rows = 0;
  std::vector<const void*> inputs;
  std::vector<const void*> targets;
  const void* sample_weight = nullptr;
};

struct EpochReport {
  Index rows = 0;  // seen so far
  Index steps = 0;
  std::vector<double> losses;   // sums over the rows, one per loss
  std::vector<double> metrics;  // likewise
  bool stopped = false;         // the watcher asked to stop
};

// Called between steps, and within those that take longer than 50 ms, at most every `interval` seconds.
// False stops; a step that has not reached its update is then as if it had not begun.
struct Watcher {
  std::function<bool(const EpochReport&)> look;
  double interval = 0.05;
};

struct RunOptions {
  Index batch_size = 32;
  const Index* order = nullptr;  // rows in the order to visit them; null: as they lie
  Watcher watcher;
  int max_threads = 0;  // 0: the backend's setting
};

class Network {
 public:
  Network(const std::vector<NodeSpec>& specs, Precision precision, const Backend& backend,
          uint64_t seed);
  ~Network();
  Network(const Network&) = delete;  // commands point into it
  Network& operator=(const Network&) = delete;

  const Graph& graph() const { return graph_; }
  DType dtype() const { return precision_.dtype; }
  char* parameters() const { return parameters_.data(); }
  char* gradients() const { return gradients_.data(); }  // null before set_training, then fixed
  // Null without one. Shared, because views of its state may outlive the next set_training.
  const std::shared_ptr<Optimizer>& optimizer() const { return optimizer_; }

  void set_frozen(const std::string& node, bool frozen);
  // Losses, metrics and, where given, the optimizer. Replaces what was set before, in one go.
  void set_training(const std::vector<CriterionSpec>& losses,
                    const std::vector<CriterionSpec>& metrics, const OptimizerSpec* optimizer);

  EpochReport train(const Dataset& data, const RunOptions& options);
  EpochReport evaluate(const Dataset& data, const RunOptions& options);
  // Forward, loss and backward of one batch, in training or inference mode; fills gradients().
  EpochReport compute_gradients(const Dataset& data, bool training);
  // Values of nodes, written to `outputs` (rows x size of the node each).
  void predict(const Dataset& data, const std::vector<int>& nodes,
               const std::vector<void*>& outputs, const RunOptions& options);

  uint64_t training_steps() const { return clock_->step; }  // drives the random masks
  void set_training_steps(uint64_t steps) { clock_->step = steps; }
  const std::vector<Feed>& targets() const { return targets_; }  // what set_training asks for

 private:
  enum class Mode { train, evaluate, predict, gradients, inference_gradients };
  struct Program;
  // What commands read and write from step to step; its address never changes.
  struct Clock {
    uint64_t step = 0;                // training steps begun
    Index first = 0;                  // first row of the present batch
    std::vector<double> loss_scales;  // weight / rows of the batch
    std::vector<double> totals;
  };

  Criterion resolve(const CriterionSpec& spec, std::vector<Feed>& targets) const;
  PlanRequest request(Mode mode, Index rows, bool weighted, const std::vector<int>& outputs) const;
  Program& program(Mode mode, const PlanRequest& request);
  void assemble(Program& program);
  void append_updates(Program& program);
  void attach(Program& program, const Dataset& data, const RunOptions& options);
  bool run_batch(Program& program, Index first, const std::function<bool()>& go_on);
  EpochReport run(Mode mode, const Dataset& data, const RunOptions& options,
                  const std::vector<int>& nodes, const std::vector<void*>& outputs);

  const Backend& backend_;
  Precision precision_;
  uint64_t seed_;
  Graph graph_;
  Arena parameters_, gradients_;
  std::unique_ptr<Clock> clock_;
  std::shared_ptr<Optimizer> optimizer_;
  std::vector<Criterion> losses_, metrics_;
  std::vector<Feed> targets_;
  std::vector<std::unique_ptr<Program>> programs_;  // compiled so far, most recent last
};

// A permutation of 0 .. n-1, a function of seed and epoch alone.
std::vector<Index> shuffled(Index n, uint64_t seed, uint64_t epoch);

}  // namespace fusednn::engine
