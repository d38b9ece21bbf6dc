// SPDX-License-Identifier: Apache-2.0
// Tensors of somebody else that one optimizer steps over together, known by their addresses. A step
// is one run of the backend, however many tensors and groups of options there are. Tensors may lie on a
// device, but the numbers beside them are the host's.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/catalog.h"
#include "engine/memory.h"
#include "engine/optimizer.h"

namespace fusednn::engine {

// One tensor: `memory` without its gradient, and the numbers kept beside it, first the count of its
// steps, then the rule's memory.
struct UpdaterTensor {
  UpdateTensor memory;
  std::array<float*, kMaxScalars> scalars = {};
};

// Numbers that somebody else keeps in the memory of the device, of an updater that is live. Each may
// be null.
struct LiveNumbers {
  struct Rate {
    const void* memory = nullptr;
    bool wide = false;  // float64, else float32
  };
  std::vector<Rate> lr;               // per group, or none at all
  const float* found_inf = nullptr;   // not 0: this step is left out
  const float* loss_scale = nullptr;  // what gradients are divided by
  double* norm = nullptr;             // where that of all gradients goes
};

struct UpdaterStep {
  const std::vector<void*>& gradients;  // null: this tensor is left alone
  std::vector<double> lr;               // per group
  double gradient_scale = 1;
  std::optional<double> max_norm;  // of all gradients together
  bool clear_gradient = false;
  uint64_t queue = 0;  // see Backend::use_queue()
  LiveNumbers live;
};

// How all tensors lie in memory. Narrow ones may have a master copy each (UpdateTensor::master).
struct UpdaterSpec {
  std::string rule;
  std::string convention = "torch";
  DType dtype = DType::float32;  // of the arithmetic
  Storage storage = Storage::native;
  std::string device = "cpu";
  // Whether the scalars of the tensors lie in the device's memory as well, so that a step waits for
  // nothing there.
  bool live = false;
  Rounding rounding = Rounding::nearest;
};

// Calls from several threads wait for each other.
class Updater {
 public:
  explicit Updater(const UpdaterSpec& spec);
  Updater(const Updater&) = delete;  // commands point into it
  Updater& operator=(const Updater&) = delete;

  const OptimizerInfo& info() const { return *info_; }
  size_t n_scalars() const { return 1 + info_->memory.size(); }
  size_t size() const { return tensors_.size(); }

  // What fills each state before step 1.
  std::vector<double> initial_states(const OptimizerSpec& spec) const;

  // UpdateTensor::group counts the specs of set_groups(), which may come before or after.
  void set_tensors(std::vector<UpdaterTensor> tensors);
  // Rule and convention are those of the updater, whatever the specs say.
  void set_groups(std::vector<OptimizerSpec> specs);

  // Returns the norm of all gradients where max_norm is given and the updater is not live, else 0.
  // Nothing has changed after an exception.
  double step(const UpdaterStep& step);
  // The sum of the squares of all gradients, times the square of the scale.
  double square_norm(const std::vector<void*>& gradients, double gradient_scale,
                     uint64_t queue = 0);

 private:
  // The options of a group.
  struct Group {
    OptimizerSpec spec;
    std::vector<double> hyper;
  };
  // Tensors of one group that have come equally far share an UpdateGroup.
  using Key = std::array<uint32_t, 1 + kMaxScalars>;
  using Scalars = std::array<float, kMaxScalars>;

  void check_step(const UpdaterStep& step) const;
  void select(const std::vector<void*>& gradients);
  void prepare_groups(const UpdaterStep& step);
  int32_t prepare_group(int32_t group, const Scalars& before, const UpdaterStep& step);
  size_t group_of(size_t tensor) const;
  void need_apart() const;
  PrepareUpdate prepare_on_device(const UpdaterStep& step);
  ClipCoefficient clip(double max_norm);
  void plan();

  const OptimizerInfo* info_;
  int32_t rule_;
  int convention_;
  size_t lr_;  // its place among the hyper-parameters
  DType dtype_;
  Storage storage_;
  Rounding rounding_;
  const Backend& backend_;
  const bool live_;
  std::mutex mutex_;

  std::vector<UpdaterTensor> tensors_;
  std::vector<Group> groups_;

  // Of the present step.
  std::vector<size_t> selected_;  // tensors that have a gradient,
  Mirror<UpdateTensor> active_;   // and what the kernel reads of them
  Mirror<UpdateGroup> update_groups_;
  std::vector<Scalars> after_;  // per UpdateGroup
  std::map<Key, int32_t> known_;
  Mirror<UpdateCounter> counters_;  // of a live updater, per tensor
  Mirror<UpdateRecipe> recipes_;    // and per group
  Mirror<double> coefficient_, norm_;

  std::vector<Command> commands_;

  // How it runs depends on the tensors alone, so that it is decided again only for others.
  bool fresh_ = true;
  size_t planned_commands_ = 0;
  Schedule schedule_;
  Arena workspace_;
};

}  // namespace fusednn::engine
