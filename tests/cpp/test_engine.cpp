// SPDX-License-Identifier: Apache-2.0
// The engine on the CPU backend: gradients of a graph with every layer against central differences,
// the same bits for every number of threads and every order that commands may run in, and no
// allocation in a steady training step.
#include <atomic>
#include <cassert>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "engine/catalog.h"
#include "engine/network.h"

using namespace fusednn;
using namespace fusednn::engine;

// ---- counting allocations ----------------------------------------------------------------------

// Not inlined, or GCC sees malloc and free behind new and delete and warns that they do not match.
static std::atomic<long> allocations{0};

__attribute__((noinline)) void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
// A sanitizer brings one of its own, whose memory free() may not take; std::stable_sort asks for it.
__attribute__((noinline)) void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes ? bytes : 1);
}
__attribute__((noinline)) void* operator new(size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto a = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(a, (bytes + a - 1) / a * a)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
__attribute__((noinline)) void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

// ---- networks to test on -------------------------------------------------------------------------

namespace {

using Values = std::map<std::string, Value>;

// Two branches, normalisations, dropout, concatenation, fan-out, a residual sum: every layer there is.
std::vector<NodeSpec> every_layer() {
  const auto activation = [](const char* name) {
    return Values{
        {"activation", std::string(name)}
    };
  };
  return {
      {"input",               "x",    {},      {{"shape", std::vector<int64_t>{3, 4}}}     },
      {"flatten",             "flat", {0},     {}                                          },
      {"dense",               "d1",   {1},     {{"units", int64_t{9}}}                     },
      {"activation",          "a1",   {2},     activation("gelu")                          },
      {"dense",               "d2",   {3},     {{"units", int64_t{9}}}                     },
      {"activation",          "a2",   {4},     activation("tanh")                          },
      {"add",                 "sum",  {3, 5},  {}                                          },
      {"batch_normalization", "bn",   {6},     {}                                          },
      {"activation",          "a3",   {7},     activation("silu")                          },
      {"dropout",             "drop", {8},     {{"rate", 0.25}}                            },
      {"dense",               "d3",   {9},     {{"units", int64_t{5}}, {"use_bias", false}}},
      {"layer_normalization", "ln",   {10},    {}                                          },
      {"concatenate",         "both", {11, 3}, {}                                          },
      {"softmax",             "soft", {12},    {}                                          },
      {"dense",               "out",  {13},    {{"units", int64_t{4}}}                     },
  };
}

std::vector<NodeSpec> classifier() {
  return {
      {"input",      "x",    {},  {{"shape", std::vector<int64_t>{20}}}},
      {"dense",      "d1",   {0}, {{"units", int64_t{33}}}             },
      {"activation", "a1",   {1}, {{"activation", std::string("relu")}}},
      {"dropout",    "drop", {2}, {{"rate", 0.1}}                      },
      {"dense",      "d2",   {3}, {{"units", int64_t{257}}}            },
      {"activation", "a2",   {4}, {{"activation", std::string("silu")}}},
      {"dense",      "out",  {5}, {{"units", int64_t{7}}}              }
  };
}

CriterionSpec cross_entropy() {
  CriterionSpec spec;
  spec.rule = "softmax_cross_entropy";
  spec.node = "out";
  spec.labels = true;
  return spec;
}

template <class T>
struct Problem {
  std::vector<T> x;
  std::vector<int32_t> labels;
  Dataset data;
  Problem(Index rows, Index columns, int classes) {
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < rows * columns; ++i) x.push_back(static_cast<T>(normal(random)));
    for (Index i = 0; i < rows; ++i) labels.push_back(static_cast<int32_t>(random() % classes));
    data.rows = rows;
    data.inputs = {x.data()};
    data.targets = {labels.data()};
  }
};

template <class T>
void fill_parameters(Network& network) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  T* parameters = reinterpret_cast<T*>(network.parameters());
  for (const engine::Parameter& p : network.graph().parameters) {
    for (Index i = 0; i < p.size; ++i) {
      parameters[p.offset + i] = static_cast<T>(0.5 * normal(random));
    }
  }
}

// ---- tests -----------------------------------------------------------------------------------------

