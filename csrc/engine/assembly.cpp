// SPDX-License-Identifier: Apache-2.0
// How a network makes what it runs: a plan with the gathering before it and the update behind it.
#include <algorithm>
#include <cstring>

#include "engine/network.h"
#include "engine/program.h"

namespace fusednn::engine {

PlanRequest Network::request(Mode mode, Index rows, const Dataset& data, const RunOptions& options,
                             const std::vector<int>& outputs) const {
  PlanRequest request;
  request.rows = rows;
  request.seed = seed_;
  request.bytes = data.bytes;
  if (mode == Mode::predict) {
    request.outputs = outputs;
    return request;
  }
  request.training = trains(mode) || mode == Mode::gradients;
  request.backward = mode != Mode::evaluate;
  request.weighted = data.sample_weight != nullptr;
  request.mixup = trains(mode) ? options.mixup : 0;
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
               theirs.weighted == request.weighted && theirs.outputs == request.outputs &&
               theirs.bytes == request.bytes && theirs.mixup == request.mixup;
      });
  if (found != programs_.end()) {
    std::rotate(found, found + 1, programs_.end());
    return *programs_.back();
  }
  constexpr size_t kKept =
      8;  // batch and tail of training, validation, prediction, and two to spare
  if (programs_.size() == kKept) programs_.erase(programs_.begin());
  auto fresh = std::make_unique<Program>(mode, request, backend_);
  for (const Criterion& loss : losses_) {
    fresh->loss_scales.host.push_back(loss.weight / static_cast<double>(request.rows));
  }
  fresh->loss_scales.publish();
  PlanMemory memory;
  memory.parameters = parameters_.data();
  memory.gradients = gradients_.data();
  memory.step = &clock_.device()->step;
  memory.loss_scales = fresh->loss_scales.device();
  memory.totals = totals_.device();
  memory.thresholds = thresholds_.device();
  memory.counts = counts_.device();
  fresh->plan = compile(graph_, fresh->request, memory, backend_, precision_);
  assemble(*fresh);
  programs_.push_back(std::move(fresh));
  return *programs_.back();
}

// Puts the gathering of a data set before the plan, and the update behind it. A device begins the step
// itself.
void Network::assemble(Program& program) {
  const Plan& plan = program.plan;
  std::vector<Command>& commands = program.commands;
  if (!backend_.host_memory) {
    BeginStep op;
    op.clock = clock_.device();
    op.rows = plan.rows;
    op.trains = trains(program.mode);
    if (op.trains) optimizer_->bring_numbers(op);
    commands.emplace_back(op, dtype());
    program.gather = 1;
  }
  const auto gather = [&](void* to, Index row_bytes) {
    if (!to) return;
    GatherRows op;
    op.first = &clock_.device()->first;
    op.dst = to;
    op.rows = plan.rows;
    op.row_bytes = row_bytes;
    if (static_cast<int>(commands.size()) > program.gather) commands.back().beside_next = true;
    commands.emplace_back(op, dtype());
    commands.back().apart = plan.apart;
  };
  const auto element = static_cast<Index>(size_of(dtype()));
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    const bool bytes = !program.request.bytes.empty() && program.request.bytes[i];
    gather(plan.inputs[i], graph_.nodes[graph_.inputs[i]].size * (bytes ? 1 : element));
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
    if (trains(program.mode) && optimizer_->accumulation_steps() > 1) append_collection(program);
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

// Tells a program where the data set is and how many threads it may use.
void Network::attach(Program& program, const RunOptions& options) {
  const Plan& plan = program.plan;
  auto place = static_cast<size_t>(program.gather);
  size_t array = 0;
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

}  // namespace fusednn::engine
