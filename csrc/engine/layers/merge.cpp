// SPDX-License-Identifier: Apache-2.0
// Layers that join several inputs into one output: elementwise sum, and concatenation along the last
// axis.
#include <stdexcept>

#include "engine/layers/list.h"

namespace fusednn::engine {
namespace {

void need_two_inputs(const Config& config, const std::vector<Shape>& inputs) {
  if (inputs.size() < 2) {
    throw std::invalid_argument(config.owner() + ": needs at least two inputs, got " +
                                std::to_string(inputs.size()));
  }
}

class Add final : public Layer {
 public:
  explicit Add(const Config& config) : config_(config) {}

  Shape configure(const std::vector<Shape>& inputs) override {
    need_two_inputs(config_, inputs);
    for (const Shape& shape : inputs) {
      if (shape != inputs[0]) {
        throw std::invalid_argument(config_.owner() + ": inputs must have one shape, got " +
                                    to_string(inputs[0]) + " and " + to_string(shape));
      }
    }
    return inputs[0];
  }

  void forward(Recorder& r) const override {
    for (int i = 0; i < r.n_inputs(); ++i) {
      r.record(CopyRows{r.input(i), r.output(), r.rows(), r.output_size(), i > 0});
    }
  }

  void backward(Recorder& r) const override {
    for (int i = 0; i < r.n_inputs(); ++i) {
      if (const auto target = r.input_gradient(i, false)) {
        r.record(CopyRows{r.output_gradient(), target->dx, r.rows(), r.output_size(),
                          target->accumulate});
      }
    }
  }

 private:
  Config config_;
};

class Concatenate final : public Layer {
 public:
  explicit Concatenate(const Config& config) : config_(config) {}

  Shape configure(const std::vector<Shape>& inputs) override {
    need_two_inputs(config_, inputs);
    Shape joined = inputs[0];
    if (joined.empty()) {
      throw std::invalid_argument(config_.owner() + ": inputs need at least one axis");
    }
    widths_.clear();
    joined.back() = 0;
    for (Shape shape : inputs) {
      if (shape.empty()) shape = {0};
      widths_.push_back(shape.back());
      joined.back() += shape.back();
      shape.back() = inputs[0].back();
      if (shape != inputs[0]) {
        throw std::invalid_argument(config_.owner() +
                                    ": inputs must agree in all axes but the last, got " +
                                    to_string(inputs[0]) + " and another of different shape");
      }
    }
    width_ = joined.back();
    repeat_ = size_of(joined) / width_;
    return joined;
  }

  void forward(Recorder& r) const override {
    Index column = 0;
    for (int i = 0; i < r.n_inputs(); ++i) {
      r.record(CopyRows{
          {r.input(i).data, widths_[i]},
          {at(r, r.output().data, column), width_},
          r.rows() * repeat_,
          widths_[i],
          false
      });
      column += widths_[i];
    }
  }

  void backward(Recorder& r) const override {
    Index column = 0;
    for (int i = 0; i < r.n_inputs(); ++i) {
      if (const auto target = r.input_gradient(i, false)) {
        r.record(CopyRows{
            {at(r, const_cast<void*>(r.output_gradient().data), column), width_},
            {target->dx.data, widths_[i]},
            r.rows() * repeat_,
            widths_[i],
            target->accumulate
        });
      }
      column += widths_[i];
    }
  }

 private:
  static void* at(const Recorder& r, void* data, Index column) {
    return static_cast<char*>(data) + column * static_cast<Index>(size_of(r.precision().dtype));
  }
  static size_t size_of(DType dtype) { return fusednn::size_of(dtype); }
  static Index size_of(const Shape& shape) { return engine::size_of(shape); }

  Config config_;
  std::vector<Index> widths_;
  Index width_ = 1;
  Index repeat_ = 1;
};

}  // namespace

std::unique_ptr<Layer> make_add(const Config& config) { return std::make_unique<Add>(config); }
std::unique_ptr<Layer> make_concatenate(const Config& config) {
  return std::make_unique<Concatenate>(config);
}

}  // namespace fusednn::engine
