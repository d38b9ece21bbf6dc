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
      clock_(backend, 1),
      loss_scales_(backend),
      totals_(backend),
      thresholds_(backend),
      counts_(backend),
      supply_(backend) {}

Network::~Network() = default;

void Network::set_frozen(const std::string& node, bool frozen) {
  graph_.nodes[graph_.find(node)].frozen = frozen;
  programs_.clear();
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
  collected_ = Arena();
  n_collected_ = 0;
  if (new_optimizer && new_optimizer->accumulation_steps() > 1) {
    collected_ = Arena(backend_, gradients_.size());
  }
  count_out(new_metrics, metrics);
  losses_ = std::move(new_losses);
  metrics_ = std::move(new_metrics);
  targets_ = std::move(targets);
  optimizer_ = std::move(new_optimizer);
  loss_scales_.host.assign(losses_.size(), 0);
  totals_.host.assign(losses_.size() + metrics_.size() + 1, 0);
}

PlanRequest Network::request(Mode mode, Index rows, bool weighted,
                             const std::vector<int>& outputs) const {
  PlanRequest request;
  request.rows = rows;
  request.seed = seed_;
  if (mode == Mode::predict) {
    request.outputs = outputs;
    return request;
  }
  request.training = trains(mode) || mode == Mode::gradients;
  request.backward = mode != Mode::evaluate;
  request.weighted = weighted;
  request.losses = losses_;
  request.metrics = metrics_;
  request.targets = targets_;
  return request;
}

Network::Program& Network::program(Mode mode, const PlanRequest& request) {
  const auto found =
      std::find_if(programs_.begin(), programs_.end(), [&](const std::unique_ptr<Program>& known) {
        const PlanRequest& theirs = known->request;
        return known->mode == mode && theirs.rows == request.rows &&
               theirs.weighted == request.weighted && theirs.outputs == request.outputs;
      });
  if (found != programs_.end()) {
    std::rotate(found, found + 1, programs_.end());
    return *programs_.back();
  }
  constexpr size_t kKept =
      8;  // batch and tail of training, validation, prediction, and two to spare
  if (programs_.size() == kKept) programs_.erase(programs_.begin());
  auto fresh = std::make_unique<Program>();
  fresh->mode = mode;
  fresh->request = request;
  PlanMemory memory;
  memory.parameters = parameters_.data();
  memory.gradients = gradients_.data();
  memory.step = &clock_.device()->step;
  memory.loss_scales = loss_scales_.device();
  memory.totals = totals_.device();
  memory.thresholds = thresholds_.device();
  memory.counts = counts_.device();
  fresh->plan = compile(graph_, fresh->request, memory, backend_, precision_);
  assemble(*fresh);
  programs_.push_back(std::move(fresh));
  return *programs_.back();
}

// Puts the gathering of a data set before the plan, and the update behind it.
void Network::assemble(Program& program) {
  const Plan& plan = program.plan;
  std::vector<Command>& commands = program.commands;
  const auto gather = [&](void* to, Index row_bytes) {
    if (!to) return;
    GatherRows op;
    op.first = &clock_.device()->first;
    op.dst = to;
    op.rows = plan.rows;
    op.row_bytes = row_bytes;
    if (!commands.empty()) commands.back().beside_next = true;
    commands.emplace_back(op, dtype());
    commands.back().apart = plan.apart;
  };
  const auto element = static_cast<Index>(size_of(dtype()));
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    gather(plan.inputs[i], graph_.nodes[graph_.inputs[i]].size * element);
  }
  for (size_t i = 0; i < plan.targets.size(); ++i) {
    const Feed& feed = targets_[i];
    gather(plan.targets[i],
           feed.row_elements * (feed.labels ? static_cast<Index>(sizeof(int32_t)) : element));
  }
  gather(plan.sample_weight, element);

  if (optimizer_ && (trains(program.mode) || program.mode == Mode::evaluate)) {
    for (const Command& command : optimizer_->penalty(static_cast<double>(plan.rows),
                                                      totals_.device() + totals_.host.size() - 1)) {
      commands.push_back(command);
    }
  }
  const bool updates = program.mode == Mode::train;
  // Where threads run through a step together; on a device of its own one update of all is better.
  const bool one_by_one = backend_.host_memory && plan.apart;
  if (updates && one_by_one && optimizer_->updates_one_by_one()) {
    append_updates(program);
  } else {
    commands.insert(commands.end(), plan.commands.begin(), plan.commands.end());
    program.update = static_cast<int>(commands.size());
    if (trains(program.mode) && collected_.data()) append_collection(program);
    if (!updates) return;
    for (const Command& command : optimizer_->commands()) commands.push_back(command);
  }
  for (const Command& command : optimizer_->constraints(graph_, parameters_.data())) {
    commands.push_back(command);
  }
}

