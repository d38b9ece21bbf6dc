// SPDX-License-Identifier: Apache-2.0
// y = activation(x w + b) over the last axis. Activation and bias run in the product's epilogue; the
// derivative of the layer below runs in the epilogue of dx; the bias gradient in the pass of dw.
#include <stdexcept>

#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

class Dense final : public Layer {
 public:
  explicit Dense(const Config& config)
      : name_(config.owner()),
        units_(config.integer("units")),
        use_bias_(config.flag("use_bias", true)) {
    if (units_ < 1) {
      throw std::invalid_argument(name_ + ": units=" + std::to_string(units_) +
                                  " must be at least 1");
    }
  }

  Shape configure(const std::vector<Shape>& inputs) override {
    if (inputs[0].empty() || inputs[0].back() < 1) {
      throw std::invalid_argument(name_ + ": needs an input with at least one feature, got shape " +
                                  to_string(inputs[0]));
    }
    Shape shape = inputs[0];
    in_ = shape.back();
    repeat_ = size_of(shape) / in_;
    shape.back() = units_;
    return shape;
  }

  std::vector<ParameterSpec> parameters() const override {
    std::vector<ParameterSpec> list{
        {"kernel", {in_, units_}}
    };
    if (use_bias_) list.push_back({"bias", {units_}});
    return list;
  }

  bool fuses_activation() const override { return true; }

  void forward(Recorder& r) const override {
    DenseForward op;
    op.x = {r.input(0).data, in_};
    op.w = {r.parameter(0), units_};
    op.bias = use_bias_ ? r.parameter(1) : nullptr;
    op.y = {r.output().data, units_};
    op.z = {r.pre_activation().data, units_};
    op.activation = r.activation();
    op.bfloat16 = r.precision().bfloat16;
    op.float16 = r.precision().float16;
    op.rows = r.rows() * repeat_;
    op.in = in_;
    op.out = units_;
    r.record(op);
  }

  void backward(Recorder& r) const override {
    const ConstMatrix dz{r.output_gradient().data, units_};
    const Index rows = r.rows() * repeat_;
    const auto target = r.input_gradient(0, true);
    if (void* dw = r.gradient(0)) {
      DenseBackwardWeights op;
      op.x = {r.input(0).data, in_};
      op.dz = dz;
      op.dw = {dw, units_};
      op.dbias = use_bias_ ? r.gradient(1) : nullptr;
      op.bfloat16 = r.precision().bfloat16;
      op.rows = rows;
      op.in = in_;
      op.out = units_;
      // Both products only read dz, and all that a layer touches is alive at the same time, apart.
      r.record_result(op, target.has_value());
    }
    if (target) {
      DenseBackwardInput op;
      op.dz = dz;
      op.w = {r.parameter(0), units_};
      op.dx = {target->dx.data, in_};
      op.saved = {target->saved.data, in_};
      op.activation = target->derivative;
      op.accumulate = target->accumulate;
      op.bfloat16 = r.precision().bfloat16;
      op.rows = rows;
      op.in = in_;
      op.out = units_;
      r.record(op);
    }
  }

 private:
  std::string name_;
  Index units_, in_ = 0;
  Index repeat_ = 1;  // rows of the product per sample, for inputs of rank > 1
  bool use_bias_;
};

}  // namespace

std::unique_ptr<Layer> make_dense(const Config& config) { return std::make_unique<Dense>(config); }

}  // namespace fusednn::engine
