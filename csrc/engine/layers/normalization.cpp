// SPDX-License-Identifier: Apache-2.0
// Batch normalisation (per feature over the batch) and layer normalisation (per sample over the last
// axis), both with an optional learnt scale (gamma) and shift (beta).
#include <stdexcept>

#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

// What both share: the last axis, and where gamma and beta sit among the parameters.
class Normalization : public Layer {
 public:
  explicit Normalization(const Config& config, double epsilon)
      : name_(config.owner()),
        epsilon_(config.number("epsilon", epsilon)),
        gamma_(config.flag("scale", true) ? 0 : -1),
        beta_(config.flag("center", true) ? gamma_ + 1 : -1) {
    if (!(epsilon_ > 0)) {
      throw std::invalid_argument(name_ + ": epsilon=" + std::to_string(epsilon_) +
                                  " must be positive");
    }
  }

  Shape configure(const std::vector<Shape>& inputs) override {
    if (inputs[0].empty() || inputs[0].back() < 1) {
      throw std::invalid_argument(name_ + ": needs an input with at least one feature, got shape " +
                                  to_string(inputs[0]));
    }
    cols_ = inputs[0].back();
    repeat_ = size_of(inputs[0]) / cols_;
    return inputs[0];
  }

  std::vector<ParameterSpec> parameters() const override {
    std::vector<ParameterSpec> list;
    if (gamma_ >= 0) list.push_back({"gamma", {cols_}});
    if (beta_ >= 0) list.push_back({"beta", {cols_}});
    return list;
  }

 protected:
  enum Kept { kMean, kInverseDeviation, kZeros, kScratch };

  template <class Op>
  void record_forward(Recorder& r, Op op, Index n_statistics) const {
    op.x = {r.input(0).data, cols_};
    op.y = {r.output().data, cols_};
    op.gamma = gamma_ >= 0 ? r.parameter(gamma_) : nullptr;
    op.beta = beta_ >= 0 ? r.parameter(beta_) : nullptr;
    op.mean = r.keep(kMean, n_statistics);
    op.inverse_deviation = r.keep(kInverseDeviation, n_statistics);
    op.rows = r.rows() * repeat_;
    op.cols = cols_;
    op.epsilon = epsilon_;
    r.record(op);
  }

  template <class Op>
  void record_backward(Recorder& r, Index n_statistics) const {
    const auto target = r.input_gradient(0, false);
    Op op;
    op.x = {r.input(0).data, cols_};
    op.dy = {r.output_gradient().data, cols_};
    op.gamma = gamma_ >= 0 ? r.parameter(gamma_) : nullptr;
    op.mean = r.keep(kMean, n_statistics);
    op.inverse_deviation = r.keep(kInverseDeviation, n_statistics);
    if (target) {
      op.dx = {target->dx.data, cols_};
      op.accumulate = target->accumulate;
    }
    op.dgamma = gamma_ >= 0 ? r.gradient(gamma_) : nullptr;
    op.dbeta = beta_ >= 0 ? r.gradient(beta_) : nullptr;
    op.rows = r.rows() * repeat_;
    op.cols = cols_;
    r.record(op);
  }

  std::string name_;
  double epsilon_;
  int gamma_, beta_;  // places among the parameters, or -1
  Index cols_ = 1;
  Index repeat_ = 1;
};

class BatchNormalization final : public Normalization {
 public:
  explicit BatchNormalization(const Config& config)
      : Normalization(config, 1e-5),
        momentum_(config.number("momentum", 0.1)),
        unbiased_(config.flag("unbiased", true)) {
    if (!(momentum_ >= 0 && momentum_ <= 1)) {
      throw std::invalid_argument(name_ + ": momentum=" + std::to_string(momentum_) +
                                  " must lie in [0, 1]");
    }
  }

  std::vector<ParameterSpec> parameters() const override {
    std::vector<ParameterSpec> list = Normalization::parameters();
    list.push_back({"moving_mean", {cols_}, false});
    list.push_back({"moving_variance", {cols_}, false});
    return list;
  }

  void forward(Recorder& r) const override {
    const int statistics = static_cast<int>(Normalization::parameters().size());
    BatchNormForward op;
    op.running_mean = r.parameter(statistics);
    op.running_variance = r.parameter(statistics + 1);
    op.momentum = momentum_;
    op.training = moves(r);
    op.unbiased = unbiased_;
    record_forward(r, op, cols_);
  }

  void backward(Recorder& r) const override {
    if (r.frozen()) return record_constant_backward(r);
    if (!r.training()) {
      throw std::invalid_argument(
          name_ + ": gradients go through batch normalisation in training mode only");
    }
    record_backward<BatchNormBackward>(r, cols_);
  }

 private:
  // A frozen layer is at inference while others learn.
  static bool moves(const Recorder& r) { return r.training() && !r.frozen(); }

  // dx = gamma dy / sqrt(variance + epsilon), which is the forward pass about zero.
  void record_constant_backward(Recorder& r) const {
    const auto target = r.input_gradient(0, false);
    if (!target) return;
    const int statistics = static_cast<int>(Normalization::parameters().size());
    const Index size = r.output_size();
    void* zeros = r.keep(kZeros, cols_);
    r.record(Fill{zeros, cols_, 0});
    BatchNormForward op;
    op.x = {r.output_gradient().data, cols_};
    op.y = {target->accumulate ? r.keep(kScratch, r.rows() * size) : target->dx.data, cols_};
    op.gamma = gamma_ >= 0 ? r.parameter(gamma_) : nullptr;
    op.running_mean = zeros;
    op.running_variance = r.parameter(statistics + 1);
    op.rows = r.rows() * repeat_;
    op.cols = cols_;
    op.epsilon = epsilon_;
    op.training = false;
    r.record(op);
    if (target->accumulate)
      r.record(CopyRows{
          {op.y.data, size},
          target->dx, r.rows(), size, true
      });
  }

  double momentum_;
  bool unbiased_;
};

class LayerNormalization final : public Normalization {
 public:
  explicit LayerNormalization(const Config& config) : Normalization(config, 1e-5) {}

  void forward(Recorder& r) const override {
    record_forward(r, LayerNormForward{}, r.rows() * repeat_);
  }
  void backward(Recorder& r) const override {
    record_backward<LayerNormBackward>(r, r.rows() * repeat_);
  }
};

}  // namespace

std::unique_ptr<Layer> make_batch_normalization(const Config& config) {
  return std::make_unique<BatchNormalization>(config);
}
std::unique_ptr<Layer> make_layer_normalization(const Config& config) {
  return std::make_unique<LayerNormalization>(config);
}

}  // namespace fusednn::engine
