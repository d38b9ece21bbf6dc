// SPDX-License-Identifier: Apache-2.0
#include "cuda/fusion.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <utility>

#include "cuda/fusion_cost.h"

namespace fusednn::cuda {
namespace {

std::atomic<Fusing> fusing_now{Fusing::where_faster};
std::atomic<uint64_t> launches{0};

// ---- commands ----------------------------------------------------------------------------------------

template <class Op>
const Op* as(const Command& command) {
  if (command.operation != PlaceIn<Op, Operations>::value) return nullptr;
  return reinterpret_cast<const Op*>(command.arguments);
}

bool in_halves(const DenseForward& op) { return op.bfloat16 || op.float16; }
template <class Op>
bool in_halves(const Op& op) {
  return op.bfloat16;
}

// A dense command that a launch can be part of.
template <class Op>
const Op* dense(const Command& command) {
  const Op* op = as<Op>(command);
  const bool fits = op != nullptr && command.dtype == DType::float32 && in_halves(*op) &&
                    op->rows > 0 && op->in > 0 && op->in <= kWidest && op->out > 0 &&
                    op->out <= kWidest;
  return fits ? op : nullptr;
}

bool same(const ConstMatrix& a, const ConstMatrix& b) {
  return a.data == b.data && a.stride == b.stride;
}
bool same(const ActivationSpec& a, const ActivationSpec& b) {
  return a.rule == b.rule && std::equal(a.parameters, a.parameters + kMaxParameters, b.parameters);
}

struct Range {
  const char* begin = nullptr;
  const char* end = nullptr;

  Range() = default;
  Range(const ConstMatrix& m, Index rows, Index cols)
      : begin(static_cast<const char*>(m.data)),
        end(begin == nullptr ? nullptr
                             : begin + ((rows - 1) * m.stride + cols) * Index(sizeof(float))) {}
  bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
  bool holds(const void* memory) const {
    return std::less_equal<const void*>()(begin, memory) && std::less<const void*>()(memory, end);
  }
};

// An operation names memory by addresses among its arguments, so whoever reads a matrix has one of it.
bool names(const Command& command, const Range& range) {
  for (size_t at = 0; at < Command::kCapacity; at += sizeof(void*)) {
    const void* word;
    std::memcpy(&word, command.arguments + at, sizeof(word));
    if (range.holds(word)) return true;
  }
  return false;
}

template <class Chain>
bool is_worth_it(const Chain& chain) {
  return fusing_now == Fusing::always || cost(chain) < cost_apart(chain);
}

// ---- matching ----------------------------------------------------------------------------------------

// A layer of a row of backward commands, by their places in the list.
struct BackwardLayer {
  int weights = -1, input = -1;
};

class Matcher {
 public:
  Matcher(const Command* commands, int n, int shared_bytes, size_t workspace)
      : commands_(commands),
        n_(n),
        shared_bytes_(shared_bytes),
        workspace_(workspace),
        replaced_(size_t(n)) {}

  std::vector<FusedForward> forwards;
  std::vector<FusedBackward> backwards;

  void match() {
    for (int i = 0; i < n_; ++i) {
      if (!replaced_[i]) match_backward(i);
    }
    for (int i = 0; i < n_;) i = match_forward(i);
    leave_out_what_nobody_reads();
  }

  std::vector<Fusion::Step> steps() const {
    std::vector<Fusion::Step> steps;
    steps.reserve(size_t(n_));
    for (int i = 0; i < n_; ++i) {
      if (!replaced_[i]) steps.push_back({i, -1, -1});
      for (size_t k = 0; k < forwards.size(); ++k) {
        if (forward_at_[k] == i && forwards[k].layers > 0) steps.push_back({-1, int(k), -1});
      }
      for (size_t k = 0; k < backwards.size(); ++k) {
        if (backward_at_[k] == i) steps.push_back({-1, -1, int(k)});
      }
    }
    return steps;
  }

 private:
  // ---- backward ----

  const DenseBackwardWeights& weights(const BackwardLayer& layer) const {
    return *as<DenseBackwardWeights>(commands_[layer.weights]);
  }
  const DenseBackwardInput* input(const BackwardLayer& layer) const {
    return layer.input < 0 ? nullptr : as<DenseBackwardInput>(commands_[layer.input]);
  }

