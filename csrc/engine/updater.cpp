// SPDX-License-Identifier: Apache-2.0
#include "engine/updater.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "engine/registry.h"

namespace fusednn::engine {

Updater::Updater(const UpdaterSpec& spec)
    : rule_(find_optimizer(spec.rule)),
      convention_(find_convention(spec.convention)),
      lr_(0),
      dtype_(spec.dtype),
      storage_(spec.storage),
      rounding_(spec.rounding),
      backend_(find_backend(spec.device)),
      live_(spec.live),
      active_(backend_),
      update_groups_(backend_),
      counters_(backend_),
      recipes_(backend_),
      coefficient_(backend_, 1),
      norm_(backend_, 1) {
  info_ = &optimizers()[static_cast<size_t>(rule_)];
  while (info_->parameters[lr_].name != "lr") ++lr_;
}

std::vector<double> Updater::initial_states(const OptimizerSpec& spec) const {
  const std::vector<double> hyper = check(spec);
  std::vector<double> values;
  for (size_t slot = 0; slot < info_->states.size(); ++slot) {
    values.push_back(info_->initial_state(hyper.data(), convention_, static_cast<int>(slot)));
  }
  return values;
}

void Updater::set_tensors(std::vector<UpdaterTensor> tensors) {
  const std::lock_guard<std::mutex> lock(mutex_);
  tensors_ = std::move(tensors);
  selected_.clear();
  active_.host.clear();
  fresh_ = true;
}

void Updater::set_groups(std::vector<OptimizerSpec> specs) {
  std::vector<Group> groups;
  for (OptimizerSpec& spec : specs) {
    if (spec.clip_norm > 0 || spec.global_clip_norm > 0) {
      throw std::invalid_argument("groups: norms are limited by max_norm of step()");
    }
    std::vector<double> hyper = check(spec);
    groups.push_back({std::move(spec), std::move(hyper)});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  groups_ = std::move(groups);
}

// The tensors that have a gradient.
void Updater::select(const std::vector<void*>& gradients) {
  if (gradients.size() != tensors_.size()) {
    throw std::invalid_argument("gradients: got " + std::to_string(gradients.size()) +
                                ", expected " + std::to_string(tensors_.size()) +
                                ", one per tensor");
  }
  size_t n = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i] == nullptr) continue;
    if (n == selected_.size() || selected_[n] != i) {
      selected_.resize(n);
      active_.host.resize(n);
      selected_.push_back(i);
      active_.host.push_back(tensors_[i].memory);
      fresh_ = true;
    }
    active_.host[n].before = n > 0 ? active_.host[n - 1].before + active_.host[n - 1].n : 0;
    active_.host[n++].gradient = gradients[i];
  }
  fresh_ = fresh_ || n != selected_.size();
  selected_.resize(n);
  active_.host.resize(n);
}

int32_t Updater::prepare_group(int32_t place, const Scalars& before, const UpdaterStep& step) {
  Group& group = groups_[static_cast<size_t>(place)];
  if (!(before[0] >= 0 && before[0] < 9e15F)) {
    throw std::invalid_argument("step=" + std::to_string(before[0]) +
                                " in the scalars of a tensor, expected a count");
  }
  const auto t = static_cast<int64_t>(before[0]) + 1;
  double memory[kMaxScalars] = {};
  for (size_t k = 1; k < n_scalars(); ++k) memory[k - 1] = before[k];
  group.hyper[lr_] = step.lr[static_cast<size_t>(place)];
  UpdateGroup made = engine::prepare_group(group.spec, *info_, convention_, group.hyper.data(), t,
                                           memory, DType::float32);
  made.gradient_scale *= step.gradient_scale;
  Scalars after = {before[0] + 1};
  for (size_t k = 1; k < n_scalars(); ++k) after[k] = static_cast<float>(memory[k - 1]);
  update_groups_.host.push_back(made);
  after_.push_back(after);
  return static_cast<int32_t>(after_.size() - 1);
}

