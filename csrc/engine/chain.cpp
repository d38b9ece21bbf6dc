// SPDX-License-Identifier: Apache-2.0
#include "engine/chain.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/catalog.h"
#include "engine/memory.h"
#include "engine/scratch.h"

namespace fusednn::engine {
namespace {

// Between the calls of an autograd lies time enough for a team to fall asleep, and somebody else's
// threads may spin on its processors. Where a team would save less than that costs, nobody is woken.
constexpr double kWorthATeam = 100'000;

// Memory is far from a device, and its products of 16 bits are fast: layers that narrow are made again in
// less time than it takes to read them.
constexpr Index kNarrow = 128;

bool saves_input(const ChainLayer& layer) {
  return activations()[static_cast<size_t>(layer.activation.rule)].saves_input;
}

bool is_linear(const ChainLayer& layer) { return layer.activation.rule == 0; }

void check(const ChainShape& shape) {
  if (shape.layers.empty()) throw std::invalid_argument("layers: there must be at least one");
  if (shape.rows < 0) throw std::invalid_argument("rows: must not be negative");
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const ChainLayer& layer = shape.layers[i];
    const std::string name = "layer " + std::to_string(i);
    if (layer.in < 1 || layer.out < 1) {
      throw std::invalid_argument(name + ": has shape (" + std::to_string(layer.out) + ", " +
                                  std::to_string(layer.in) + "), expected at least (1, 1)");
    }
    if (layer.weight_stride < layer.in) {
      throw std::invalid_argument(name + ": its rows overlap");
    }
    if (i > 0 && layer.in != shape.layers[i - 1].out) {
      throw std::invalid_argument(name + ": takes " + std::to_string(layer.in) +
                                  " features, but the layer before it gives " +
                                  std::to_string(shape.layers[i - 1].out));
    }
  }
}

}  // namespace

Chain::Chain(const Backend& backend, ChainShape shape)
    : backend_(backend), shape_(std::move(shape)), places_(shape_.layers.size()) {
  check(shape_);
  const auto keep = [&](const ChainLayer& layer) {
    const Index place = kept_elements_;
    kept_elements_ += shape_.rows * layer.out;
    return place;
  };
  for (size_t i = 0; i < places_.size(); ++i) {
    const ChainLayer& layer = shape_.layers[i];
    if (i + 1 < places_.size()) {
      places_[i].y = keep(layer);
      widest_ = std::max(widest_, layer.out);
    }
    if (saves_input(layer)) places_[i].z = keep(layer);
  }
  const ChainLayer& last = shape_.layers.back();
  remakes_ = !backend_.host_memory && shape_.bfloat16 && places_.size() > 1 && widest_ <= kNarrow &&
             !saves_input(last);
  if (remakes_) kept_elements_ += 2 * shape_.rows * std::max(widest_, last.out);
}

bool Chain::reads_y() const {
  const ChainLayer& last = shape_.layers.back();
  return !is_linear(last) && !saves_input(last);
}

const void* Chain::kept_at(const void* kept, Index place) const {
  return static_cast<const char*>(kept) + place * static_cast<Index>(size_of(shape_.dtype));
}

ConstMatrix Chain::input_of(const ChainBackward& memory, size_t layer) const {
  if (layer == 0) return {memory.x, shape_.x_stride};
  return {kept_at(memory.kept, places_[layer - 1].y), shape_.layers[layer].in};
}

// What the derivative of the layer's activation reads.
ConstMatrix Chain::saved_of(const ChainBackward& memory, size_t layer) const {
  const Places& places = places_[layer];
  const Index place = saves_input(shape_.layers[layer]) ? places.z : places.y;
  return {place < 0 ? memory.y : kept_at(memory.kept, place), shape_.layers[layer].out};
}

std::vector<Command> Chain::forward_commands(const ChainForward& memory, size_t layers) const {
  std::vector<Command> commands;
  commands.reserve(3 * places_.size());
  ConstMatrix x{memory.x, shape_.x_stride};
  for (size_t i = 0; i < layers; ++i) {
    const ChainLayer& layer = shape_.layers[i];
    const auto kept = [&](Index place) {
      return Matrix{const_cast<void*>(kept_at(memory.kept, place)), layer.out};
    };
    DenseForward op;
    op.x = x;
    op.w = {memory.parameters[i].weight, layer.weight_stride};
    op.bias = memory.parameters[i].bias;
    op.y = places_[i].y < 0 ? Matrix{memory.y, layer.out} : kept(places_[i].y);
    if (places_[i].z >= 0) op.z = kept(places_[i].z);
    op.rows = shape_.rows;
    op.in = layer.in;
    op.out = layer.out;
    op.activation = layer.activation;
    op.transposed = true;
    op.bfloat16 = shape_.bfloat16;
    commands.emplace_back(op, shape_.dtype);
    commands.back().inner = !memory.keeps && i + 1 < places_.size();
    x = op.y;
  }
  return commands;
}

