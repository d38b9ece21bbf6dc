// SPDX-License-Identifier: Apache-2.0
// engine::Chain and engine::evaluate() for fusednn.torch.nn: tensors by their addresses, whose shapes,
// strides and dtypes the Python side has read. Lists of addresses are flat, in the order that the
// docstrings give; 0 stands for what is not there.
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/specs.h"
#include "engine/catalog.h"
#include "engine/chain.h"
#include "engine/cross_entropy.h"
#include "engine/memory.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

// Takes addresses off a list from the front.
class Addresses {
 public:
  Addresses(const py::list& list, size_t expected) : list_(list) {
    if (list.size() != expected) {
      throw std::invalid_argument("addresses: got " + std::to_string(list.size()) + ", expected " +
                                  std::to_string(expected));
    }
  }
  void* next() {
    void* address = PyLong_AsVoidPtr(PyList_GET_ITEM(list_.ptr(), place_++));
    if (address == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return address;
  }
  void* existing(const char* what, bool needed = true) {
    void* address = next();
    if (address == nullptr && needed) throw std::invalid_argument(std::string(what) + ": is null");
    return address;
  }

 private:
  const py::list& list_;
  Py_ssize_t place_ = 0;
};

class Chain {
 public:
  // layers: (in, out, weight stride, activation, its parameters).
  using Layer = std::tuple<Index, Index, Index, std::string, py::dict>;

  Chain(const std::string& dtype, Index rows, Index x_stride, const std::vector<Layer>& layers,
        const std::string& device, const std::string& precision)
      : backend_(engine::find_backend(device)),
        chain_(backend_, shape_of(dtype, rows, x_stride, layers, precision)) {}

  Index kept() const { return chain_.kept(); }
  bool reads_y() const { return chain_.reads_y(); }
  bool remakes() const { return chain_.remakes(); }

  void forward(const py::list& addresses, uint64_t queue, bool keeps) const {
    const bool rows = chain_.shape().rows > 0;
    Addresses from(addresses, 3 + 2 * layers());
    engine::ChainForward memory;
    memory.x = from.existing("x", rows);
    memory.kept = from.existing("kept", chain_.kept() > 0);
    memory.y = from.existing("y", rows);
    memory.keeps = keeps;
    memory.parameters = parameters(from);
    const py::gil_scoped_release without_gil;
    const engine::OnQueue here(backend_, queue);
    chain_.forward(memory);
  }

  void backward(const py::list& addresses, const py::list& gradients, uint64_t queue) const {
    const bool rows = chain_.shape().rows > 0;
    Addresses from(addresses, 4 + 2 * layers());
    engine::ChainBackward memory;
    memory.x = from.existing("x", rows);
    memory.kept = from.existing("kept", chain_.kept() > 0);
    memory.y = from.existing("y", rows && chain_.reads_y());
    memory.dy = from.existing("dy", rows);
    memory.parameters = parameters(from);

    Addresses to(gradients, 1 + 2 * layers());
    memory.dx = to.next();
    for (size_t i = 0; i < layers(); ++i) {
      void* weight = to.next();
      memory.gradients.push_back({weight, to.next()});
    }
    const py::gil_scoped_release without_gil;
    const engine::OnQueue here(backend_, queue);
    chain_.backward(memory);
  }

 private:
  static engine::ChainShape shape_of(const std::string& dtype, Index rows, Index x_stride,
                                     const std::vector<Layer>& layers,
                                     const std::string& precision) {
    const DType type = dtype_named(dtype);
    const bool rounds = precision == "bfloat16" && type == DType::float32;
    if (!precision.empty() && !rounds) {
      throw std::invalid_argument("precision='" + precision +
                                  "': expected nothing or, of float32, 'bfloat16'");
    }
    engine::ChainShape shape{type, rounds, rows, x_stride, {}};
    for (const auto& [in, out, stride, activation, hyper] : layers) {
      shape.layers.push_back(
          {in, out, stride,
           engine::activation_spec(activation, numbers(hyper, "activation " + activation))});
    }
    return shape;
  }