size_t Updater::group_of(size_t tensor) const {
  const int32_t group = tensors_[tensor].memory.group;
  if (group < 0 || static_cast<size_t>(group) >= groups_.size()) {
    throw std::invalid_argument("groups: a tensor is in group " + std::to_string(group) + " of " +
                                std::to_string(groups_.size()));
  }
  return static_cast<size_t>(group);
}

void Updater::prepare_groups(const UpdaterStep& step) {
  update_groups_.host.clear();
  after_.clear();
  known_.clear();
  Key last = {};
  for (size_t n = 0; n < selected_.size(); ++n) {
    const UpdaterTensor& tensor = tensors_[selected_[n]];
    const auto group = static_cast<int32_t>(group_of(selected_[n]));
    Scalars before = {};
    for (size_t k = 0; k < n_scalars(); ++k) before[k] = *tensor.scalars[k];
    Key key = {static_cast<uint32_t>(group)};
    std::memcpy(&key[1], before.data(), sizeof(before));
    if (n > 0 && key == last) {
      active_.host[n].group = active_.host[n - 1].group;
      continue;
    }
    const auto found = known_.find(key);
    active_.host[n].group =
        found != known_.end() ? found->second : prepare_group(group, before, step);
    known_[key] = active_.host[n].group;
    last = key;
  }
}

// Each tensor has a count of its own there, which the host does not see, and so a group of its own.
PrepareUpdate Updater::prepare_on_device(const UpdaterStep& step) {
  const LiveNumbers& live = step.live;
  recipes_.host.clear();
  for (size_t k = 0; k < groups_.size(); ++k) {
    Group& group = groups_[k];
    group.hyper[lr_] = step.lr[k];
    UpdateRecipe recipe = recipe_of(group.spec, *info_, group.hyper.data());
    recipe.group.gradient_scale *= step.gradient_scale;
    if (!live.lr.empty()) {
      recipe.lr = live.lr[k].memory;
      recipe.wide_lr = live.lr[k].wide;
    }
    recipes_.host.push_back(recipe);
  }
  counters_.host.resize(selected_.size());
  for (size_t n = 0; n < selected_.size(); ++n) {
    UpdateCounter& counter = counters_.host[n];
    const auto& scalars = tensors_[selected_[n]].scalars;
    std::copy(scalars.begin(), scalars.end(), counter.scalars);
    counter.recipe = static_cast<int32_t>(group_of(selected_[n]));
    active_.host[n].group = static_cast<int32_t>(n);
  }
  update_groups_.host.resize(selected_.size());
  recipes_.put_changes();
  counters_.put_changes();
  active_.put_changes();
  PrepareUpdate op;
  op.rule = rule_;
  op.convention = convention_;
  op.n = static_cast<Index>(selected_.size());
  op.counters = counters_.device();
  op.recipes = recipes_.device();
  op.groups = update_groups_.device();
  op.found_inf = live.found_inf;
  op.loss_scale = live.loss_scale;
  return op;
}

// One pass cannot clear what another tensor has yet to read.
void Updater::need_apart() const {
  const Index bytes = storage_ == Storage::native ? static_cast<Index>(size_of(dtype_)) : 2;
  std::vector<std::pair<const char*, const char*>> pieces;
  for (const UpdateTensor& tensor : active_.host) {
    const auto* begin = static_cast<const char*>(tensor.gradient);
    if (tensor.n > 0) pieces.emplace_back(begin, begin + tensor.n * bytes);
  }
  std::sort(pieces.begin(), pieces.end());
  for (size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].first < pieces[i - 1].second) {
      throw std::invalid_argument(
          "gradients: two of them share memory, and cannot be cleared by the step");
    }
  }
}

ClipCoefficient Updater::clip(double max_norm) {
  ClipCoefficient op;
  op.tensors = active_.device();
  op.n_tensors = static_cast<Index>(active_.host.size());
  op.elements = active_.host.back().before + active_.host.back().n;
  op.groups = update_groups_.device();
  op.max_norm = max_norm;
  op.storage = storage_;
  op.coefficients = coefficient_.device();
  op.norm = norm_.device();
  return op;
}

