// SPDX-License-Identifier: Apache-2.0
// The rules of losses and activations on scalar lanes, as a CUDA thread or the host runs them: every
// gradient against central differences of its own value, and the promises about NaN and infinities.
// Python tests compare the vector kernels with an independent oracle.
#include <cassert>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "rules/activations.h"
#include "rules/losses.h"

namespace {

using namespace fusednn;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void near(const char* rule, double got, double want, double tolerance = 1e-6) {
  if (std::abs(got - want) <= tolerance * (1 + std::abs(want))) return;
  std::printf("%s: got %.17g, expected %.17g\n", rule, got, want);
  assert(false);
}

template <class Rule>
struct Arguments {
  double list[kMaxParameters] = {};
  Arguments() {
    for (int i = 0; i < Rule::parameters.size; ++i) list[i] = Rule::parameters.list[i].value;
  }
};

template <class Rule>
void check_activation() {
  const Arguments<Rule> a;
  const double h = 1e-6;
  for (double x : {-7.3, -2.1, -0.4, 0.3, 1.7, 2.4, 5.2, 8.1}) {
    const double slope = (Rule::forward(x + h, a.list) - Rule::forward(x - h, a.list)) / (2 * h);
    const double y = Rule::forward(x, a.list);
    const bool from_input = Rule::saves == rules::Saves::input;
    near(Rule::name, Rule::derivative(from_input ? x : y, a.list), slope);
  }
  assert(std::isnan(Rule::forward(kNan, a.list)) && std::isnan(Rule::derivative(kNan, a.list)));
  assert(!std::isnan(Rule::forward(kInfinity, a.list)));
  assert(!std::isnan(Rule::forward(-kInfinity, a.list)));
}

template <class Rule>
void check_pointwise() {
  const Arguments<Rule> a;
  const double h = 1e-6;
  for (double x : {0.07, 0.31, 0.52, 0.93}) {
    for (double t : {0.0, 0.4, 1.0}) {
      const double above = Rule::evaluate(x + h, t, a.list).value;
      const double below = Rule::evaluate(x - h, t, a.list).value;
      near(Rule::name, Rule::evaluate(x, t, a.list).gradient, (above - below) / (2 * h));
    }
  }
  assert(std::isnan(Rule::evaluate(kNan, 0.0, a.list).value));
  assert(std::isnan(Rule::evaluate(kNan, 0.0, a.list).gradient));
}

using Row = std::vector<double>;
struct RowResult {
  double value;
  Row gradient;
};

// What a kernel does with a rowwise rule, one lane at a time.
template <class Rule>
RowResult evaluate_row(const Row& x, const Row& t) {
  const Arguments<Rule> a;
  double greatest = -kInfinity;
  for (double lane : x) greatest = lane > greatest ? lane : greatest;
  const double m = Rule::needs_max ? greatest : 0;
  const double per_class = 1 / double(x.size());
  double sums[rules::kRowSums] = {};
  Row kept, target;
  for (size_t j = 0; j < x.size(); ++j) {
    target.push_back(Rule::target(t[j], per_class, a.list));
    const auto terms = Rule::terms(x[j], target[j], m);
    for (int k = 0; k < rules::kRowSums; ++k) sums[k] += terms.sums[k];
    kept.push_back(terms.kept);
  }
  const auto loss = Rule::prepare(sums);
  RowResult result{loss.value, {}};
  for (size_t j = 0; j < x.size(); ++j) {
    result.gradient.push_back(Rule::gradient(kept[j], target[j], loss.factors));
  }
  return result;
}

template <class Rule>
void check_rowwise() {
  const double h = 1e-6;
  const Row x = {0.2, 0.9, 0.4, 0.05};
  for (const Row& t : {
           Row{0,   1,   0,   0  },
           Row{0.1, 0.2, 0.3, 0.4},
           Row{0,   0,   0,   2  }
  }) {
    const RowResult row = evaluate_row<Rule>(x, t);
    for (size_t j = 0; j < x.size(); ++j) {
      Row above = x, below = x;
      above[j] += h;
      below[j] -= h;
      const double difference =
          evaluate_row<Rule>(above, t).value - evaluate_row<Rule>(below, t).value;
      near(Rule::name, row.gradient[j], difference / (2 * h));
    }
  }
  assert(std::isnan(evaluate_row<Rule>({0.2, kNan}, {1, 0}).value));
  if (!Rule::needs_max) return;

  // Logits: a masked class without target mass, huge equal logits, a single class.
  const RowResult masked = evaluate_row<Rule>({1, -kInfinity, 1}, {0.5, 0, 0.5});
  near(Rule::name, masked.value, evaluate_row<Rule>({1, 1}, {0.5, 0.5}).value, 1e-14);
  assert(masked.gradient[1] == 0);
  near(Rule::name, evaluate_row<Rule>({1e30, 1e30}, {1, 0}).value, std::log(2.0), 1e-14);
  assert(evaluate_row<Rule>({-3}, {1}).value == 0);
}

template <class... Rules>
void check_activations(TypeList<Rules...>) {
  (check_activation<Rules>(), ...);
}
template <class... Rules>
void check_pointwise_losses(TypeList<Rules...>) {
  (check_pointwise<Rules>(), ...);
}
template <class... Rules>
void check_rowwise_losses(TypeList<Rules...>) {
  (check_rowwise<Rules>(), ...);
}

}  // namespace

int main() {
  check_activations(rules::Activations{});
  check_pointwise_losses(rules::PointwiseLosses{});
  check_rowwise_losses(rules::RowwiseLosses{});
  // Limits of probabilities, and logits far out.
  const double a[kMaxParameters] = {1, 0};
  near("bce", rules::BinaryCrossEntropy::evaluate(0.0, 1.0, a).value, -std::log(1e-7), 1e-14);
  near("bce", rules::BinaryCrossEntropy::evaluate(1.0, 0.0, a).value, -std::log(1e-7), 1e-14);
  assert(rules::BinaryCrossEntropy::evaluate(0.0, 1.0, a).gradient == 0);
  near("bce", rules::BinaryCrossEntropyLogits::evaluate(-1e4, 1.0, a).value, 1e4, 1e-14);
  assert(rules::BinaryCrossEntropyLogits::evaluate(-kInfinity, 0.0, a).value == 0);
  assert(rules::BinaryCrossEntropyLogits::evaluate(kInfinity, 1.0, a).value == 0);
  return 0;
}
