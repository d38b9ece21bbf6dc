// SPDX-License-Identifier: Apache-2.0
#include "engine/catalog.h"
#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

// An elementwise rule as a node of its own. The plan fuses it into the layer below where it can; then
// this node records nothing.
class Activation final : public Layer {
 public:
  explicit Activation(const Config& config)
      : spec_(activation_spec(config.text("activation", "linear"), config.numbers("parameters"))) {}

  Shape configure(const std::vector<Shape>& inputs) override { return inputs[0]; }
  std::optional<ActivationSpec> as_activation() const override { return spec_; }

  void forward(Recorder& r) const override {
    const Index n = r.rows() * r.output_size();
    r.record(ActivationForward{r.input(0).data, r.output().data, n, spec_});
  }

  void backward(Recorder& r) const override {
    const auto target = r.input_gradient(0, false);
    if (!target) return;
    const void* saved = activations()[spec_.rule].saves_input ? r.input(0).data : r.output().data;
    ActivationBackward op;
    op.dy = r.output_gradient().data;
    op.saved = saved;
    op.dx = target->dx.data;
    op.n = r.rows() * r.output_size();
    op.activation = spec_;
    op.accumulate = target->accumulate;
    r.record(op);
  }

 private:
  ActivationSpec spec_;
};

class Softmax final : public Layer {
 public:
  explicit Softmax(const Config& config) : log_(config.flag("log", false)) {}

  Shape configure(const std::vector<Shape>& inputs) override {
    cols_ = inputs[0].empty() ? 1 : inputs[0].back();
    return inputs[0];
  }

  void forward(Recorder& r) const override {
    const Index rows = r.rows() * r.output_size() / cols_;
    r.record(SoftmaxForward{
        {r.input(0).data, cols_},
        {r.output().data, cols_},
        rows, cols_, log_
    });
  }

  void backward(Recorder& r) const override {
    const auto target = r.input_gradient(0, false);
    if (!target) return;
    SoftmaxBackward op;
    op.y = {r.output().data, cols_};
    op.dy = {r.output_gradient().data, cols_};
    op.dx = {target->dx.data, cols_};
    op.rows = r.rows() * r.output_size() / cols_;
    op.cols = cols_;
    op.log = log_;
    op.accumulate = target->accumulate;
    r.record(op);
  }

 private:
  bool log_;
  Index cols_ = 1;
};

}  // namespace

std::unique_ptr<Layer> make_activation(const Config& config) {
  return std::make_unique<Activation>(config);
}
std::unique_ptr<Layer> make_softmax(const Config& config) {
  return std::make_unique<Softmax>(config);
}

}  // namespace fusednn::engine