void Updater::plan() {
  if (!fresh_ && planned_commands_ == commands_.size()) return;
  schedule_ = backend_.prepare(commands_.data(), static_cast<int>(commands_.size()), 0);
  if (workspace_.size() < schedule_.workspace_bytes) {
    workspace_ = Arena(backend_, schedule_.workspace_bytes);
  }
  planned_commands_ = commands_.size();
  fresh_ = false;
}

void Updater::check_step(const UpdaterStep& step) const {
  const auto need = [&](const char* name, size_t got) {
    if (got == groups_.size()) return;
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(got) + ", expected " +
                                std::to_string(groups_.size()) + ", one per group");
  };
  const LiveNumbers& live = step.live;
  need("lr", step.lr.size());
  if (!live.lr.empty()) need("live['lr']", live.lr.size());
  if (!live_ && (!live.lr.empty() || live.found_inf || live.loss_scale || live.norm)) {
    throw std::invalid_argument("live: lr, found_inf, loss_scale and norm are for a live updater");
  }
  if (step.max_norm && !(*step.max_norm >= 0)) {
    throw std::invalid_argument("max_norm=" + std::to_string(*step.max_norm) +
                                " must not be negative");
  }
}

double Updater::step(const UpdaterStep& step) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_step(step);
  select(step.gradients);
  if (step.clear_gradient) need_apart();
  if (!live_) prepare_groups(step);
  if (selected_.empty()) return 0;
  const OnQueue queue(backend_, step.queue);
  commands_.clear();
  if (live_) {
    commands_.emplace_back(prepare_on_device(step), dtype_);
  } else {
    update_groups_.publish();
    active_.publish_changes();
  }

  OptimizerStep update;
  update.rule = rule_;
  update.storage = storage_;
  update.rounding = rounding_;
  update.tensors = active_.device();
  update.n_tensors = static_cast<Index>(active_.host.size());
  update.elements = active_.host.back().before + active_.host.back().n;
  update.groups = update_groups_.device();
  update.clear_gradient = step.clear_gradient;
  update.found_inf = step.live.found_inf;
  if (step.max_norm) {
    ClipCoefficient clip = this->clip(*step.max_norm);
    if (step.live.norm != nullptr) clip.norm = step.live.norm;
    commands_.emplace_back(clip, dtype_);
    update.coefficients = coefficient_.device();
  }
  commands_.emplace_back(update, dtype_);
  plan();
  for (size_t n = 0; !live_ && n < selected_.size(); ++n) {
    const Scalars& after = after_[static_cast<size_t>(active_.host[n].group)];
    for (size_t k = 0; k < n_scalars(); ++k) *tensors_[selected_[n]].scalars[k] = after[k];
  }
  backend_.execute(commands_.data(), static_cast<int>(commands_.size()), schedule_,
                   workspace_.data(), 1);
  if (!step.max_norm || live_) return 0;
  norm_.fetch();
  return norm_.host[0];
}

double Updater::square_norm(const std::vector<void*>& gradients, double gradient_scale,
                            uint64_t queue) {
  const std::lock_guard<std::mutex> lock(mutex_);
  select(gradients);
  if (selected_.empty()) return 0;
  update_groups_.host.assign(1, UpdateGroup{});
  update_groups_.host[0].gradient_scale = gradient_scale;
  for (UpdateTensor& tensor : active_.host) tensor.group = 0;
  const OnQueue here(backend_, queue);
  active_.publish();
  update_groups_.publish();
  const std::vector<Command> commands{Command(clip(kInfinity), dtype_)};
  const Schedule schedule = backend_.prepare(commands.data(), 1, 0);
  const Arena workspace(backend_, schedule.workspace_bytes);
  backend_.execute(commands.data(), 1, schedule, workspace.data(), 1);
  norm_.fetch();
  return norm_.host[0] * norm_.host[0];
}

}  // namespace fusednn::engine
