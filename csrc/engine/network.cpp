// SPDX-License-Identifier: Apache-2.0
#include "engine/network.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "core/philox.h"

namespace fusednn::engine {

namespace {

// Commands that run without a look at the watcher.
struct Piece {
  int first, n;
  Schedule schedule;
};

// A step longer than this runs in pieces, so that Ctrl-C need not wait for its end.
constexpr double kPieceNanoseconds = 50e6;

// The update, from command `update` on, is a piece of its own where there are several.
std::vector<Piece> cut(const Backend& backend, const std::vector<Command>& commands, int update,
                       int max_threads) {
  const auto piece = [&](int first, int end) {
    return Piece{first, end - first,
                 backend.prepare(commands.data() + first, end - first, max_threads)};
  };
  const int n = static_cast<int>(commands.size());
  const Piece whole = piece(0, n);
  if (whole.schedule.nanoseconds <= kPieceNanoseconds) return {whole};
  std::vector<Piece> pieces;
  int first = 0;
  double sum = 0;
  for (int i = 0; i < n; ++i) {
    const double each = backend.prepare(&commands[i], 1, max_threads).nanoseconds;
    if (i > first && (i == update || (i < update && sum + each > kPieceNanoseconds))) {
      pieces.push_back(piece(first, i));
      first = i;
      sum = 0;
    }
    sum += each;
  }
  pieces.push_back(piece(first, n));
  return pieces;
}

}  // namespace

// A plan with its feeding and updating commands around it, ready to run.
struct Network::Program {
  Mode mode;
  PlanRequest request;
  Plan plan;
  std::vector<Command> commands;      // first those that gather, one per array of the data set
  std::vector<UpdateTensor> tensors;  // that are updated beside their gradients, or at the end
  int update = 0;  // the first command that changes parameters; commands.size() when none does
  int max_threads = -1;  // what the pieces were prepared for; -1 before that
  std::vector<Piece> pieces;
  Arena workspace;
};

Network::Network(const std::vector<NodeSpec>& specs, Precision precision, const Backend& backend,
                 uint64_t seed)
    : backend_(backend),
      precision_(precision),
      seed_(seed),
      graph_(build_graph(specs, precision.dtype)),
      parameters_(backend,
                  static_cast<size_t>(graph_.parameter_elements) * size_of(precision.dtype)),
      clock_(std::make_unique<Clock>()) {}

Network::~Network() = default;

void Network::set_frozen(const std::string& node, bool frozen) {
  graph_.nodes[graph_.find(node)].frozen = frozen;
  programs_.clear();
  if (optimizer_) optimizer_->bind(graph_, parameters(), gradients());
}

Criterion Network::resolve(const CriterionSpec& spec, std::vector<Feed>& targets) const {
  Criterion criterion;
  criterion.node = graph_.find(spec.node);
  criterion.labels = spec.labels;
  criterion.target = spec.target;
  criterion.weight = spec.weight;
  criterion.threshold = spec.threshold;
  const Node& node = graph_.nodes[criterion.node];
  if (spec.rule == "accuracy") {
    criterion.rule = Criterion::kAccuracy;
  } else {
    criterion.rule = find_loss(spec.rule);
    const LossInfo& info = losses()[criterion.rule];
    criterion.parameters = bind_parameters("loss " + spec.rule, info.parameters, spec.parameters);
    if (spec.labels && !info.rowwise) {
      throw std::invalid_argument("loss " + spec.rule +
                                  " compares with values, not with class numbers");
    }
  }
  if (spec.target < 0)
    throw std::invalid_argument("target=" + std::to_string(spec.target) + " must not be negative");
  Feed feed{spec.labels ? 1 : node.size, spec.labels, node.size};
  if (static_cast<size_t>(spec.target) >= targets.size()) targets.resize(spec.target + 1);
  Feed& known = targets[spec.target];
  const bool fresh = known.row_elements == 0;
  if (!fresh && (known.labels != feed.labels || known.row_elements != feed.row_elements)) {
    throw std::invalid_argument("target " + std::to_string(spec.target) + " is used both as " +
                                (known.labels ? "class numbers" : "values") + " of " +
                                std::to_string(known.row_elements) + " columns and as " +
                                (feed.labels ? "class numbers" : "values") + " of " +
                                std::to_string(feed.row_elements));
  }
  if (!fresh) feed.classes = std::min(feed.classes, known.classes);
  known = feed;
  return criterion;
}

void Network::set_training(const std::vector<CriterionSpec>& losses,
                           const std::vector<CriterionSpec>& metrics,
                           const OptimizerSpec* optimizer) {
  // All is made before anything is replaced, so an error leaves the old state in force.
  std::vector<Feed> targets;
  std::vector<Criterion> new_losses, new_metrics;
  for (const CriterionSpec& spec : losses) new_losses.push_back(resolve(spec, targets));
  for (const CriterionSpec& spec : metrics) new_metrics.push_back(resolve(spec, targets));
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
    new_optimizer->bind(graph_, parameters(), gradients());
    if (new_optimizer->ema()) {
      backend_.download(new_optimizer->ema(), parameters(), parameters_.size());
    }
  }
  programs_.clear();
  losses_ = std::move(new_losses);
  metrics_ = std::move(new_metrics);
  targets_ = std::move(targets);
  optimizer_ = std::move(new_optimizer);
  clock_->loss_scales.assign(losses_.size(), 0);
  clock_->totals.assign(losses_.size() + metrics_.size(), 0);
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
  request.training = mode == Mode::train || mode == Mode::gradients;
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
  memory.parameters = parameters();
  memory.gradients = gradients();
  memory.step = &clock_->step;
  memory.loss_scales = clock_->loss_scales.data();
  memory.totals = clock_->totals.data();
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
    op.first = &clock_->first;
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

