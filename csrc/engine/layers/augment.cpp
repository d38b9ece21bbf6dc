// SPDX-License-Identifier: Apache-2.0
// Images on their way into a network: random transforms while training, and other units.
#include <stdexcept>

#include "engine/augment.h"
#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

class ResampleLayer final : public Layer {
 public:
  explicit ResampleLayer(const Config& config) : config_(config) {}

  Shape configure(const std::vector<Shape>& inputs) override {
    op_ = resample_of(config_, inputs[0]);
    return output_of(op_, inputs[0]);
  }

  // A window is the one in the middle at inference.
  bool only_in_training() const override { return !op_.random.window; }

  void forward(Recorder& r) const override {
    Resample op = op_;
    op.x = r.input(0).data;
    op.y = r.output().data;
    op.rows = r.rows();
    op.seed = r.seed();
    op.stream = r.stream();
    op.step = r.training() ? r.step() : nullptr;
    r.record(op);
  }

  void backward(Recorder&) const override {
    throw std::invalid_argument(config_.owner() +
                                ": images are transformed without a gradient, but a layer before "
                                "this one learns; put it behind the input");
  }

 private:
  Config config_;
  Resample op_;
};

class Rescaling final : public Layer {
 public:
  explicit Rescaling(const Config& config)
      : scale_(config.number("scale", 1)), offset_(config.number("offset", 0)) {}

  Shape configure(const std::vector<Shape>& inputs) override { return inputs[0]; }

  void forward(Recorder& r) const override {
    r.record(
        Rescale{r.input(0).data, r.output().data, r.rows() * r.output_size(), scale_, offset_});
  }

  void backward(Recorder& r) const override {
    if (const auto target = r.input_gradient(0, false)) {
      Rescale op{r.output_gradient().data, target->dx.data, r.rows() * r.output_size(), scale_};
      op.accumulate = target->accumulate;
      r.record(op);
    }
  }

 private:
  double scale_, offset_;
};

}  // namespace

std::unique_ptr<Layer> make_resample(const Config& config) {
  return std::make_unique<ResampleLayer>(config);
}
std::unique_ptr<Layer> make_rescaling(const Config& config) {
  return std::make_unique<Rescaling>(config);
}

}  // namespace fusednn::engine
