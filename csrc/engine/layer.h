// SPDX-License-Identifier: Apache-2.0
// What a kind of layer must say: its output shape, its parameters, and the commands of its forward
// and backward pass. A new layer is one file in layers/ and one line in layers/list.cpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/config.h"

namespace fusednn::engine {

struct ParameterSpec {
  std::string name;  // "kernel", "bias", "gamma", "moving_mean" ...
  Shape shape;
  bool trainable = true;  // false: statistics that the forward pass moves
};

// Where a layer sends the gradient of one of its inputs. `derivative` is the activation that made the
// input, when the plan wants it applied here; its place is 0 (linear) otherwise.
struct InputGradient {
  Matrix dx;
  bool accumulate = false;
  ActivationSpec derivative;
  ConstMatrix saved;
};

// A layer's window on the plan being compiled. Matrices are (rows of the batch, size of the shape).
class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual Index rows() const = 0;
  virtual bool training() const = 0;
  virtual bool frozen() const = 0;  // the layer does not learn
  virtual int n_inputs() const = 0;
  virtual Index input_size(int i) const = 0;  // columns of an input
  virtual Index output_size() const = 0;

  virtual ConstMatrix input(int i) = 0;
  virtual Matrix output() = 0;
  // The activation that the plan fused into this node (linear when none), and, while training a rule
  // that saves its input, the matrix that keeps the pre-activation (data null otherwise).
  virtual ActivationSpec activation() const = 0;
  virtual Matrix pre_activation() = 0;
  virtual void* parameter(int i) = 0;
  virtual void* gradient(int i) = 0;         // null when frozen
  virtual void* keep(int key, Index n) = 0;  // n elements that live from forward to backward

  // The gradient of the node's output before its fused activation (dz).
  virtual ConstMatrix output_gradient() = 0;
  // Empty when nothing upstream of input i learns. A layer that can multiply by a derivative as it
  // stores says so, and must then apply `derivative`.
  virtual std::optional<InputGradient> input_gradient(int i, bool applies_derivative) = 0;

  virtual uint64_t seed() const = 0;
  virtual uint32_t stream() const = 0;       // a number of this node's own, for random masks
  virtual const uint64_t* step() const = 0;  // counts training steps
  virtual void record_command(Command command) = 0;
  // For what no other command reads, such as the gradient of a parameter: it may run at any time from
  // here on, and `beside_next` holds if it runs at once.
  virtual void record_result(Command command) = 0;
  virtual Precision precision() const = 0;

  template <class Op>
  void record(const Op& op, bool beside_next = false) {
    Command command(op, precision().dtype);
    command.beside_next = beside_next;
    record_command(command);
  }
  template <class Op>
  void record_result(const Op& op, bool beside_next) {
    Command command(op, precision().dtype);
    command.beside_next = beside_next;
    record_result(command);
  }
};

class Layer {
 public:
  virtual ~Layer() = default;
  // Checks the shapes of the inputs and returns that of the output; std::invalid_argument otherwise.
  virtual Shape configure(const std::vector<Shape>& inputs) = 0;
  virtual std::vector<ParameterSpec> parameters() const { return {}; }
  virtual void forward(Recorder& recorder) const = 0;
  virtual void backward(Recorder& recorder) const = 0;
  // Output and input are the same memory under another shape (flatten, reshape).
  virtual bool is_view() const { return false; }
  // Does nothing at inference (dropout); the plan then leaves the node out.
  virtual bool only_in_training() const { return false; }
  // Can run an elementwise activation on its output as it stores it.
  virtual bool fuses_activation() const { return false; }
  // Set for a node that is nothing but an elementwise activation.
  virtual std::optional<ActivationSpec> as_activation() const { return std::nullopt; }
};

// std::invalid_argument names the known kinds when `type` is none of them.
std::unique_ptr<Layer> make_layer(const std::string& type, const Config& config);
std::vector<std::string> layer_types();

}  // namespace fusednn::engine