  // Results that wait for the end of a list stand between commands of the layers, and so do layers that
  // do not belong to the row. The launch may run ahead of them, for in such lists no memory is used twice.
  static bool may_stand_between(const Command& command) {
    return command.apart && (as<Sum>(command) != nullptr || as<Tally>(command) != nullptr ||
                             as<DenseBackwardInput>(command) != nullptr ||
                             as<DenseBackwardWeights>(command) != nullptr);
  }

  void match_backward(int first) {
    const auto* weights_first = dense<DenseBackwardWeights>(commands_[first]);
    const auto* input_first = dense<DenseBackwardInput>(commands_[first]);
    if (weights_first == nullptr && input_first == nullptr) return;
    // From the top down. The gradient that goes into each, and its rows and columns.
    struct Gradient {
      ConstMatrix dz;
      Index rows, out;
    };
    std::vector<BackwardLayer> layers(1);
    std::vector<Gradient> gradients;
    if (weights_first != nullptr) {
      gradients.push_back({weights_first->dz, weights_first->rows, weights_first->out});
    } else {
      gradients.push_back({input_first->dz, input_first->rows, input_first->out});
    }
    const auto fits = [&](const auto& op, size_t l) {
      return same(op.dz, gradients[l].dz) && op.rows == gradients[l].rows &&
             op.out == gradients[l].out;
    };
    for (int i = first; i < n_ && !replaced_[i]; ++i) {
      const Command& command = commands_[i];
      if (const auto* op = dense<DenseBackwardWeights>(command)) {
        // The gradient of the lowest layer so far, or of one whose weights have waited.
        int found = -1, count = 0;
        for (size_t l = 0; l < layers.size(); ++l) {
          if (layers[l].weights >= 0 || !fits(*op, l)) continue;
          found = int(l);
          ++count;
        }
        if (fits(*op, layers.size() - 1) && layers.back().weights < 0) {
          found = int(layers.size()) - 1;
        } else if (count != 1) {
          if (may_stand_between(command)) continue;
          break;
        }
        layers[size_t(found)].weights = i;
      } else if (const auto* back = dense<DenseBackwardInput>(command)) {
        if (layers.back().input >= 0 || !fits(*back, layers.size() - 1)) {
          if (may_stand_between(command)) continue;
          break;
        }
        layers.back().input = i;
        layers.emplace_back();
        gradients.push_back({back->dx, back->rows, back->in});
      } else if (!may_stand_between(command)) {
        break;
      }
    }
    size_t whole = 0;
    while (whole < layers.size() && belongs_together(layers[whole])) ++whole;
    layers.resize(whole);
    std::reverse(layers.begin(), layers.end());
    cut_backward(layers);
  }

  bool belongs_together(const BackwardLayer& layer) const {
    if (layer.weights < 0) return false;
    const DenseBackwardWeights& w = weights(layer);
    const DenseBackwardInput* back = input(layer);
    return w.dw.data != nullptr && w.in <= kWidest / 2 && w.out <= kWidest / 2 &&
           (back == nullptr || (back->in == w.in && back->transposed == w.transposed));
  }

  // Pieces of as many layers as a launch can have, the highest ones first.
  void cut_backward(const std::vector<BackwardLayer>& layers) {
    size_t top = layers.size();
    while (top >= 2) {
      size_t bottom = top > size_t(kFusedLayers) ? top - kFusedLayers : 0;
      FusedBackward chain;
      while (top - bottom >= 2 && !make(chain, layers, bottom, top)) ++bottom;
      if (top - bottom < 2) {
        --top;  // this layer stays by itself
        continue;
      }
      int first = n_;  // the launch stands where the first of its commands stood
      for (size_t l = bottom; l < top; ++l) {
        for (const int place : {layers[l].weights, layers[l].input}) {
          if (place < 0) continue;
          replaced_[place] = true;
          first = std::min(first, place);
        }
      }
      backwards.push_back(chain);
      backward_at_.push_back(first);
      top = bottom;
    }
  }