  const bool trains = program.mode == Mode::train;
  if (trains && plan.apart && optimizer_->updates_one_by_one()) return append_updates(program);
  commands.insert(commands.end(), plan.commands.begin(), plan.commands.end());
  program.update = static_cast<int>(commands.size());
  if (!trains) return;
  for (const Command& command : optimizer_->commands()) commands.push_back(command);
}

// The update of each dense layer right behind its gradients, while they are in cache. Nothing reads
// the old weights any more: a plan computes the gradients of its parameters last.
void Network::append_updates(Program& program) {
  std::vector<Command>& commands = program.commands;
  std::vector<UpdateTensor> waiting = optimizer_->tensors(graph_, parameters(), gradients());
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

// Tells a program where this data set is and how many threads it may use.
void Network::attach(Program& program, const Dataset& data, const RunOptions& options) {
  const Plan& plan = program.plan;
  size_t place = 0;
  const auto gather = [&](const void* to, const void* from) {
    if (!to) return;
    Command& command = program.commands[place++];
    GatherRows op;
    std::memcpy(&op, command.arguments, sizeof(op));
    op.src = from;
    op.order = options.order;
    std::memcpy(command.arguments, &op, sizeof(op));
  };
  for (size_t i = 0; i < plan.inputs.size(); ++i) gather(plan.inputs[i], data.inputs[i]);
  for (size_t i = 0; i < plan.targets.size(); ++i) gather(plan.targets[i], data.targets[i]);
  gather(plan.sample_weight, data.sample_weight);

  const int max_threads = options.max_threads > 0 ? options.max_threads : backend_.threads();
  if (program.max_threads == max_threads) return;
  program.pieces = cut(backend_, program.commands, program.update, max_threads);
  size_t workspace_bytes = 0;
  for (const Piece& piece : program.pieces) {
    workspace_bytes = std::max(workspace_bytes, piece.schedule.workspace_bytes);
  }
  if (program.workspace.size() < workspace_bytes) {
    program.workspace = Arena(backend_, workspace_bytes);
  }
  program.max_threads = max_threads;
}

// False when `go_on`, which is asked between pieces, stopped a batch before its update. Trained
// parameters, optimizer and step count are then as before the batch (running statistics have moved).
bool Network::run_batch(Program& program, Index first, const std::function<bool()>& go_on) {
  clock_->first = first;
  for (size_t i = 0; i < losses_.size(); ++i) {
    clock_->loss_scales[i] = losses_[i].weight / static_cast<double>(program.plan.rows);
  }
  const bool updates = program.mode == Mode::train;
  if (updates) ++clock_->step;
  for (const Piece& piece : program.pieces) {
    if (piece.first > 0 && !go_on()) {
      if (updates) --clock_->step;
      return false;
    }
    if (updates && piece.first + piece.n > program.update) optimizer_->prepare_step();
    backend_.execute(program.commands.data() + piece.first, piece.n, piece.schedule,
                     program.workspace.data());
  }
  return true;
}

EpochReport Network::run(Mode mode, const Dataset& data, const RunOptions& options,
                         const std::vector<int>& nodes, const std::vector<void*>& outputs) {
  EpochReport report;
  report.losses.resize(losses_.size());
  report.metrics.resize(metrics_.size());
  std::fill(clock_->totals.begin(), clock_->totals.end(), 0.0);
  if (data.rows == 0) return report;

  const bool weighted = mode != Mode::predict && data.sample_weight;
  const Index batch = std::min(std::max<Index>(options.batch_size, 1), data.rows);
  const Index tail = data.rows % batch;
  Program& full = program(mode, request(mode, batch, weighted, nodes));
  attach(full, data, options);
  Program* last = nullptr;
  if (tail) {
    last = &program(mode, request(mode, tail, weighted, nodes));
    attach(*last, data, options);
  }

  using Time = std::chrono::steady_clock;
  const auto interval = std::chrono::duration_cast<Time::duration>(
      std::chrono::duration<double>(options.watcher.interval));
  auto looked = Time::now();
  const auto update = [&] {
    std::copy_n(clock_->totals.begin(), losses_.size(), report.losses.begin());
    std::copy_n(clock_->totals.begin() + static_cast<Index>(losses_.size()), metrics_.size(),
                report.metrics.begin());
  };
  const std::function<bool()> go_on = [&] {
    if (!options.watcher.look || Time::now() - looked < interval) return true;
    report.stopped = !options.watcher.look(report);
    looked = Time::now();
    return !report.stopped;
  };
  while (report.rows < data.rows && !report.stopped) {
    Program& now = data.rows - report.rows >= batch ? full : *last;
    if (!run_batch(now, report.rows, go_on)) return report;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const size_t row_bytes = static_cast<size_t>(graph_.nodes[nodes[i]].size) * size_of(dtype());
      backend_.download(
          static_cast<char*>(outputs[i]) + static_cast<size_t>(report.rows) * row_bytes,
          now.plan.outputs[i].data, static_cast<size_t>(now.plan.rows) * row_bytes);
    }
    report.rows += now.plan.rows;
    ++report.steps;
    update();
    go_on();
  }
  return report;
}

