// SPDX-License-Identifier: Apache-2.0
#include "engine/network.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "engine/program.h"

namespace fusednn::engine {

Network::Network(const std::vector<NodeSpec>& specs, Precision precision, const Backend& backend,
                 uint64_t seed)
    : backend_(backend),
      precision_(precision),
      seed_(seed),
      graph_(build_graph(specs, precision.dtype)),
      parameters_(backend,
                  static_cast<size_t>(graph_.parameter_elements) * size_of(precision.dtype)),
      parameter_window_(backend, parameters_),
      gradient_window_(backend, gradients_),
      collected_window_(backend, collected_),
      clock_(backend, 1),
      totals_(backend),
      thresholds_(backend),
      counts_(backend),
      supply_(backend) {}

Network::~Network() = default;

void Network::set_frozen(const std::string& node, bool frozen) {
  graph_.nodes[graph_.find(node)].frozen = frozen;
  programs_.clear();
  programs_aside_.clear();
  if (optimizer_) optimizer_->bind(graph_, parameters_.data(), gradients_.data());
}

// Gives every tally its place among the thresholds and counts.
void Network::count_out(std::vector<Criterion>& metrics, const std::vector<CriterionSpec>& specs) {
  thresholds_.host.clear();
  Index counts = 0;
  for (size_t i = 0; i < metrics.size(); ++i) {
    if (metrics[i].rule != Criterion::kTally) continue;
    const std::vector<double>& list = specs[i].thresholds;
    metrics[i].first_threshold = static_cast<Index>(thresholds_.host.size());
    thresholds_.host.insert(thresholds_.host.end(), list.begin(), list.end());
    metrics[i].first_count = counts;
    counts += metrics[i].n_counts;
  }
  thresholds_.publish();
  counts_.host.assign(static_cast<size_t>(counts), 0);
}

void Network::set_training(const std::vector<CriterionSpec>& losses,
                           const std::vector<CriterionSpec>& metrics,
                           const OptimizerSpec* optimizer) {
  // All is made before anything is replaced, so an error leaves the old state in force.
  std::vector<Feed> targets;
  std::vector<Criterion> new_losses, new_metrics;
  for (const CriterionSpec& spec : losses) new_losses.push_back(resolve(spec, graph_, targets));
  for (const CriterionSpec& spec : metrics) new_metrics.push_back(resolve(spec, graph_, targets));
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].row_elements == 0) {
      throw std::invalid_argument("target " + std::to_string(i) + " is used by no loss or metric");
    }
  }
  if (!gradients_.data()) {
    gradients_ = Arena(backend_, static_cast<size_t>(graph_.parameter_elements) * size_of(dtype()));
  }
  std::shared_ptr<Optimizer> new_optimizer;
  if (optimizer) {
    new_optimizer = std::make_shared<Optimizer>(*optimizer, graph_, backend_, dtype());
    new_optimizer->bind(graph_, parameters_.data(), gradients_.data());
    if (char* average = new_optimizer->ema()) {
      std::memcpy(average, parameters(), parameters_.size());
    }
  }
  programs_.clear();
  programs_aside_.clear();
  if (new_optimizer && new_optimizer->accumulation_steps() > 1 && !collected_.data()) {
    collected_ = Arena(backend_, gradients_.size());
  }
  if (collected_.data()) std::memset(collected_gradients(), 0, collected_.size());
  n_collected_ = 0;
  count_out(new_metrics, metrics);
  losses_ = std::move(new_losses);
  metrics_ = std::move(new_metrics);
  targets_ = std::move(targets);
  optimizer_ = std::move(new_optimizer);
  totals_.host.assign(losses_.size() + metrics_.size() + 1, 0);
}

void Network::supply(const Dataset& data, bool targets, const RunOptions& options, Index batch) {
  std::vector<SupplyArray> arrays;
  const size_t element = size_of(dtype());
  for (size_t i = 0; i < data.inputs.size(); ++i) {
    const Node& node = graph_.nodes[static_cast<size_t>(graph_.inputs[i])];
    const size_t each = !data.bytes.empty() && data.bytes[i] ? 1 : element;
    arrays.push_back({data.inputs[i], static_cast<size_t>(node.size) * each});
  }
  for (size_t i = 0; targets && i < data.targets.size(); ++i) {
    const size_t each = targets_[i].labels ? sizeof(int32_t) : element;
    arrays.push_back({data.targets[i], static_cast<size_t>(targets_[i].row_elements) * each});
  }
  if (targets && data.sample_weight) arrays.push_back({data.sample_weight, element});
  supply_.begin(std::move(arrays), data.rows, options.order, batch);
}

void Network::set_collected(Index steps) {
  const Index needed = optimizer_ ? optimizer_->accumulation_steps() : 1;
  if (steps < 0 || steps >= needed) {
    throw std::invalid_argument("collected=" + std::to_string(steps) + " is not in [0, " +
                                std::to_string(needed) + "), the steps of an update");
  }
  n_collected_ = steps;
}