  bool make(FusedBackward& chain, const std::vector<BackwardLayer>& layers, size_t bottom,
            size_t top) const {
    chain = FusedBackward{};
    chain.layers = int(top - bottom);
    chain.rows = weights(layers[bottom]).rows;
    chain.dz = FusedMatrix(weights(layers[top - 1]).dz);
    for (size_t l = bottom; l < top; ++l) {
      FusedBackwardLayer& to = chain.layer[l - bottom];
      const DenseBackwardWeights& op = weights(layers[l]);
      const DenseBackwardInput* back = input(layers[l]);
      to.in = int(op.in);
      to.out = int(op.out);
      to.transposed = op.transposed;
      to.dw = static_cast<float*>(op.dw.data);
      to.dw_stride = op.dw.stride;
      to.dbias = static_cast<float*>(op.dbias);
      to.accumulate = op.accumulate;
      to.x = FusedMatrix(op.x);
      if (back != nullptr) {
        to.w = static_cast<const float*>(back->w.data);
        to.stride = back->w.stride;
        to.saved = FusedMatrix(back->saved);
        to.rule = FusedRule(back->activation);
        if (l > bottom && (back->accumulate || !commands_[layers[l].input].inner)) return false;
      }
      if (l == bottom) continue;
      const DenseForward* maker = maker_of(op, layers[l], layers[l - 1]);
      FusedBackwardLayer& below = chain.layer[l - bottom - 1];
      if (maker == nullptr) continue;
      to.x = to.saved = FusedMatrix();
      below.w = static_cast<const float*>(maker->w.data);
      below.stride = maker->w.stride;
      below.bias = static_cast<const float*>(maker->bias);
    }
    if (const DenseBackwardInput* back = input(layers[bottom])) {
      chain.dx = FusedMatrix(back->dx);
      chain.accumulate = back->accumulate;
      if (overwrites(*back, chain)) return false;
    }
    return lay_out(chain, shared_bytes_) && chain.workspace() <= workspace_ && is_worth_it(chain);
  }

  // Whether dx lies where the launch reads; other blocks may not have read it by then.
  bool overwrites(const DenseBackwardInput& back, const FusedBackward& chain) const {
    const Range dx(back.dx, back.rows, back.in);
    const auto meets = [&](const FusedMatrix& m, int cols) {
      return dx.meets(Range({m.data, m.stride}, chain.rows, cols));
    };
    if (meets(chain.dz, chain.layer[chain.layers - 1].out)) return true;
    for (int l = 0; l < chain.layers; ++l) {
      const FusedBackwardLayer& layer = chain.layer[l];
      if (meets(layer.x, layer.in) || meets(layer.saved, layer.in)) return true;
    }
    return false;
  }

  // The command that made the input of `layer` out of that of `below`, if it can be done again.
  const DenseForward* maker_of(const DenseBackwardWeights& op, const BackwardLayer& layer,
                               const BackwardLayer& below) const {
    for (int i = std::min(layer.weights, layer.input) - 1; i >= 0; --i) {
      const Command& command = commands_[i];
      if (as<OptimizerStep>(command) != nullptr || as<Constrain>(command) != nullptr)
        return nullptr;
      const auto* made = dense<DenseForward>(command);
      if (made == nullptr || made->y.data != op.x.data) continue;
      const DenseBackwardInput* back = input(below);
      const bool the_same = !made->float16 && made->y.stride == op.x.stride && made->out == op.in &&
                            made->rows == op.rows && same(made->x, weights(below).x) &&
                            made->in == weights(below).in &&
                            made->transposed == weights(below).transposed &&
                            (back == nullptr || same(made->w, back->w)) &&
                            same(made->activation, input(layer)->activation);
      return the_same ? made : nullptr;
    }
    return nullptr;
  }

  // ---- forward ----

  int match_forward(int first) {
    const DenseForward* before = dense<DenseForward>(commands_[first]);
    if (before == nullptr) return first + 1;
    FusedForward chain;
    chain.rows = before->rows;
    chain.float16 = before->float16;
    chain.x = FusedMatrix(before->x);
    int end = first;
    for (int i = first; i < n_ && chain.layers < kFusedLayers; ++i) {
      const DenseForward* op = dense<DenseForward>(commands_[i]);
      if (op == nullptr || op->float16 != chain.float16 || op->rows != chain.rows) break;
      if (i > first && !(same(op->x, before->y) && op->in == before->out)) break;
      FusedForward longer = chain;
      add(longer, *op);
      // What is inner will hardly be written.
      if (!commands_[i].inner && overwrites_x(longer, longer.layers - 1)) break;
      if (!lay_out(longer, shared_bytes_)) break;
      chain = longer;
      before = op;
      end = i + 1;
    }
    if (chain.layers < 2 || !is_worth_it(chain)) return std::max(end, first + 1);
    for (int i = first; i < end; ++i) replaced_[i] = true;
    forward_at_.push_back(first);
    forwards.push_back(chain);
    return end;
  }