void test_gradients_match_central_differences() {
  Network network(every_layer(), DType::float64, cpu::backend(), 5);
  fill_parameters<double>(network);
  network.set_training({cross_entropy()}, {}, nullptr);
  const Problem<double> problem(11, 12, 4);

  const auto loss = [&] { return network.compute_gradients(problem.data, true).losses[0] / 11.0; };
  loss();
  auto* parameters = reinterpret_cast<double*>(network.parameters());
  const std::vector<double> gradients(
      reinterpret_cast<double*>(network.gradients()),
      reinterpret_cast<double*>(network.gradients()) + network.graph().parameter_elements);
  double worst = 0, largest = 0;
  for (const engine::Parameter& p : network.graph().parameters) {
    if (!p.trainable) continue;
    for (Index i = p.offset; i < p.offset + p.size; ++i) {
      const double h = 1e-5, kept = parameters[i];
      parameters[i] = kept + h;
      const double above = loss();
      parameters[i] = kept - h;
      const double below = loss();
      parameters[i] = kept;
      worst = std::fmax(worst, std::fabs((above - below) / (2 * h) - gradients[i]));
      largest = std::fmax(largest, std::fabs(gradients[i]));
    }
  }
  std::printf("gradients: largest %.3g, worst difference %.3g\n", largest, worst);
  assert(largest > 1e-2);
  assert(worst < 1e-9);
}

// A team of just as many threads as allowed, awake for every step, however small.
Schedule prepare_team(const Command* commands, int n, int max_threads) {
  Schedule schedule = cpu::prepare_for_team(commands, n, max_threads);
  schedule.nanoseconds = cpu::backend().prepare(commands, n, 1).nanoseconds;
  return schedule;
}
void execute_with_team(const Command* commands, int n, const Schedule& schedule, void* workspace,
                       int times) {
  Schedule awake = schedule;
  awake.nanoseconds = HUGE_VAL;
  cpu::backend().execute(commands, n, awake, workspace, times);
}

// Now with the team, now alone, as if trials kept changing its mind.
void execute_either_way(const Command* commands, int n, const Schedule& schedule, void* workspace,
                        int times) {
  static int runs = 0;
  if (schedule.pace != nullptr) schedule.pace->team = ++runs % 3 == 0;
  execute_with_team(commands, n, schedule, workspace, times);
}

std::vector<float> trained(int threads, double clip_norm, bool either_way = false) {
  Backend teams = cpu::backend();
  teams.prepare = &prepare_team;
  teams.execute = either_way ? &execute_either_way : &execute_with_team;
  Network network(classifier(), DType::float32, teams, 5);
  fill_parameters<float>(network);
  OptimizerSpec adam;
  adam.rule = "adam";
  adam.global_clip_norm = clip_norm;
  network.set_training({cross_entropy()}, {}, &adam);
  const Problem<float> problem(701, 20, 7);
  const std::vector<Index> order = shuffled(701, 1, 2);
  RunOptions options;
  options.batch_size = 128;
  options.order = order.data();
  options.max_threads = threads;
  for (int epoch = 0; epoch < 3; ++epoch) network.train(problem.data, options);
  const auto* parameters = reinterpret_cast<const float*>(network.parameters());
  return {parameters, parameters + network.graph().parameter_elements};
}

void test_same_bits_for_any_number_of_threads() {
  // With clipping the update waits for all gradients, without it follows each of them.
  for (const double clip_norm : {0.0, 1.0}) {
    const std::vector<float> one = trained(1, clip_norm);
    for (const int threads : {1, 2, 3, 4}) {
      const std::vector<float> many = trained(threads, clip_norm);
      assert(std::memcmp(one.data(), many.data(), one.size() * sizeof(float)) == 0);
    }
    const std::vector<float> both = trained(3, clip_norm, true);
    assert(std::memcmp(one.data(), both.data(), one.size() * sizeof(float)) == 0);
  }
}

// ---- alone or as a team

void test_each_kind_of_step_finds_its_way() {
  Network network(classifier(), DType::float32, cpu::backend(), 5);
  fill_parameters<float>(network);
  OptimizerSpec adam;
  adam.rule = "adam";
  network.set_training({cross_entropy()}, {}, &adam);
  const Problem<float> problem(512, 20, 7);
  RunOptions options;
  options.batch_size = 128;
  options.max_threads = 2;
  const auto running = [&] { return network.running().back(); };
  // A trial is paid for within a second, and comes later where the machine is too busy for teams.
  for (int epoch = 0; epoch < 5000 && (epoch == 0 || running().pace.trials == 0); ++epoch) {
    network.train(problem.data, options);
  }
  assert(running().what == std::string("train") && running().rows == 128);
  assert(running().threads == 2);
  const Pace pace = running().pace;
  assert((pace.trials > 0) == (pace.alone_time > 0) && (pace.trials > 0) == (pace.team_time > 0));

  options.max_threads = 1;  // the caller's number is never exceeded
  network.train(problem.data, options);
  assert(running().threads == 1 && running().pace.trials == 0);
  network.evaluate(problem.data, options);
  assert(running().what == std::string("evaluate") && network.running().size() == 2);
}

