// SPDX-License-Identifier: Apache-2.0
// The optimizer step on every instruction set: each rule against itself on scalar lanes of double, the
// same bits for every team, NaN that stays where it is, norms that neither overflow nor hide an
// infinity. Python tests compare the rules with PyTorch and with an independent oracle.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "rules/optimizers.h"

namespace {

using namespace fusednn;

void check(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  std::exit(1);
}

void execute(const Command& command, int team) {
  const Schedule schedule = cpu::prepare_for_team(&command, 1, team);
  void* workspace = cpu::backend().allocate(schedule.workspace_bytes + 1);
  cpu::backend().execute(&command, 1, schedule, workspace, 1);
  cpu::backend().release(workspace);
}

// Numbers in [-1, 1) that are the same everywhere.
struct Source {
  uint64_t state = 1;
  double next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(int64_t(state >> 11)) / double(int64_t(1) << 52) - 1;
  }
};

// An empty tensor, a lonely element, tails, exactly one piece, several pieces, many small tensors.
std::vector<Index> sizes() {
  std::vector<Index> list = {0, 1, 17, 4096, 9001};
  list.insert(list.end(), 40, 33);
  return list;
}

// Parameters, gradients, states and averages of a few tensors, taken through `steps` steps.
template <class T, class Rule>
struct Run {
  using Arrays = std::vector<std::vector<T>>;
  static constexpr int kSteps = 3;

  typename Rule::Hyper hyper;
  Arrays parameter, gradient, ema, state[kMaxStates];
  std::vector<double> coefficients;
  std::vector<UpdateGroup> groups = std::vector<UpdateGroup>(2);

  Run() {
    Source source;
    for (Index n : sizes()) {
      parameter.emplace_back(size_t(n));
      for (T& p : parameter.back()) p = T(source.next());
      coefficients.push_back(0.75 + 0.25 * source.next());
    }
    gradient = ema = parameter;
    for (int k = 0; k < Rule::n_states; ++k) {
      state[k] = parameter;
      const double start = Rule::initial_state(hyper, rules::Convention::torch, k);
      for (auto& tensor : state[k]) tensor.assign(tensor.size(), T(start));
    }
    groups[0].ema_decay = groups[1].ema_decay = 0.9;  // group 0: nothing but the rule
    groups[1].gradient_scale = -0.5;
    groups[1].clip_value = 0.2;
    groups[1].l2 = 0.01;
    groups[1].l1 = 0.001;
    groups[1].shrink = 0.002;
  }

  static int group_of(size_t tensor) { return int(tensor % 2); }

  // `update(i)` takes tensor i, or all of them at once when i is -1, through one step.
  template <class Update>
  void steps(bool at_once, Update update) {
    std::vector<double> memory(Rule::memory_start, Rule::memory_start + Rule::n_memory);
    Source source;
    for (int t = 1; t <= kSteps; ++t) {
      for (auto& tensor : gradient) {
        for (T& g : tensor) g = T(source.next());
      }
      Rule::remember(hyper, rules::Convention::torch, t, memory.data());
      const auto constants = Rule::prepare(hyper, rules::Convention::torch, t, memory.data());
      for (UpdateGroup& group : groups) std::memcpy(group.constants, &constants, sizeof(constants));
      if (at_once) {
        update(-1);
      } else {
        for (size_t i = 0; i < parameter.size(); ++i) update(int(i));
      }
    }
  }

  void on_backend(int team) {
    std::vector<UpdateTensor> tensors(parameter.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      UpdateTensor& tensor = tensors[i];
      tensor.parameter = parameter[i].data();
      tensor.gradient = gradient[i].data();
      tensor.ema = ema[i].data();
      tensor.n = Index(parameter[i].size());
      tensor.group = group_of(i);
      for (int k = 0; k < Rule::n_states; ++k) tensor.state[k] = state[k][i].data();
    }
    OptimizerStep op;
    op.rule = PlaceIn<Rule, rules::Optimizers>::value;
    op.tensors = tensors.data();
    op.n_tensors = Index(tensors.size());
    op.groups = groups.data();
    op.coefficients = coefficients.data();
    op.coefficient_per_tensor = true;
    op.clear_gradient = true;
    const Command command(op, dtype_of<T>());
    steps(true, [&](int) {
      execute(command, team);
      for (const auto& tensor : gradient) {
        for (T g : tensor) check(g == 0, std::string(Rule::name) + ": the gradient is not cleared");
      }
    });
  }

  // One lane at a time.
  void on_scalars() {
    steps(false, [&](int tensor) {
      const size_t i = size_t(tensor), n = parameter[i].size();
      const UpdateGroup& group = groups[size_t(group_of(i))];
      const auto constants = rules::constants_from<Rule, double>(group.constants);
      std::vector<double> p(n), u(n);
      double square_p = 0, square_u = 0;
      for (size_t j = 0; j < n; ++j) {
        double s[kMaxStates];
        for (int k = 0; k < Rule::n_states; ++k) s[k] = state[k][i][j];
        p[j] = parameter[i][j];
        double g = gradient[i][j] * group.gradient_scale * coefficients[i];
        g = rules::clamp(g, -group.clip_value, group.clip_value);
        g = rules::add_l1(rules::add_l2(g, p[j], group.l2), p[j], group.l1);
        p[j] = rules::shrink(p[j], 1 - group.shrink);
        if constexpr (Rule::layerwise) {
          Rule::moments(constants, g, s);
          u[j] = Rule::direction(constants, p[j], s);
          square_p += p[j] * p[j];
          square_u += u[j] * u[j];
        } else {
          p[j] = Rule::update(constants, p[j], g, s);
        }
        for (int k = 0; k < Rule::n_states; ++k) state[k][i][j] = T(s[k]);
      }
      for (size_t j = 0; j < n; ++j) {
        if constexpr (Rule::layerwise) {
          const double ratio = Rule::trust_ratio(std::sqrt(square_p), std::sqrt(square_u));
          p[j] = Rule::apply(constants, p[j], u[j], ratio);
        }
        parameter[i][j] = T(p[j]);
        ema[i][j] = T(rules::lerp(double(ema[i][j]), p[j], 1 - group.ema_decay));
      }
    });
  }