void Network::hide_windows() {
  parameter_window_.hide();
  gradient_window_.hide();
  collected_window_.hide();
  if (optimizer_) optimizer_->hide_windows();
}

// How many steps of a program may run without a look at the host, from a row of the data set on.
Index Network::steps_in_a_row(const Program& program, Index first,
                              const RunOptions& options) const {
  const bool seen = options.watcher.look && options.watcher.interval <= 0;
  if (seen || program.pieces.size() > 1 || program.mode == Mode::predict) return 1;
  Index n = std::min<Index>(supply_.there(first) / program.plan.rows,
                            program.pieces[0].schedule.in_a_row);
  if (!trains(program.mode)) return n;
  const Index collect = optimizer_->accumulation_steps() - 1;
  if (collect > 0) n = std::min(n, program.mode == Mode::collect ? collect - n_collected_ : 1);
  return std::min(n, optimizer_->most_steps());
}

// A device knows where it is when it begins a step, unless something else has run or been changed.
void Network::set_clock(const Program& program, const Stretch& now) {
  StepClock& clock = clock_.host[0];
  const bool trains = Network::trains(program.mode);
  StepClock wanted = clock;
  wanted.step = training_steps_;
  wanted.next = supply_.fetch(now.first);
  wanted.end = supply_.end();
  if (trains) wanted.row = 0;
  if (!(wanted == clock)) {
    clock = wanted;
    clock_.publish();
  }
  for (Index k = 0; k < now.steps; ++k) clock.advance(program.plan.rows, trains);
}

// False when `go_on`, which is asked between pieces, stopped a batch before its update. Trained
// parameters, optimizer and step count are then as before the batch (running statistics have moved).
bool Network::run_steps(Program& program, const Stretch& now, const Schedules& schedules,
                        const std::function<bool()>& go_on) {
  const bool updates = program.mode == Mode::train;
  set_clock(program, now);
  if (trains(program.mode)) optimizer_->prepare_steps(schedules, now.step, now.steps, updates);
  for (const Piece& piece : program.pieces) {
    if (piece.first > 0 && !go_on()) return false;
    if (updates && piece.first + piece.n > program.update) optimizer_->count_step();
    backend_.execute(program.commands.data() + piece.first, piece.n, piece.schedule,
                     program.workspace.data(), static_cast<int>(now.steps));
  }
  if (!trains(program.mode)) return true;
  training_steps_ += static_cast<uint64_t>(now.steps);
  n_collected_ = updates ? 0 : n_collected_ + now.steps;
  return true;
}

// Lets sums and counts go on from a report, which from then on shows those of the network.
void Network::begin_sums(EpochReport& report) {
  report.losses.resize(losses_.size());
  report.metrics.resize(metrics_.size());
  report.tallies.resize(metrics_.size());
  const auto after_losses =
      std::copy(report.losses.begin(), report.losses.end(), totals_.host.begin());
  std::copy(report.metrics.begin(), report.metrics.end(), after_losses);
  if (!totals_.host.empty()) totals_.host.back() = report.penalty;
  std::fill(counts_.host.begin(), counts_.host.end(), 0.0);
  for (size_t i = 0; i < metrics_.size(); ++i) {
    const bool tallied = metrics_[i].rule == Criterion::kTally;
    double* own = tallied ? counts_.host.data() + metrics_[i].first_count : nullptr;
    TallyReport& tally = report.tallies[i];
    if (tallied && tally.counts != nullptr) std::copy_n(tally.counts, tally.n, own);
    tally = {own, static_cast<size_t>(metrics_[i].n_counts)};
  }
}