// ---- commands side by side

int reversed_runs = 0;

// Runs commands that may run side by side in the opposite order, each alone.
void execute_reversed(const Command* commands, int n, const Schedule& schedule, void* workspace,
                      int times) {
  assert(times == 1);  // as all that runs on the host
  for (int begin = 0, end; begin < n; begin = end) {
    end = begin + 1;
    while (end < n && commands[end - 1].beside_next) ++end;
    if (end - begin > 1) ++reversed_runs;
    for (int i = end - 1; i >= begin; --i) {
      cpu::backend().execute(commands + i, 1, schedule, workspace, 1);
    }
  }
}

std::vector<double> gradients_of(const std::vector<NodeSpec>& nodes, const Problem<double>& problem,
                                 const Backend& backend) {
  Network network(nodes, DType::float64, backend, 5);
  fill_parameters<double>(network);
  network.set_training({cross_entropy(), cross_entropy()}, {cross_entropy()}, nullptr);
  const EpochReport report = network.compute_gradients(problem.data, true);
  const auto* first = reinterpret_cast<const double*>(network.gradients());
  std::vector<double> all(first, first + network.graph().parameter_elements);
  all.insert(all.end(), report.losses.begin(), report.losses.end());
  all.insert(all.end(), report.metrics.begin(), report.metrics.end());
  return all;
}

void test_commands_side_by_side_are_independent() {
  Backend reversed = cpu::backend();
  reversed.execute = &execute_reversed;
  const Problem<double> small(11, 12, 4), large(300, 20, 7);
  for (const bool all_layers : {true, false}) {
    const auto nodes = all_layers ? every_layer() : classifier();
    const Problem<double>& problem = all_layers ? small : large;
    reversed_runs = 0;
    const std::vector<double> expected = gradients_of(nodes, problem, cpu::backend());
    const std::vector<double> found = gradients_of(nodes, problem, reversed);
    assert(reversed_runs >= 2);  // what gathers; sums and gradients of parameters
    assert(std::memcmp(expected.data(), found.data(), expected.size() * sizeof(double)) == 0);
  }
}

void* counted_allocate(size_t bytes) {
  ++allocations;
  return cpu::backend().allocate(bytes);
}

void test_steady_steps_allocate_nothing() {
  Backend counting = cpu::backend();
  counting.allocate = &counted_allocate;
  Network network(classifier(), DType::float32, counting, 5);
  fill_parameters<float>(network);
  OptimizerSpec adam;
  adam.rule = "adam";
  CriterionSpec accuracy = cross_entropy();
  accuracy.rule = "accuracy";
  network.set_training({cross_entropy()}, {accuracy}, &adam);
  const Problem<float> problem(1000, 20, 7);
  RunOptions options;
  options.batch_size = 10;
  std::vector<long> counts;
  counts.reserve(200);
  options.watcher.interval = 0;
  options.watcher.look = [&](const EpochReport&) {
    counts.push_back(allocations.load());
    return true;
  };
  network.train(problem.data, options);
  assert(counts.size() == 100);
  std::printf("allocations before the first look %ld, between looks %ld\n", counts.front(),
              counts.back() - counts.front());
  assert(counts.back() == counts.front());
}

void test_watcher_stops_after_a_whole_step() {
  Network network(classifier(), DType::float32, cpu::backend(), 5);
  fill_parameters<float>(network);
  OptimizerSpec sgd;
  sgd.rule = "sgd";
  network.set_training({cross_entropy()}, {}, &sgd);
  const Problem<float> problem(100, 20, 7);
  RunOptions options;
  options.batch_size = 10;
  options.watcher.interval = 0;
  options.watcher.look = [](const EpochReport& report) { return report.steps < 3; };
  const EpochReport report = network.train(problem.data, options);
  assert(report.stopped && report.steps == 3 && report.rows == 30);
  assert(network.training_steps() == 3);
  assert(network.optimizer()->steps() == 3);
}

