// SPDX-License-Identifier: Apache-2.0
// The rules by name. Built from the type lists of csrc/rules, so that a rule added there is known to
// the engine and to Python with nothing else to edit.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

struct ParameterInfo {
  std::string name;
  double value, low, high;
};

struct ActivationInfo {
  std::string name;
  std::vector<ParameterInfo> parameters;
  bool saves_input;
};

struct LossInfo {
  std::string name;
  std::vector<ParameterInfo> parameters;
  bool rowwise;         // may take class numbers as targets
  bool weighs_classes;  // takes a weight per class
};

struct OptimizerInfo {
  std::string name;
  std::vector<ParameterInfo> parameters;  // low and high are not used
  std::vector<std::string> states;
  std::vector<double> memory;  // numbers that live from step to step beside the states, at step 1
  std::vector<std::string> memory_names;
  bool layerwise;  // needs each tensor apart, because it works with norms of tensors
  // Hyper-parameters come in the order of `parameters`. Step t = 1, 2, ... moves the memory on, rounded
  // as the type in which it is kept, and has these constants.
  void (*prepare)(const double* hyper, int convention, int64_t t, double* memory, DType kept,
                  double* constants);
  // The rule's Hyper, as UpdateRecipe keeps it.
  void (*store_hyper)(const double* hyper, double* members);
  // The value that fills a state before step 1.
  double (*initial_state)(const double* hyper, int convention, int slot);
};

// What scales gradients of this norm down to max_norm, as ClipCoefficient has it.
double clip_coefficient(double norm, double max_norm);

const std::vector<ActivationInfo>& activations();
const std::vector<LossInfo>& losses();
const std::vector<OptimizerInfo>& optimizers();
const std::vector<std::string>& elementary_functions();

// The place of a name; std::invalid_argument with the nearest name and all known ones otherwise.
int find_activation(const std::string& name);
int find_loss(const std::string& name);
int find_optimizer(const std::string& name);
int find_elementary(const std::string& name);
int find_convention(const std::string& name);  // "torch" 0, "keras" 1, "textbook" 2

// Values of hyper-parameters, in rule order, from names; unknown names and values outside the domain
// are errors that name `owner`.
std::vector<double> bind_parameters(const std::string& owner,
                                    const std::vector<ParameterInfo>& known,
                                    const std::map<std::string, double>& given);

ActivationSpec activation_spec(const std::string& name, const std::map<std::string, double>& given);

// The known name closest to a misspelt one, or "" when none is near.
std::string nearest(const std::string& name, const std::vector<std::string>& known);

}  // namespace fusednn::engine