  static void add(FusedForward& chain, const DenseForward& op) {
    FusedForwardLayer& layer = chain.layer[chain.layers++];
    layer.w = static_cast<const float*>(op.w.data);
    layer.stride = op.w.stride;
    layer.bias = static_cast<const float*>(op.bias);
    layer.transposed = op.transposed;
    layer.in = int(op.in);
    layer.out = int(op.out);
    layer.rule = FusedRule(op.activation);
    layer.y = FusedMatrix(op.y);
    layer.z = FusedMatrix(op.z);
  }

  static Range range_of(const FusedMatrix& m, const FusedForward& chain, int cols) {
    return Range({m.data, m.stride}, chain.rows, cols);
  }
  static bool meets_results(const Range& range, const FusedForward& chain, int l) {
    const FusedForwardLayer& layer = chain.layer[l];
    return range.meets(range_of(layer.y, chain, layer.out)) ||
           range.meets(range_of(layer.z, chain, layer.out));
  }
  // Whether a layer's results lie in x, rows of which other warps may not have read by then.
  static bool overwrites_x(const FusedForward& chain, int l) {
    return meets_results(range_of(chain.x, chain, chain.layer[0].in), chain, l);
  }

  void leave_out_what_nobody_reads() {
    for (size_t k = 0; k < forwards.size(); ++k) {
      FusedForward& chain = forwards[k];
      const int layers = chain.layers;
      bool in_x = false;
      for (int l = 0; l < layers; ++l) {
        FusedForwardLayer& layer = chain.layer[l];
        const bool inner = commands_[forward_at_[k] + l].inner;
        for (FusedMatrix* result : {&layer.y, &layer.z}) {
          const Range range = range_of(*result, chain, layer.out);
          // Where a later layer writes, nobody finds what an earlier one has left.
          bool gone = false;
          for (int above = l + 1; above < layers; ++above) {
            gone = gone || meets_results(range, chain, above);
          }
          if (gone || (inner && !is_read(range))) *result = FusedMatrix();
        }
        in_x = in_x || overwrites_x(chain, l);
      }
      while (chain.layers > 0 && !writes(chain.layer[chain.layers - 1])) --chain.layers;
      if (in_x) {
        chain.layers = 0;
        for (int l = 0; l < layers; ++l) replaced_[forward_at_[k] + l] = false;
      }
      (void)lay_out(chain, shared_bytes_);
    }
  }

  bool is_read(const Range& range) const {
    for (int i = 0; i < n_; ++i) {
      if (!replaced_[i] && names(commands_[i], range)) return true;
    }
    for (const FusedForward& chain : forwards) {
      if (range.holds(chain.x.data)) return true;
    }
    for (const FusedBackward& chain : backwards) {
      if (range.holds(chain.dz.data)) return true;
      for (int l = 0; l < chain.layers; ++l) {
        const FusedBackwardLayer& layer = chain.layer[l];
        if (range.holds(layer.x.data) || range.holds(layer.saved.data)) return true;
      }
    }
    return false;
  }

  static bool writes(const FusedForwardLayer& layer) {
    return layer.y.data != nullptr || layer.z.data != nullptr;
  }

  const Command* commands_;
  int n_, shared_bytes_;
  size_t workspace_;
  std::vector<bool> replaced_;                 // by a launch
  std::vector<int> forward_at_, backward_at_;  // where each launch stands
};

}  // namespace

void set_fusing(Fusing fusing) { fusing_now = fusing; }

uint64_t fused_launches() { return launches; }

Fusion::Fusion(const Command* commands, int n, int shared_bytes, size_t workspace) {
  Matcher matcher(commands, n, shared_bytes, workspace);
  if (fusing_now != Fusing::never) matcher.match();
  steps_ = matcher.steps();
  forwards_ = std::move(matcher.forwards);
  backwards_ = std::move(matcher.backwards);
}

size_t Fusion::workspace() const {
  size_t bytes = 0;
  for (const FusedBackward& chain : backwards_) bytes = std::max(bytes, chain.workspace());
  return bytes;
}

double Fusion::nanoseconds(const Step& launch) const {
  if (launch.forward >= 0) return cost(forwards_[size_t(launch.forward)]);
  return cost(backwards_[size_t(launch.backward)]);
}

void Fusion::run(const Step& launch, const Context& context) const {
  launches.fetch_add(1, std::memory_order_relaxed);
  if (launch.forward >= 0) return cuda::run(forwards_[size_t(launch.forward)], context);
  cuda::run(backwards_[size_t(launch.backward)], context);
}

}  // namespace fusednn::cuda