// Adds the gradients of a step to those before it; the last step takes them all, and none are left.
void Network::append_collection(Program& program) {
  const Index n = graph_.parameter_elements;
  if (program.mode == Mode::collect) {
    const ConstMatrix gradients(gradients_.data(), n);
    program.commands.emplace_back(
        CopyRows{
            gradients, {collected_.data(), n},
             1, n, true
    },
        dtype());
    return;
  }
  const ConstMatrix collected(collected_.data(), n);
  program.commands.emplace_back(
      CopyRows{
          collected, {gradients_.data(), n},
           1, n, true
  },
      dtype());
  program.commands.emplace_back(Fill{collected_.data(), n, 0}, dtype());
}

Network::Mode Network::mode_of_step(Mode mode) const {
  if (mode != Mode::train) return mode;
  return n_collected_ + 1 < optimizer_->accumulation_steps() ? Mode::collect : Mode::train;
}

// The update of each dense layer right behind its gradients, while they are in cache. Nothing reads
// the old weights any more: a plan computes the gradients of its parameters last.
void Network::append_updates(Program& program) {
  std::vector<Command>& commands = program.commands;
  std::vector<UpdateTensor> waiting =
      optimizer_->tensors(graph_, parameters_.data(), gradients_.data());
  std::vector<UpdateTensor>& tensors = program.tensors;
  tensors.reserve(waiting.size());  // commands point into it
  const auto take = [&](const void* gradient) {
    const auto found = std::find_if(waiting.begin(), waiting.end(), [&](const UpdateTensor& each) {
      return each.gradient == gradient;
    });
    if (found == waiting.end()) return;
    tensors.push_back(*found);
    waiting.erase(found);
  };
  program.update = -1;
  const auto update = [&](size_t first, Index matrix_rows) {
    const auto n = static_cast<Index>(tensors.size() - first);
    if (n == 0) return;
    if (program.update < 0) program.update = static_cast<int>(commands.size());
    commands.push_back(optimizer_->update(tensors.data() + first, n, matrix_rows));
  };
  for (const Command& command : program.plan.commands) {
    commands.push_back(command);
    if (command.operation != PlaceIn<DenseBackwardWeights, Operations>::value) continue;
    DenseBackwardWeights op;
    std::memcpy(&op, command.arguments, sizeof(op));
    const size_t first = tensors.size();
    take(op.dw.data);
    take(op.dbias);
    commands.back().beside_next = false;
    update(first, op.in);
    commands.back().apart = true;
    commands.back().beside_next = command.beside_next;
  }
  const size_t first = tensors.size();
  tensors.insert(tensors.end(), waiting.begin(), waiting.end());
  update(first, 0);
  if (program.update < 0) program.update = static_cast<int>(commands.size());
}

void Network::supply(const Dataset& data, bool targets, const RunOptions& options, Index batch) {
  std::vector<SupplyArray> arrays;
  const size_t element = size_of(dtype());
  for (size_t i = 0; i < data.inputs.size(); ++i) {
    const Node& node = graph_.nodes[static_cast<size_t>(graph_.inputs[i])];
    arrays.push_back({data.inputs[i], static_cast<size_t>(node.size) * element});
  }
  for (size_t i = 0; targets && i < data.targets.size(); ++i) {
    const size_t each = targets_[i].labels ? sizeof(int32_t) : element;
    arrays.push_back({data.targets[i], static_cast<size_t>(targets_[i].row_elements) * each});
  }
  if (targets && data.sample_weight) arrays.push_back({data.sample_weight, element});
  supply_.begin(std::move(arrays), data.rows, options.order, batch);
}

void Network::hide_windows() {
  parameter_window_.hide();
  gradient_window_.hide();
  if (optimizer_) optimizer_->hide_windows();
}