  size_t layers() const { return chain_.shape().layers.size(); }

  std::vector<engine::ChainParameters> parameters(Addresses& from) const {
    std::vector<engine::ChainParameters> list;
    list.reserve(layers());
    for (size_t i = 0; i < layers(); ++i) {
      const void* weight = from.existing("weight");
      list.push_back({weight, from.next()});
    }
    return list;
  }

  const Backend& backend_;
  engine::Chain chain_;
};

engine::Reduction reduction_named(const std::string& name) {
  if (name == "none") return engine::Reduction::none;
  if (name == "mean") return engine::Reduction::mean;
  if (name == "sum") return engine::Reduction::sum;
  throw std::invalid_argument("reduction='" + name + "' is unknown; known: none, mean, sum");
}

// shape: (rows, classes, stride of the logits, stride of the probabilities).
void cross_entropy(const std::string& dtype, const std::array<Index, 4>& shape,
                   const py::list& addresses, const std::string& reduction, int64_t ignore_index,
                   double label_smoothing) {
  static const int rule = engine::find_loss("softmax_cross_entropy");
  engine::CrossEntropy what;
  what.rule = rule;
  what.dtype = dtype_named(dtype);
  what.rows = shape[0];
  what.classes = shape[1];
  if (what.rows < 0 || what.classes < 1) {
    throw std::invalid_argument("shape: expected rows >= 0 and classes >= 1");
  }
  const bool rows = what.rows > 0;
  Addresses from(addresses, 6);
  what.logits = {from.existing("logits", rows), shape[2]};
  what.labels = static_cast<const int64_t*>(from.next());
  what.probabilities = {from.next(), shape[3]};
  if (rows && (what.labels == nullptr) == (what.probabilities.data == nullptr)) {
    throw std::invalid_argument("target: labels or probabilities, exactly one of them");
  }
  what.class_weight = from.next();
  what.reduction = reduction_named(reduction);
  what.loss = from.existing("loss", rows || what.reduction != engine::Reduction::none);
  what.gradient = from.next();
  what.ignore_index = ignore_index;
  what.label_smoothing = label_smoothing;
  const py::gil_scoped_release without_gil;
  engine::evaluate(engine::find_backend("cpu"), what);
}

}  // namespace

void bind_chain(py::module_& m) {
  using namespace py::literals;
  py::class_<Chain>(m, "Chain",
                    "Dense layers over tensors known by their addresses, weights as (out, in).")
      .def(py::init<const std::string&, Index, Index, const std::vector<Chain::Layer>&,
                    const std::string&, const std::string&>(),
           "dtype"_a, "rows"_a, "x_stride"_a, "layers"_a, "device"_a = "cpu", "precision"_a = "",
           "layers: (in, out, stride of the weight's rows, activation, its parameters). precision: "
           "'bfloat16', or empty for that of the dtype.")
      .def_property_readonly("kept", &Chain::kept,
                             "How many elements forward keeps for backward, beside y.")
      .def_property_readonly("reads_y", &Chain::reads_y, "Whether backward reads y.")
      .def_property_readonly("remakes", &Chain::remakes,
                             "Whether kept is only room for a call, forward and backward.")
      .def("forward", &Chain::forward, "addresses"_a, "queue"_a = 0, "keeps"_a = true,
           "addresses: x, kept, y, then weight and bias of each layer. Without `keeps`, kept is "
           "only "
           "room.")
      .def(
          "backward", &Chain::backward, "addresses"_a, "gradients"_a, "queue"_a = 0,
          "addresses: x, kept, y, dy, then weight and bias of each layer. gradients: of x, then of "
          "weight and bias of each layer; 0: not wanted.");
  m.def(
      "cross_entropy", &cross_entropy, "dtype"_a, "shape"_a, "addresses"_a, "reduction"_a,
      "ignore_index"_a, "label_smoothing"_a,
      "shape: rows, classes, stride of the logits, stride of the probabilities. addresses: logits, "
      "int64 labels or else probabilities, weights of the classes, loss, gradient.");
}

}  // namespace fusednn::bindings