  std::vector<const Arrays*> results() const {
    std::vector<const Arrays*> list = {&parameter, &ema};
    for (int k = 0; k < Rule::n_states; ++k) list.push_back(&state[k]);
    return list;
  }
};

template <class T, class Rule>
void check_rule() {
  Run<T, Rule> expected, serial;
  expected.on_scalars();
  serial.on_backend(1);
  const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;
  for (size_t r = 0; r < serial.results().size(); ++r) {
    for (size_t i = 0; i < serial.parameter.size(); ++i) {
      for (size_t j = 0; j < serial.parameter[i].size(); ++j) {
        const double got = (*serial.results()[r])[i][j], want = (*expected.results()[r])[i][j];
        check(std::abs(got - want) <= tolerance * (1 + std::abs(want)),
              std::string(Rule::name) + ": " + std::to_string(got) + " where scalars give " +
                  std::to_string(want));
      }
    }
  }
  for (int team = 2; team <= 4; ++team) {
    Run<T, Rule> parallel;
    parallel.on_backend(team);
    for (size_t r = 0; r < serial.results().size(); ++r) {
      check(*parallel.results()[r] == *serial.results()[r],
            std::string(Rule::name) + ": other bits with " + std::to_string(team) + " threads");
    }
  }

  Run<T, Rule> poisoned;
  poisoned.parameter[4][5000] = T(std::nan(""));
  poisoned.on_backend(2);
  for (size_t j = 0; j < poisoned.parameter[4].size(); ++j) {
    const bool lost = std::isnan(poisoned.parameter[4][j]);
    check(lost == (j == 5000 || Rule::layerwise), std::string(Rule::name) + ": NaN lost or spread");
  }
}

template <class T, class... Rules>
void check_rules(TypeList<Rules...>) {
  (check_rule<T, Rules>(), ...);
}

// float32 gradients whose squares do not fit into float32, then one that is infinite.
void check_clipping() {
  std::vector<float> gradient(10000, 1e25f);
  UpdateGroup group;
  group.gradient_scale = -2;
  std::vector<UpdateTensor> tensors(2);
  tensors[0].gradient = gradient.data();
  tensors[0].n = 9999;
  tensors[1].gradient = gradient.data() + 9999;
  tensors[1].n = 1;
  double coefficients[2], norm = 0;
  ClipCoefficient op;
  op.tensors = tensors.data();
  op.n_tensors = 2;
  op.groups = &group;
  op.max_norm = 3;
  op.coefficients = coefficients;
  op.norm = &norm;
  const double whole = 2 * 100 * double(1e25f);
  for (int team = 1; team <= 4; ++team) {
    op.global = true;
    execute(Command(op, DType::float32), team);
    check(std::abs(norm / whole - 1) < 1e-14, "the global norm");
    check(std::abs(coefficients[0] * whole / 3 - 1) < 1e-14, "the global coefficient");
    op.global = false;
    gradient.back() = 0.5f;
    execute(Command(op, DType::float32), team);
    check(coefficients[1] == 1, "a small gradient is left alone");
    gradient.back() = -HUGE_VALF;
    execute(Command(op, DType::float32), team);
    check(std::isnan(coefficients[1]) && std::isfinite(coefficients[0]),
          "an infinity in one tensor");
    check(std::isinf(norm), "an infinite norm");
    gradient.back() = 1e25f;
  }
}

// Moments that fade away never end among the subnormal numbers, and nobody else is affected. Without a
// fused multiply-add it may be what is taken off them that becomes zero: they then stay where they are.
void check_fading_moments() {
#if defined(__x86_64__) || defined(__aarch64__)
  constexpr Index n = 9001;
  const float tiny = std::numeric_limits<float>::min();
  for (int team = 1; team <= 3; ++team) {
    std::vector<float> parameter(n, 0.5f), gradient(n, 0), moment(n, 1.01f * tiny), square(n, 0);
    UpdateGroup group;
    const rules::Adam::Hyper hyper;
    const auto constants = rules::Adam::prepare(hyper, rules::Convention::torch, 1, nullptr);
    std::memcpy(group.constants, &constants, sizeof(constants));
    UpdateTensor tensor;
    tensor.parameter = parameter.data();
    tensor.gradient = gradient.data();
    tensor.state[0] = moment.data();
    tensor.state[1] = square.data();
    tensor.n = n;
    OptimizerStep op;
    op.rule = PlaceIn<rules::Adam, rules::Optimizers>::value;
    op.tensors = &tensor;
    op.n_tensors = 1;
    op.elements = n;
    op.groups = &group;
    execute(Command(op, DType::float32), team);
    for (Index i = 0; i < n; ++i) {
      check(moment[i] == 0 || moment[i] >= tiny, "a moment too small to be normal");
    }
    volatile float half = tiny;
    half = half * 0.5f;
    check(half > 0, "the caller's arithmetic is as before");
  }
#endif
}

}  // namespace

int main() {
  for (const std::string& isa : cpu::supported_isas()) {
    cpu::set_isa(isa);
    check_rules<float>(rules::Optimizers{});
    check_rules<double>(rules::Optimizers{});
    check_clipping();
    check_fading_moments();
  }
  std::puts("ok");
  return 0;
}
