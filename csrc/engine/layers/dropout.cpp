// SPDX-License-Identifier: Apache-2.0
// Dropout and its relatives: noise while training, nothing at inference. What is drawn is a function of
// seed, step, layer and element, so the backward pass draws it again.
#include <cmath>
#include <stdexcept>

#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

double rate_of(const Config& config) {
  const double rate = config.number("rate", 0.5);
  if (rate >= 0 && rate < 1) return rate;
  throw std::invalid_argument(config.owner() + ": rate=" + std::to_string(rate) +
                              " must lie in [0, 1)");
}

// What the layer does forward and backward.
struct Pair {
  Dropout forward, backward;
};

class DropoutLayer final : public Layer {
 public:
  explicit DropoutLayer(const Pair& pair) : pair_(pair) {}

  Shape configure(const std::vector<Shape>& inputs) override { return inputs[0]; }
  bool only_in_training() const override { return true; }

  void forward(Recorder& r) const override {
    change(r, pair_.forward, r.input(0).data, r.output().data, false);
  }

  void backward(Recorder& r) const override {
    if (const auto target = r.input_gradient(0, false)) {
      change(r, pair_.backward, r.output_gradient().data, target->dx.data, target->accumulate);
    }
  }

 private:
  static void change(Recorder& r, Dropout op, const void* from, void* to, bool accumulate) {
    op.x = from;
    op.y = to;
    op.n = r.rows() * r.output_size();
    op.seed = r.seed();
    op.stream = r.stream();
    op.step = r.step();
    op.accumulate = accumulate;
    r.record(op);
  }

  Pair pair_;
};

}  // namespace

std::unique_ptr<Layer> make_dropout(const Config& config) {
  Dropout op;
  op.rate = rate_of(config);
  return std::make_unique<DropoutLayer>(Pair{op, op});
}

std::unique_ptr<Layer> make_alpha_dropout(const Config& config) {
  Pair pair;
  pair.forward.noise = Noise::alpha;
  pair.forward.rate = rate_of(config);
  pair.backward = pair.forward;
  pair.backward.noise = Noise::alpha_gradient;
  return std::make_unique<DropoutLayer>(pair);
}

// The deviation is that of dropout with the same rate.
std::unique_ptr<Layer> make_gaussian_dropout(const Config& config) {
  const double rate = rate_of(config);
  Dropout op;
  op.noise = Noise::factor;
  op.deviation = std::sqrt(rate / (1 - rate));
  return std::make_unique<DropoutLayer>(Pair{op, op});
}

std::unique_ptr<Layer> make_gaussian_noise(const Config& config) {
  Pair pair;
  pair.forward.noise = Noise::term;
  pair.forward.deviation = config.number("stddev", 1);
  if (!(pair.forward.deviation >= 0)) {
    throw std::invalid_argument(config.owner() + ": stddev=" +
                                std::to_string(pair.forward.deviation) + " must not be negative");
  }
  return std::make_unique<DropoutLayer>(pair);  // a gradient passes as it is: a mask that keeps all
}

}  // namespace fusednn::engine