// Tells a program where the data set is and how many threads it may use.
void Network::attach(Program& program, const RunOptions& options) {
  const Plan& plan = program.plan;
  size_t place = 0, array = 0;
  bool moved = false;
  const auto gather = [&](const void* to) {
    const size_t from = array++;
    if (!to) return;
    Command& command = program.commands[place++];
    GatherRows op;
    std::memcpy(&op, command.arguments, sizeof(op));
    moved = moved || op.src != supply_.array(from) || op.order != supply_.order();
    op.src = supply_.array(from);
    op.order = supply_.order();
    std::memcpy(command.arguments, &op, sizeof(op));
  };
  for (const void* to : plan.inputs) gather(to);
  for (const void* to : plan.targets) gather(to);
  if (plan.sample_weight) gather(plan.sample_weight);

  const int max_threads = options.max_threads > 0 ? options.max_threads : backend_.threads();
  const auto record = [&] {
    for (Piece& piece : program.pieces) {
      piece.recording = Recording(backend_);
      piece.schedule.recording = piece.recording.number();
    }
  };
  if (program.max_threads == max_threads) {
    if (moved) record();
    return;
  }
  program.pieces = cut(backend_, program.commands, program.update, max_threads);
  size_t workspace_bytes = 0;
  for (Piece& piece : program.pieces) {
    piece.schedule.pace = &piece.pace;
    workspace_bytes = std::max(workspace_bytes, piece.schedule.workspace_bytes);
  }
  if (program.workspace.size() < workspace_bytes) {
    program.workspace = Arena(backend_, workspace_bytes);
  }
  program.max_threads = max_threads;
  record();
}

// False when `go_on`, which is asked between pieces, stopped a batch before its update. Trained
// parameters, optimizer and step count are then as before the batch (running statistics have moved).
bool Network::run_batch(Program& program, Index first, const std::function<bool()>& go_on) {
  Clock& clock = clock_.host[0];
  clock.first = supply_.fetch(first);
  for (size_t i = 0; i < losses_.size(); ++i) {
    loss_scales_.host[i] = losses_[i].weight / static_cast<double>(program.plan.rows);
  }
  const bool updates = program.mode == Mode::train;
  if (trains(program.mode)) ++clock.step;
  clock_.publish();
  if (!losses_.empty()) loss_scales_.publish_changes();
  if (optimizer_) optimizer_->prepare_penalty();
  for (const Piece& piece : program.pieces) {
    if (piece.first > 0 && !go_on()) {
      if (trains(program.mode)) --clock.step;
      return false;
    }
    if (updates && piece.first + piece.n > program.update) optimizer_->prepare_step();
    backend_.execute(program.commands.data() + piece.first, piece.n, piece.schedule,
                     program.workspace.data());
  }
  if (trains(program.mode)) n_collected_ = updates ? 0 : n_collected_ + 1;
  return true;
}

EpochReport Network::run(Mode mode, const Dataset& data, const RunOptions& options,
                         const std::vector<int>& nodes, const std::vector<void*>& outputs) {
  EpochReport report;
  report.losses.resize(losses_.size());
  report.metrics.resize(metrics_.size());
  std::fill(totals_.host.begin(), totals_.host.end(), 0.0);
  std::fill(counts_.host.begin(), counts_.host.end(), 0.0);
  for (const Criterion& metric : metrics_) {
    const bool tallied = metric.rule == Criterion::kTally;
    report.tallies.push_back({tallied ? counts_.host.data() + metric.first_count : nullptr,
                              static_cast<size_t>(metric.n_counts)});
  }
  if (data.rows == 0) return report;
  hide_windows();
  totals_.publish();
  if (!counts_.host.empty()) counts_.publish();

  const bool weighted = mode != Mode::predict && data.sample_weight;
  const Index batch = std::min(std::max<Index>(options.batch_size, 1), data.rows);
  const Index tail = data.rows % batch;
  supply(data, mode != Mode::predict, options, batch);
  // Programs of this run, by the rows and kind of a step.
  std::vector<Program*> ready;
  const auto program_of = [&](Index rows, Mode kind) -> Program& {
    for (Program* known : ready) {
      if (known->plan.rows == rows && known->mode == kind) return *known;
    }
    ready.push_back(&program(kind, request(kind, rows, weighted, nodes)));
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
  while (report.rows < data.rows && !report.stopped) {
    for (const auto& [name, values] : options.schedules) {
      optimizer_->set_hyper(name, values[report.steps]);
    }
    const bool whole = data.rows - report.rows >= batch;
    Program& now = program_of(whole ? batch : tail, mode_of_step(mode));
    if (!run_batch(now, report.rows, go_on)) return report;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const size_t row_bytes = static_cast<size_t>(graph_.nodes[nodes[i]].size) * size_of(dtype());
      backend_.download(
          static_cast<char*>(outputs[i]) + static_cast<size_t>(report.rows) * row_bytes,
          now.plan.outputs[i].data, static_cast<size_t>(now.plan.rows) * row_bytes);
    }
    report.rows += now.plan.rows;
    ++report.steps;
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

}  // namespace fusednn::engine