EpochReport Network::run(Mode mode, const Dataset& data, const RunOptions& options,
                         const std::vector<int>& nodes, const std::vector<void*>& outputs) {
  EpochReport report = options.begun;
  begin_sums(report);
  if (data.rows == 0) return report;
  hide_windows();
  totals_.publish();
  if (!counts_.host.empty()) counts_.publish();

  const Index batch = std::min(std::max<Index>(options.batch_size, 1), data.rows);
  const Index tail = data.rows % batch;
  supply(data, mode != Mode::predict, options, batch);
  // Programs of this run, by the rows and kind of a step.
  std::vector<Program*> ready;
  const auto program_of = [&](Index rows, Mode kind) -> Program& {
    for (Program* known : ready) {
      if (known->plan.rows == rows && known->mode == kind) return *known;
    }
    ready.push_back(&program(kind, request(kind, rows, data, options, nodes)));
    attach(*ready.back(), options);
    return *ready.back();
  };
  // Before the first step, so that what cannot be had is known before anything has changed.
  program_of(batch, mode_of_step(mode));
  if (tail) program_of(tail, mode);

  using Time = std::chrono::steady_clock;
  const auto interval = std::chrono::duration_cast<Time::duration>(
      std::chrono::duration<double>(options.watcher.interval));
  auto looked = Time::now();
  const auto update = [&] {
    totals_.fetch();
    if (!counts_.host.empty()) counts_.fetch();
    const std::vector<double>& totals = totals_.host;
    std::copy_n(totals.begin(), losses_.size(), report.losses.begin());
    std::copy_n(totals.begin() + static_cast<Index>(losses_.size()), metrics_.size(),
                report.metrics.begin());
    report.penalty = totals.empty() ? 0 : totals.back();
  };
  // A device that works on its own is only asked for the totals when somebody wants to see them.
  const bool host = backend_.host_memory;
  const std::function<bool()> go_on = [&] {
    if (!options.watcher.look || Time::now() - looked < interval) return true;
    if (!host) update();
    report.stopped = !options.watcher.look(report);
    hide_windows();
    looked = Time::now();
    return !report.stopped;
  };
  if (optimizer_) optimizer_->prepare_penalty();
  clock_.host[0].next = -1;  // a device is told where it is in any case
  for (Stretch stretch; stretch.first < data.rows && !report.stopped;) {
    const Index left = data.rows - stretch.first;
    Program& now = program_of(left >= batch ? batch : tail, mode_of_step(mode));
    stretch.steps = steps_in_a_row(now, stretch.first, options);
    if (!run_steps(now, stretch, options.schedules, go_on)) return report;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const size_t row_bytes = static_cast<size_t>(graph_.nodes[nodes[i]].size) * size_of(dtype());
      char* to = static_cast<char*>(outputs[i]) + static_cast<size_t>(stretch.first) * row_bytes;
      backend_.download(to, now.plan.outputs[i].data,
                        static_cast<size_t>(now.plan.rows) * row_bytes);
    }
    const Index rows = stretch.steps * now.plan.rows;
    stretch.first += rows;
    stretch.step += stretch.steps;
    report.rows += rows;
    report.steps += stretch.steps;
    if (host) update();
    go_on();
  }
  if (!host) update();
  return report;
}

std::vector<Running> Network::running() const {
  const auto name = [](Mode mode) {
    switch (mode) {
      case Mode::train:
      case Mode::collect:
        return "train";
      case Mode::evaluate:
        return "evaluate";
      case Mode::predict:
        return "predict";
      default:
        return "gradients";
    }
  };
  std::vector<Running> list;
  for (const std::unique_ptr<Program>& program : programs_) {
    for (const Piece& piece : program->pieces) {
      list.push_back(
          {name(program->mode), program->request.rows, piece.schedule.threads, piece.pace});
    }
  }
  return list;
}

EpochReport Network::train(const Dataset& data, const RunOptions& options) {
  if (!optimizer_)
    throw std::invalid_argument("train: the network has no optimizer; compile it first");
  const bool labels =
      std::any_of(targets_.begin(), targets_.end(), [](const Feed& feed) { return feed.labels; });
  if (options.mixup > 0 && labels) {
    throw std::invalid_argument("train: mixup needs targets that are values, not class numbers");
  }
  const Index batch =
      std::min(std::max<Index>(options.batch_size, 1), std::max<Index>(data.rows, 1));
  for (const auto& [name, values] : options.schedules) {
    for (Index step = 0; step * batch < data.rows; ++step)
      optimizer_->check_hyper(name, values[step]);
  }
  return run(Mode::train, data, options, {}, {});
}

EpochReport Network::evaluate(const Dataset& data, const RunOptions& options) {
  return run(Mode::evaluate, data, options, {}, {});
}

EpochReport Network::compute_gradients(const Dataset& data, bool training, int max_threads) {
  if (losses_.empty()) {
    throw std::invalid_argument("compute_gradients: the network has no loss; compile it first");
  }
  RunOptions options;
  options.batch_size = data.rows;
  options.max_threads = max_threads;
  return run(training ? Mode::gradients : Mode::inference_gradients, data, options, {}, {});
}

void Network::predict(const Dataset& data, const std::vector<int>& nodes,
                      const std::vector<void*>& outputs, const RunOptions& options) {
  run(Mode::predict, data, options, nodes, outputs);
}

// Programs of the run and its data stay untouched; what the host and the commands share is put back.
Network::Aside::Aside(Network& network)
    : network_(network),
      supply_(network.backend_),
      totals_(network.totals_.host),
      counts_(network.counts_.host) {
  swap();
}

Network::Aside::~Aside() {
  swap();
  std::copy(totals_.begin(), totals_.end(), network_.totals_.host.begin());
  std::copy(counts_.begin(), counts_.end(), network_.counts_.host.begin());
  network_.totals_.publish();
  if (!counts_.empty()) network_.counts_.publish();
}

void Network::Aside::swap() {
  std::swap(network_.programs_, network_.programs_aside_);
  std::swap(network_.supply_, supply_);
}

}  // namespace fusednn::engine