void Chain::forward(const ChainForward& memory) const {
  if (shape_.rows == 0) return;
  ChainForward all = memory;
  all.keeps = memory.keeps && !remakes_;
  run(forward_commands(all, places_.size()), {});
}

void Chain::backward(const ChainBackward& memory) const {
  const size_t n = places_.size();
  Wanted wanted{memory.dx != nullptr};
  size_t lowest = memory.dx != nullptr ? 0 : n;  // the first layer that a gradient is wanted of
  for (size_t i = n; i-- > 0;) {
    const ChainGradients& gradients = memory.gradients[i];
    wanted.push_back(gradients.weight != nullptr);
    wanted.push_back(gradients.bias != nullptr);
    if (gradients.weight != nullptr || gradients.bias != nullptr) lowest = std::min(lowest, i);
  }
  if (lowest == n) return;

  // The gradients between the layers take turns in two blocks. That of the last product is not
  // written into dy, which belongs to the caller.
  const Index rows = shape_.rows;
  const ChainLayer& last = shape_.layers.back();
  const Index block = rows * std::max(widest_, last.out);
  const size_t block_bytes = remakes_ ? static_cast<size_t>(block) * size_of(shape_.dtype)
                                      : align(static_cast<size_t>(block) * size_of(shape_.dtype));
  const ScratchMemory values(backend_, Scratch::values, remakes_ ? 0 : 2 * block_bytes);
  char* blocks = values.data();
  std::vector<Command> commands;
  if (remakes_) {
    void* kept = const_cast<void*>(memory.kept);
    blocks = static_cast<char*>(kept) +
             static_cast<size_t>(kept_elements_ - 2 * block) * size_of(shape_.dtype);
    commands = forward_commands({memory.x, kept, true, nullptr, memory.parameters}, n - 1);
    for (Command& command : commands) command.inner = true;
  }
  ConstMatrix dz{memory.dy, last.out};
  if (!is_linear(last)) {
    char* to = blocks + (n % 2) * block_bytes;
    commands.emplace_back(ActivationBackward{memory.dy, saved_of(memory, n - 1).data, to,
                                             rows * last.out, last.activation, false},
                          shape_.dtype);
    dz.data = to;
  }
  for (size_t i = n; i-- > lowest;) {
    const ChainLayer& layer = shape_.layers[i];
    const ChainGradients& gradients = memory.gradients[i];
    const bool goes_on = i > lowest || (i == 0 && memory.dx != nullptr);
    if (gradients.weight != nullptr || gradients.bias != nullptr) {
      DenseBackwardWeights op;
      op.x = input_of(memory, i);
      op.dz = dz;
      op.dw = {gradients.weight, layer.in};
      op.dbias = gradients.bias;
      op.rows = rows;
      op.in = layer.in;
      op.out = layer.out;
      op.transposed = true;
      op.bfloat16 = shape_.bfloat16;
      commands.emplace_back(op, shape_.dtype);
      // Both products only read dz, and write memory of their own.
      commands.back().beside_next = goes_on;
    }
    if (goes_on) {
      DenseBackwardInput op;
      op.dz = dz;
      op.w = {memory.parameters[i].weight, layer.weight_stride};
      op.dx = {i == 0 ? memory.dx : blocks + (i % 2) * block_bytes, layer.in};
      if (i > 0) {
        op.saved = saved_of(memory, i - 1);
        op.activation = shape_.layers[i - 1].activation;
      }
      op.rows = rows;
      op.in = layer.in;
      op.out = layer.out;
      op.transposed = true;
      op.bfloat16 = shape_.bfloat16;
      commands.emplace_back(op, shape_.dtype);
      commands.back().inner = i > 0;
      dz = op.dx;
    }
  }
  run(commands, wanted);
}

void Chain::run(const std::vector<Command>& commands, const Wanted& wanted) const {
  const int n = static_cast<int>(commands.size());
  const Schedule plan = schedule(commands, wanted);
  const ScratchMemory workspace(backend_, Scratch::workspace, plan.workspace_bytes);
  backend_.execute(commands.data(), n, plan, workspace.data(), 1);
}

Schedule Chain::schedule(const std::vector<Command>& commands, const Wanted& wanted) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto known = schedules_.find(wanted);
  if (known != schedules_.end()) return known->second;
  const int n = static_cast<int>(commands.size());
  Schedule plan = backend_.prepare(commands.data(), n, 0);
  if (plan.nanoseconds < kWorthATeam) plan = backend_.prepare(commands.data(), n, 1);
  return schedules_[wanted] = plan;
}

}  // namespace fusednn::engine
