// SPDX-License-Identifier: Apache-2.0
#include "engine/optimizer.h"

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
  backend.execute(&command, 1, Schedule{}, nullptr);
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
  return hyper;
}

UpdateGroup prepare_group(const OptimizerSpec& spec, const OptimizerInfo& info, int convention,
                          const double* hyper, int64_t t, double* memory, DType memory_type) {
  UpdateGroup group;
  info.remember(hyper, convention, t, memory, memory_type);
  info.prepare(hyper, convention, t, memory, group.constants);
  group.gradient_scale = spec.maximize ? -1 : 1;
  group.clip_value = spec.clip_value > 0 ? spec.clip_value : kInfinity;
  group.l1 = spec.l1;
  if (spec.decoupled) {
    group.shrink = hyper[place_of(info, "lr")] * spec.weight_decay;
  } else if (place_of(info, "weight_decay") < 0) {
    group.l2 = spec.weight_decay;
  }
  group.ema_decay = spec.ema_decay;
  return group;
}

Optimizer::Optimizer(const OptimizerSpec& spec, const Graph& graph, const Backend& backend,
                     DType dtype)
    : info_(&optimizers()[find_optimizer(spec.rule)]),
      spec_(spec),
      convention_(find_convention(spec.convention)),
      hyper_(check(spec)),
      memory_(info_->memory),
      dtype_(dtype) {
  const size_t bytes = static_cast<size_t>(graph.parameter_elements) * size_of(dtype);
  for (size_t slot = 0; slot < info_->states.size(); ++slot) {
    states_.emplace_back(backend, bytes);
    const double value = info_->initial_state(hyper_.data(), convention_, static_cast<int>(slot));
    if (value != 0)
      fill(state(static_cast<int>(slot)), graph.parameter_elements, value, dtype, backend);
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
      list.push_back(tensor);
    }
  }
  return list;
}

void Optimizer::bind(const Graph& graph, char* parameters, char* gradients) {
  // Neighbours join into one tensor, so that a small network is one run over memory, except where
  // the rule or the clipping works with the norm of each tensor.
  const bool apart = info_->layerwise || spec_.clip_norm > 0;
  const auto element = static_cast<Index>(size_of(dtype_));
  const auto padded = [&](Index n) {
    return static_cast<Index>(align(static_cast<size_t>(n * element))) / element;
  };
  tensors_.clear();
  for (const UpdateTensor& tensor : tensors(graph, parameters, gradients)) {
    if (!apart && !tensors_.empty()) {
      UpdateTensor& last = tensors_.back();
      const Index distance =
          (static_cast<char*>(tensor.parameter) - static_cast<char*>(last.parameter)) / element;
      if (distance == padded(last.n)) {
        last.n = distance + tensor.n;
        continue;
      }
    }
    tensors_.push_back(tensor);
  }
  coefficients_.assign(spec_.clip_norm > 0 ? tensors_.size() : 1, 1.0);
}

bool Optimizer::updates_one_by_one() const {
  return !info_->layerwise && spec_.clip_norm == 0 && spec_.global_clip_norm == 0;
}

Command Optimizer::update(const UpdateTensor* tensors, Index n, Index matrix_rows) const {
  OptimizerStep step;
  step.rule = static_cast<int32_t>(info_ - optimizers().data());
  step.tensors = tensors;
  step.n_tensors = n;
  step.matrix_rows = matrix_rows;
  step.groups = &group_;
  return {step, dtype_};
}

std::vector<Command> Optimizer::commands() const {
  auto* self = const_cast<Optimizer*>(this);  // commands write the norm and the coefficients
  std::vector<Command> list;
  const auto n = static_cast<Index>(tensors_.size());
  const bool clips = spec_.clip_norm > 0 || spec_.global_clip_norm > 0;
  if (clips) {
    ClipCoefficient clip;
    clip.tensors = tensors_.data();
    clip.n_tensors = n;
    clip.groups = &group_;
    clip.global = spec_.global_clip_norm > 0;
    clip.max_norm = clip.global ? spec_.global_clip_norm : spec_.clip_norm;
    clip.coefficients = self->coefficients_.data();
    clip.norm = &self->norm_;
    list.emplace_back(clip, dtype_);
  }
  OptimizerStep step;
  step.rule = static_cast<int32_t>(info_ - optimizers().data());
  step.tensors = tensors_.data();
  step.n_tensors = n;
  step.groups = &group_;
  step.coefficients = clips ? coefficients_.data() : nullptr;
  step.coefficient_per_tensor = spec_.clip_norm > 0;
  list.emplace_back(step, dtype_);
  return list;
}

void Optimizer::prepare_step() {
  ++steps_;
  group_ = prepare_group(spec_, *info_, convention_, hyper_.data(), steps_, memory_.data());
}

double Optimizer::hyper(const std::string& name) const {
  if (name == "weight_decay") return spec_.weight_decay;
  const int place = place_of(*info_, name.c_str());
  if (place >= 0) return hyper_[place];
  throw std::invalid_argument("optimizer " + info_->name + " has no hyper-parameter '" + name +
                              "'");
}

void Optimizer::set_hyper(const std::string& name, double value) {
  if (!std::isfinite(value)) {
    throw std::invalid_argument("optimizer " + info_->name + ": " + name + "=" +
                                std::to_string(value) + " must be finite");
  }
  const int place = place_of(*info_, name.c_str());
  if (name == "weight_decay") {
    need_not_negative("weight_decay", value);
    spec_.weight_decay = value;
    if (place >= 0 && !spec_.decoupled) hyper_[place] = value;
  } else if (place >= 0) {
    hyper_[place] = value;
  } else {
    throw std::invalid_argument("optimizer " + info_->name + " has no hyper-parameter '" + name +
                                "'");
  }
}

}  // namespace fusednn::engine
