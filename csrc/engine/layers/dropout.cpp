// SPDX-License-Identifier: Apache-2.0
// Inverted dropout: training scales what it keeps by 1 / (1 - rate), inference does nothing. The mask
// is a function of seed, step, layer and element, so the backward pass makes it again.
#include <stdexcept>

#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

class DropoutLayer final : public Layer {
 public:
  explicit DropoutLayer(const Config& config) : rate_(config.number("rate", 0.5)) {
    if (!(rate_ >= 0 && rate_ < 1)) {
      throw std::invalid_argument(config.owner() + ": rate=" + std::to_string(rate_) +
                                  " must lie in [0, 1)");
    }
  }

  Shape configure(const std::vector<Shape>& inputs) override { return inputs[0]; }
  bool only_in_training() const override { return true; }

  void forward(Recorder& r) const override { mask(r, r.input(0).data, r.output().data, false); }

  void backward(Recorder& r) const override {
    if (const auto target = r.input_gradient(0, false)) {
      mask(r, r.output_gradient().data, target->dx.data, target->accumulate);
    }
  }

 private:
  void mask(Recorder& r, const void* from, void* to, bool accumulate) const {
    Dropout op;
    op.x = from;
    op.y = to;
    op.n = r.rows() * r.output_size();
    op.rate = rate_;
    op.seed = r.seed();
    op.stream = r.stream();
    op.step = r.step();
    op.accumulate = accumulate;
    r.record(op);
  }

  double rate_;
};

}  // namespace

std::unique_ptr<Layer> make_dropout(const Config& config) {
  return std::make_unique<DropoutLayer>(config);
}

}  // namespace fusednn::engine
