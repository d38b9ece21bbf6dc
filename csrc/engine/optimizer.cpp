// SPDX-License-Identifier: Apache-2.0
#include "engine/optimizer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace fusednn::engine {
namespace {

void need_not_negative(const char* name, double value) {
  if (!(value >= 0)) {
    throw std::invalid_argument(std::string("optimizer: ") + name + "=" + std::to_string(value) +
                                " must not be negative");
  }
}

// The place of a hyper-parameter of the rule, or -1.
int place_of(const OptimizerInfo& info, const char* name) {
  for (size_t i = 0; i < info.parameters.size(); ++i) {
    if (info.parameters[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

void fill(char* data, Index n, double value, DType dtype, const Backend& backend) {
  const Command command(Fill{data, n, value}, dtype);
  backend.execute(&command, 1, Schedule{}, nullptr, 1);
}

// Throws std::invalid_argument unless there is none or one for each parameter of the graph.
template <class T>
void need_one_each(const char* name, const std::vector<T>& list, const Graph& graph) {
  if (list.empty() || list.size() == graph.parameters.size()) return;
  throw std::invalid_argument(std::string("optimizer: ") + name + " has " +
                              std::to_string(list.size()) +
                              " entries, expected one for each of the " +
                              std::to_string(graph.parameters.size()) + " parameters");
}

void check(const Constraint& each) {
  if (!each.bound.empty() && each.bound != "not_negative" && each.bound != "norm") {
    throw std::invalid_argument("optimizer: constraints: bound '" + each.bound +
                                "' is unknown; known: not_negative, norm");
  }
  need_not_negative("constraints: low", each.low);
  if (!(each.high >= each.low)) {
    throw std::invalid_argument("optimizer: constraints: high=" + std::to_string(each.high) +
                                " must not be less than low=" + std::to_string(each.low));
  }
  if (!(each.rate >= 0 && each.rate <= 1)) {
    throw std::invalid_argument("optimizer: constraints: rate=" + std::to_string(each.rate) +
                                " must lie in [0, 1]");
  }
}

// Of a list that counts them through.
template <class List>
Index elements_of(const List& list) {
  return list.empty() ? 0 : list.back().before + list.back().n;
}

}  // namespace

std::vector<double> check(const OptimizerSpec& spec) {
  const OptimizerInfo& info = optimizers()[find_optimizer(spec.rule)];
  find_convention(spec.convention);
  need_not_negative("weight_decay", spec.weight_decay);
  need_not_negative("l1", spec.l1);
  need_not_negative("clip_value", spec.clip_value);
  need_not_negative("clip_norm", spec.clip_norm);
  need_not_negative("global_clip_norm", spec.global_clip_norm);
  if (spec.clip_norm > 0 && spec.global_clip_norm > 0) {
    throw std::invalid_argument("optimizer: give clip_norm or global_clip_norm, not both");
  }
  if (!(spec.ema_decay >= 0 && spec.ema_decay < 1)) {
    throw std::invalid_argument("optimizer: ema_decay=" + std::to_string(spec.ema_decay) +
                                " must lie in [0, 1)");
  }
  std::vector<double> hyper =
      bind_parameters("optimizer " + spec.rule, info.parameters, spec.hyper);
  const int own = place_of(info, "weight_decay");
  if (own >= 0 && !spec.decoupled && spec.weight_decay > 0) hyper[own] = spec.weight_decay;
  for (const Treatment& each : spec.treatments) {
    need_not_negative("treatments: rate", each.rate);
    need_not_negative("treatments: l1", each.l1);
    need_not_negative("treatments: l2", each.l2);
  }
  for (const Constraint& each : spec.constraints) check(each);
  if (spec.accumulation_steps < 1) {
    throw std::invalid_argument("optimizer: accumulation_steps=" +
                                std::to_string(spec.accumulation_steps) + " must be at least 1");
  }
  return hyper;
}

UpdateRecipe recipe_of(const OptimizerSpec& spec, const OptimizerInfo& info, const double* hyper) {
  UpdateRecipe recipe;
  info.store_hyper(hyper, recipe.hyper);
  UpdateGroup& group = recipe.group;
  group.gradient_scale = spec.maximize ? -1 : 1;
  group.clip_value = spec.clip_value > 0 ? spec.clip_value : kInfinity;
  group.l1 = spec.l1;
  if (spec.decoupled) {
    group.shrink = spec.weight_decay;
  } else if (place_of(info, "weight_decay") < 0) {
    group.l2 = spec.weight_decay;
  }
  group.ema_decay = spec.ema_decay;
  group.seed = spec.seed;
  return recipe;
}

UpdateGroup prepare_group(const OptimizerSpec& spec, const OptimizerInfo& info, int convention,
                          const double* hyper, int64_t t, double* memory, DType memory_type) {
  const UpdateRecipe recipe = recipe_of(spec, info, hyper);
  UpdateGroup group = recipe.group;
  info.prepare(hyper, convention, t, memory, memory_type, group.constants);
  group.shrink *= recipe.rate();
  group.step = static_cast<uint32_t>(t);
  return group;
}

Optimizer::Optimizer(const OptimizerSpec& spec, const Graph& graph, const Backend& backend,
                     DType dtype)
    : info_(&optimizers()[find_optimizer(spec.rule)]),
      spec_(spec),
      convention_(find_convention(spec.convention)),
      hyper_(check(spec)),
      memory_(info_->memory),
      memory_after_(info_->memory),
      dtype_(dtype),
      backend_(backend),
      ema_window_(backend, ema_),
      tensors_(backend),
      groups_(backend),
      table_(backend),
      terms_(backend),
      coefficients_(backend),
      norm_(backend, 1) {
  need_one_each("treatments", spec.treatments, graph);
  need_one_each("constraints", spec.constraints, graph);
  if (spec.treatments.empty()) kinds_.emplace_back();
  for (const Treatment& each : spec.treatments) {
    const auto found = std::find(kinds_.begin(), kinds_.end(), each);
    kind_of_.push_back(static_cast<int32_t>(found - kinds_.begin()));
    if (found == kinds_.end()) kinds_.push_back(each);
  }
  kind_of_.resize(graph.parameters.size(), 0);
  groups_.host.resize(std::max<size_t>(kinds_.size(), 1));
  const size_t bytes = static_cast<size_t>(graph.parameter_elements) * size_of(dtype);
  states_.reserve(info_->states.size());  // windows look at its elements
  for (size_t slot = 0; slot < info_->states.size(); ++slot) {
    states_.emplace_back(backend, bytes);
    state_windows_.emplace_back(backend, states_.back());
    const double value = info_->initial_state(hyper_.data(), convention_, static_cast<int>(slot));
    if (value != 0) fill(states_.back().data(), graph.parameter_elements, value, dtype, backend);
  }
  if (spec.ema_decay > 0) ema_ = Arena(backend, bytes);
}

std::vector<UpdateTensor> Optimizer::tensors(const Graph& graph, char* parameters,
                                             char* gradients) const {
  const auto element = static_cast<Index>(size_of(dtype_));
  std::vector<UpdateTensor> list;
  for (const Node& node : graph.nodes) {
    if (node.frozen) continue;
    for (const int place : node.parameters) {
      const Parameter& p = graph.parameters[place];
      if (!p.trainable) continue;
      UpdateTensor tensor;
      tensor.parameter = parameters + p.offset * element;
      tensor.gradient = gradients + p.offset * element;
      for (size_t slot = 0; slot < states_.size(); ++slot) {
        tensor.state[slot] = states_[slot].data() + p.offset * element;
      }
      if (ema_.data()) tensor.ema = ema_.data() + p.offset * element;
      tensor.n = p.size;
      tensor.group = kind_of_[static_cast<size_t>(place)];
      list.push_back(tensor);
    }
  }
  return list;
}

void Optimizer::bind(const Graph& graph, char* parameters, char* gradients) {
  // Neighbours that are treated alike join into one tensor, so that a small network is one run over
  // memory, except where the rule or the clipping works with the norm of each tensor.
  const bool apart = info_->layerwise || spec_.clip_norm > 0;
  const auto element = static_cast<Index>(size_of(dtype_));
  const auto padded = [&](Index n) {
    return static_cast<Index>(align(static_cast<size_t>(n * element))) / element;
  };
  tensors_.host.clear();
  terms_.host.clear();
  term_gradients_.clear();
  for (const UpdateTensor& tensor : tensors(graph, parameters, gradients)) {
    const Treatment& kind = kinds_[static_cast<size_t>(tensor.group)];
    if (kind.l1 > 0 || kind.l2 > 0) {
      const Index before = elements_of(terms_.host);
      terms_.host.push_back({tensor.parameter, tensor.n, before, kind.l1, kind.l2});
      term_gradients_.push_back(tensor.gradient);
    }
    if (!apart && !tensors_.host.empty() && tensors_.host.back().group == tensor.group) {
      UpdateTensor& last = tensors_.host.back();
      const Index distance =
          (static_cast<char*>(tensor.parameter) - static_cast<char*>(last.parameter)) / element;
      if (distance == padded(last.n)) {
        last.n = distance + tensor.n;
        continue;
      }
    }
    tensors_.host.push_back(tensor);
  }
  Index before = 0;
  for (UpdateTensor& tensor : tensors_.host) {
    tensor.before = before;
    before += tensor.n;
  }
  coefficients_.host.assign(spec_.clip_norm > 0 ? tensors_.host.size() : 1, 1.0);
  tensors_.publish();
  terms_.publish();
  coefficients_.publish();
}

std::vector<Command> Optimizer::constraints(const Graph& graph, char* parameters) const {
  std::vector<Command> list;
  if (spec_.constraints.empty()) return list;
  for (const Node& node : graph.nodes) {
    for (const int place : node.parameters) {
      const Parameter& p = graph.parameters[place];
      const Constraint& constraint = spec_.constraints[static_cast<size_t>(place)];
      if (node.frozen || !p.trainable || constraint.bound.empty()) continue;
      Constrain op;
      op.bound =
          constraint.bound == "norm" ? Constrain::Bound::norm : Constrain::Bound::not_negative;
      op.parameter = parameters + p.offset * static_cast<Index>(size_of(dtype_));
      op.cols = p.shape.size() > 1 ? p.shape.back() : 1;
      op.rows = p.size / op.cols;
      op.low = constraint.low;
      op.high = constraint.high;
      op.rate = constraint.rate;
      list.emplace_back(op, dtype_);
    }
  }
  return list;
}

bool Optimizer::clips() const {
  return spec_.clip_norm > 0 || spec_.global_clip_norm > 0 || spec_.clip_value > 0;
}

bool Optimizer::updates_one_by_one() const {
  return spec_.accumulation_steps == 1 && !info_->layerwise && spec_.clip_norm == 0 &&
         spec_.global_clip_norm == 0 && !(clips() && !terms_.host.empty());
}

Command Optimizer::update(const UpdateTensor* tensors, Index n, Index matrix_rows) {
  OptimizerStep step;
  step.rule = static_cast<int32_t>(info_ - optimizers().data());
  step.tensors = tensors;
  step.n_tensors = n;
  for (Index i = 0; i < n; ++i) step.elements += tensors[i].n;
  step.matrix_rows = matrix_rows;
  step.groups = groups_.device();
  return {step, dtype_};
}

std::vector<Command> Optimizer::commands() {
  std::vector<Command> list;
  const auto n = static_cast<Index>(tensors_.host.size());
  const Index elements = elements_of(tensors_.host);
  // What is clipped is the gradient of the whole loss. Where nothing is, the update adds their share.
  for (size_t i = 0; clips() && i < terms_.host.size(); ++i) {
    PenaltyGradient op;
    op.term = terms_.device() + i;
    op.scale = &groups_.device()->penalty_scale;
    op.parameter = terms_.host[i].parameter;
    op.gradient = term_gradients_[i];
    op.n = terms_.host[i].n;
    op.factor = static_cast<double>(spec_.accumulation_steps) * (spec_.maximize ? -1 : 1);
    list.emplace_back(op, dtype_);
  }
  const bool by_norm = spec_.clip_norm > 0 || spec_.global_clip_norm > 0;
  if (by_norm) {
    ClipCoefficient clip;
    clip.tensors = tensors_.device();
    clip.n_tensors = n;
    clip.elements = elements;
    clip.groups = groups_.device();
    clip.global = spec_.global_clip_norm > 0;
    clip.max_norm = clip.global ? spec_.global_clip_norm : spec_.clip_norm;
    clip.coefficients = coefficients_.device();
    clip.norm = norm_.device();
    list.emplace_back(clip, dtype_);
  }
  OptimizerStep step;
  step.rule = static_cast<int32_t>(info_ - optimizers().data());
  step.tensors = tensors_.device();
  step.n_tensors = n;
  step.elements = elements;
  step.groups = groups_.device();
  step.coefficients = by_norm ? coefficients_.device() : nullptr;
  step.coefficient_per_tensor = spec_.clip_norm > 0;
  list.emplace_back(step, dtype_);
  return list;
}

void Optimizer::bring_numbers(BeginStep& op) {
  op.groups = groups_.device();
  op.n_groups = static_cast<Index>(groups_.host.size());
  table_.host.resize(static_cast<size_t>(most_steps() * op.n_groups));
  op.table = table_.device();  // for as many as there may be
}

// A copy of that size does not wait for the device.
Index Optimizer::most_steps() const {
  constexpr size_t kTableBytes = 64 << 10;
  return std::max<Index>(
      static_cast<Index>(kTableBytes / sizeof(UpdateGroup) / groups_.host.size()), 1);
}

void Optimizer::prepare_steps(const Schedules& schedules, Index step, Index n, bool update) {
  table_.host.clear();
  for (Index k = 0; k < n; ++k) {
    if (k > 0 && update) count_step();
    for (const auto& [name, values] : schedules) set_hyper(name, values[step + k]);
    if (update) prepare_step();
    groups_.host[0].penalty_scale = penalty_scale_;
    if (backend_.host_memory) continue;
    table_.host.insert(table_.host.end(), groups_.host.begin(), groups_.host.end());
  }
  if (!backend_.host_memory) table_.publish_changes();
}

void Optimizer::prepare_step() {
  const int own_decay = spec_.decoupled ? -1 : place_of(*info_, "weight_decay");
  const int lr = place_of(*info_, "lr");
  for (size_t i = 0; i < groups_.host.size(); ++i) {
    const Treatment& kind = kinds_[i];
    hyper_of_group_ = hyper_;
    if (lr >= 0) hyper_of_group_[lr] *= kind.rate;
    if (own_decay >= 0 && !kind.decays) hyper_of_group_[own_decay] = 0;
    memory_after_ = memory_;  // each group moves it on by the same step
    UpdateGroup& group = groups_.host[i];
    group = prepare_group(spec_, *info_, convention_, hyper_of_group_.data(), steps_ + 1,
                          memory_after_.data());
    group.gradient_scale /= static_cast<double>(spec_.accumulation_steps);
    if (!kind.decays) group.l1 = group.l2 = group.shrink = 0;
    if (clips()) continue;  // the gradients have it already
    group.l1 += penalty_scale_ * kind.l1;
    group.l2 += penalty_scale_ * kind.l2;
  }
}

void Optimizer::count_step() {
  ++steps_;
  memory_ = memory_after_;
}

std::vector<Command> Optimizer::penalty(double weight, double* total) {
  if (terms_.host.empty()) return {};
  Penalty op;
  op.terms = terms_.device();
  op.n_terms = static_cast<Index>(terms_.host.size());
  op.elements = elements_of(terms_.host);
  op.weight = weight;
  op.scale = &groups_.device()->penalty_scale;
  op.total = total;
  return {Command(op, dtype_)};
}

void Optimizer::prepare_penalty() {
  if (terms_.host.empty()) return;
  groups_.host[0].penalty_scale = penalty_scale_;
  groups_.publish();
}

void Optimizer::hide_windows() {
  for (Window& window : state_windows_) window.hide();
  ema_window_.hide();
}

double Optimizer::last_norm() {
  norm_.fetch();
  return norm_.host[0];
}

double Optimizer::hyper(const std::string& name) const {
  if (name == "weight_decay") return spec_.weight_decay;
  if (name == "penalty_scale") return penalty_scale_;
  const int place = place_of(*info_, name.c_str());
  if (place >= 0) return hyper_[place];
  throw std::invalid_argument("optimizer " + info_->name + " has no hyper-parameter '" + name +
                              "'");
}

void Optimizer::check_hyper(const std::string& name, double value) const {
  (void)hyper(name);  // it exists
  if (!std::isfinite(value)) {
    throw std::invalid_argument("optimizer " + info_->name + ": " + name + "=" +
                                std::to_string(value) + " must be finite");
  }
  if (name == "weight_decay" || name == "penalty_scale") need_not_negative(name.c_str(), value);
}

void Optimizer::set_hyper(const std::string& name, double value) {
  check_hyper(name, value);
  const int place = place_of(*info_, name.c_str());
  if (name == "penalty_scale") {
    penalty_scale_ = value;
  } else if (name == "weight_decay") {
    spec_.weight_decay = value;
    if (place >= 0 && !spec_.decoupled) hyper_[place] = value;
  } else {
    hyper_[place] = value;
  }
}

}  // namespace fusednn::engine
