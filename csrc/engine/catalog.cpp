// SPDX-License-Identifier: Apache-2.0
#include "engine/catalog.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "rules/activations.h"
#include "rules/elementary.h"
#include "rules/losses.h"
#include "rules/optimizers.h"

namespace fusednn::engine {
namespace {

template <class Rule>
std::vector<ParameterInfo> parameters_of() {
  std::vector<ParameterInfo> list;
  for (int i = 0; i < Rule::parameters.size; ++i) {
    const Parameter& p = Rule::parameters.list[i];
    list.push_back({p.name, p.value, p.low, p.high});
  }
  return list;
}

template <class... Rules>
std::vector<ActivationInfo> list_activations(TypeList<Rules...>) {
  return {
      {Rules::name, parameters_of<Rules>(), Rules::saves == rules::Saves::input}
      ...
  };
}

template <class... Rules>
void append_pointwise(TypeList<Rules...>, std::vector<LossInfo>& list) {
  (list.push_back({Rules::name, parameters_of<Rules>(), false, false}), ...);
}

template <class... Rules>
void append_rowwise(TypeList<Rules...>, std::vector<LossInfo>& list) {
  (list.push_back({Rules::name, parameters_of<Rules>(), true, Rules::weighs_classes}), ...);
}

// A Hyper struct from its members' values in the order of the rule's fields.
template <class Rule>
typename Rule::Hyper hyper_of(const double* values) {
  typename Rule::Hyper hyper;
  for (const auto& field : Rule::fields) hyper.*field.member = *values++;
  return hyper;
}

template <class Rule, class T>
void prepare_as(const double* hyper, int convention, int64_t t, double* memory, double* constants) {
  static_assert(rules::n_constants<Rule> <= kMaxConstants, "raise kMaxConstants");
  T kept[Rule::n_memory + 1] = {};  // an array of none is no array
  for (int i = 0; i < Rule::n_memory; ++i) kept[i] = static_cast<T>(memory[i]);
  Rule::template begin_step<Rule>(hyper_of<Rule>(hyper), convention, t, kept, constants);
  for (int i = 0; i < Rule::n_memory; ++i) memory[i] = kept[i];
}

template <class Rule>
void prepare(const double* hyper, int convention, int64_t t, double* memory, DType kept,
             double* constants) {
  const auto as = kept == DType::float32 ? &prepare_as<Rule, float> : &prepare_as<Rule, double>;
  as(hyper, convention, t, memory, constants);
}

template <class Rule>
void store_hyper(const double* hyper, double* members) {
  using Hyper = typename Rule::Hyper;
  static_assert(offsetof(Hyper, lr) == 0, "UpdateRecipe looks for it there");
  static_assert(sizeof(Hyper) <= kMaxHyper * sizeof(double), "raise kMaxHyper");
  const Hyper made = hyper_of<Rule>(hyper);
  __builtin_memcpy(members, &made, sizeof(made));
}

template <class Rule>
double initial_state(const double* hyper, int convention, int slot) {
  return Rule::initial_state(hyper_of<Rule>(hyper), static_cast<rules::Convention>(convention),
                             slot);
}

template <class Rule>
OptimizerInfo optimizer_info() {
  OptimizerInfo info;
  info.name = Rule::name;
  const typename Rule::Hyper defaults;
  for (const auto& field : Rule::fields) {
    info.parameters.push_back({field.name, defaults.*field.member, -kInfinity, kInfinity});
  }
  for (int i = 0; i < Rule::n_states; ++i) info.states.push_back(Rule::states[i]);
  info.memory.assign(Rule::memory_start, Rule::memory_start + Rule::n_memory);
  info.memory_names.assign(Rule::memory_names, Rule::memory_names + Rule::n_memory);
  info.layerwise = Rule::layerwise;
  info.prepare = &prepare<Rule>;
  info.store_hyper = &store_hyper<Rule>;
  info.initial_state = &initial_state<Rule>;
  return info;
}

template <class... Rules>
std::vector<OptimizerInfo> list_optimizers(TypeList<Rules...>) {
  return {optimizer_info<Rules>()...};
}

template <class... Rules>
std::vector<std::string> names_of(TypeList<Rules...>) {
  return {Rules::name...};
}

// std::to_string would print a bound of 1e-30 as 0.000000.
std::string to_string(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

// Levenshtein distance.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

template <class Info>
std::vector<std::string> names_in(const std::vector<Info>& list) {
  std::vector<std::string> names;
  for (const Info& info : list) names.push_back(info.name);
  return names;
}

int find(const char* what, const std::string& name, const std::vector<std::string>& known) {
  const auto found = std::find(known.begin(), known.end(), name);
  if (found != known.end()) return static_cast<int>(found - known.begin());
  std::string message = std::string(what) + " '" + name + "' is unknown";
  const std::string near = nearest(name, known);
  if (!near.empty()) message += "; did you mean '" + near + "'?";
  message += " Known: ";
  for (size_t i = 0; i < known.size(); ++i) message += (i ? ", " : "") + known[i];
  throw std::invalid_argument(message);
}

}  // namespace

double clip_coefficient(double norm, double max_norm) {
  return rules::clip_coefficient(norm, max_norm);
}

const std::vector<ActivationInfo>& activations() {
  static const std::vector<ActivationInfo> list = list_activations(rules::Activations{});
  return list;
}

const std::vector<LossInfo>& losses() {
  static const std::vector<LossInfo> list = [] {
    std::vector<LossInfo> all;
    append_pointwise(rules::PointwiseLosses{}, all);
    append_rowwise(rules::RowwiseLosses{}, all);
    return all;
  }();
  return list;
}

const std::vector<OptimizerInfo>& optimizers() {
  static const std::vector<OptimizerInfo> list = list_optimizers(rules::Optimizers{});
  return list;
}

const std::vector<std::string>& elementary_functions() {
  static const std::vector<std::string> list = names_of(rules::ElementaryFunctions{});
  return list;
}

int find_activation(const std::string& name) {
  return find("activation", name, names_in(activations()));
}
int find_loss(const std::string& name) { return find("loss", name, names_in(losses())); }
int find_optimizer(const std::string& name) {
  return find("optimizer", name, names_in(optimizers()));
}
int find_elementary(const std::string& name) {
  return find("function", name, elementary_functions());
}
int find_convention(const std::string& name) {
  return find("convention", name, {"torch", "keras", "textbook"});
}

std::vector<double> bind_parameters(const std::string& owner,
                                    const std::vector<ParameterInfo>& known,
                                    const std::map<std::string, double>& given) {
  std::vector<double> values;
  for (const ParameterInfo& parameter : known) values.push_back(parameter.value);
  for (const auto& [name, value] : given) {
    const auto place =
        static_cast<size_t>(find((owner + " parameter").c_str(), name, names_in(known)));
    const ParameterInfo& parameter = known[place];
    if (!(value >= parameter.low && value <= parameter.high)) {
      throw std::invalid_argument(owner + ": " + name + "=" + to_string(value) + " is outside [" +
                                  to_string(parameter.low) + ", " + to_string(parameter.high) +
                                  "]");
    }
    values[place] = value;
  }
  return values;
}

ActivationSpec activation_spec(const std::string& name,
                               const std::map<std::string, double>& given) {
  ActivationSpec spec;
  spec.rule = find_activation(name);
  const std::vector<double> values =
      bind_parameters("activation " + name, activations()[spec.rule].parameters, given);
  std::copy(values.begin(), values.end(), spec.parameters);
  return spec;
}

std::string nearest(const std::string& name, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t d = distance(name, candidate);
    if (d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace fusednn::engine