EpochReport Network::train(const Dataset& data, const RunOptions& options) {
  if (!optimizer_)
    throw std::invalid_argument("train: the network has no optimizer; compile it first");
  return run(Mode::train, data, options, {}, {});
}

EpochReport Network::evaluate(const Dataset& data, const RunOptions& options) {
  return run(Mode::evaluate, data, options, {}, {});
}

EpochReport Network::compute_gradients(const Dataset& data, bool training) {
  if (losses_.empty()) {
    throw std::invalid_argument("compute_gradients: the network has no loss; compile it first");
  }
  RunOptions options;
  options.batch_size = data.rows;
  return run(training ? Mode::gradients : Mode::inference_gradients, data, options, {}, {});
}

void Network::predict(const Dataset& data, const std::vector<int>& nodes,
                      const std::vector<void*>& outputs, const RunOptions& options) {
  run(Mode::predict, data, options, nodes, outputs);
}

std::vector<Index> shuffled(Index n, uint64_t seed, uint64_t epoch) {
  std::vector<Index> order(static_cast<size_t>(n));
  for (Index i = 0; i < n; ++i) order[i] = i;
  const auto key0 = static_cast<uint32_t>(seed);
  const auto key1 = static_cast<uint32_t>(seed >> 32);
  // Fisher-Yates from the top. A stream number no layer can have keeps it apart from dropout masks.
  for (Index i = n - 1; i > 0; --i) {
    const PhiloxBlock<uint32_t> words = philox<uint32_t>(
        {
            {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(epoch),
             UINT32_MAX}
    },
        key0, key1);
    const uint64_t random = static_cast<uint64_t>(words.word[1]) << 32 | words.word[0];
    const auto bound = static_cast<uint64_t>(i) + 1;
    // The high half of random * bound is uniform on [0, bound) to within bound / 2^64.
    const auto j = static_cast<Index>((static_cast<unsigned __int128>(random) * bound) >> 64);
    std::swap(order[i], order[j]);
  }
  return order;
}

}  // namespace fusednn::engine