void test_watcher_stops_within_a_long_step() {
  const std::vector<NodeSpec> wide = {
      {"input", "x",   {},  {{"shape", std::vector<int64_t>{1200}}}},
      {"dense", "d1",  {0}, {{"units", int64_t{1200}}}             },
      {"dense", "d2",  {1}, {{"units", int64_t{1200}}}             },
      {"dense", "out", {2}, {{"units", int64_t{10}}}               }
  };
  Network network(wide, DType::float64, cpu::backend(), 5);
  fill_parameters<double>(network);
  OptimizerSpec adam;
  adam.rule = "adam";
  network.set_training({cross_entropy()}, {}, &adam);
  const Problem<double> problem(1500, 1200, 10);
  const auto* parameters = reinterpret_cast<const double*>(network.parameters());
  const std::vector<double> before(parameters, parameters + network.graph().parameter_elements);
  RunOptions options;
  options.batch_size = 1500;
  options.watcher.interval = 0;
  int looks = 0;
  options.watcher.look = [&](const EpochReport& report) {
    ++looks;
    assert(report.steps == 0);
    return false;
  };
  const EpochReport report = network.train(problem.data, options);
  assert(looks == 1 && report.stopped && report.steps == 0 && report.rows == 0);
  assert(network.training_steps() == 0 && network.optimizer()->steps() == 0);
  assert(std::memcmp(parameters, before.data(), before.size() * sizeof(double)) == 0);

  options.watcher.look = nullptr;
  assert(network.train(problem.data, options).steps == 1);
  assert(network.training_steps() == 1 && network.optimizer()->steps() == 1);
  assert(std::memcmp(parameters, before.data(), before.size() * sizeof(double)) != 0);
}

void test_failed_set_training_changes_nothing() {
  Network network(classifier(), DType::float32, cpu::backend(), 5);
  OptimizerSpec sgd;
  sgd.rule = "sgd";
  network.set_training({cross_entropy()}, {}, &sgd);
  const auto before = network.optimizer();
  CriterionSpec wrong = cross_entropy();
  wrong.rule = "sofmax_cross_entropy";
  bool refused = false;
  try {
    network.set_training({wrong}, {}, &sgd);
  } catch (const std::invalid_argument& error) {
    refused = std::strstr(error.what(), "did you mean 'softmax_cross_entropy'") != nullptr;
  }
  assert(refused);
  assert(network.optimizer() == before);
}

void test_layout_never_overlaps_in_time_and_memory() {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> lives(1 + random() % 20);
    for (Lifetime& life : lives) {
      const int first = static_cast<int>(random() % 10);
      life = {random() % 1000, first, first + static_cast<int>(random() % 5)};
    }
    const Layout layout = lay_out(lives);
    for (size_t i = 0; i < lives.size(); ++i) {
      assert(layout.offsets[i] % kAlignment == 0);
      assert(layout.offsets[i] + lives[i].bytes <= layout.bytes);
      for (size_t j = 0; j < i; ++j) {
        const bool in_time = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
        const bool in_memory = layout.offsets[i] < layout.offsets[j] + lives[j].bytes &&
                               layout.offsets[j] < layout.offsets[i] + lives[i].bytes;
        assert(!(in_time && in_memory) || lives[i].bytes == 0 || lives[j].bytes == 0);
      }
    }
  }
}

void test_shuffled_is_a_permutation_of_seed_and_epoch() {
  const std::vector<Index> order = shuffled(1000, 3, 4);
  std::vector<bool> seen(1000);
  for (const Index i : order) seen[i] = true;
  for (const bool there : seen) assert(there);
  assert(order == shuffled(1000, 3, 4));
  assert(order != shuffled(1000, 3, 5));
  assert(order != shuffled(1000, 2, 4));
  assert(shuffled(0, 1, 1).empty());
}

}  // namespace

int main() {
  test_gradients_match_central_differences();
  test_same_bits_for_any_number_of_threads();
  test_each_kind_of_step_finds_its_way();
  test_commands_side_by_side_are_independent();
  test_steady_steps_allocate_nothing();
  test_watcher_stops_after_a_whole_step();
  test_watcher_stops_within_a_long_step();
  test_failed_set_training_changes_nothing();
  test_layout_never_overlaps_in_time_and_memory();
  test_shuffled_is_a_permutation_of_seed_and_epoch();
  std::puts("test_engine: all passed");
  return 0;
}
