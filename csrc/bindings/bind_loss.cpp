// SPDX-License-Identifier: Apache-2.0
// Value and gradient of a loss on arrays, in one pass.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/run.h"
#include "bindings/specs.h"
#include "engine/catalog.h"
#include "engine/registry.h"

namespace fusednn::bindings {
namespace {

enum class Reduction { none, sum, mean };

Reduction reduction_of(const std::string& name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  if (name == "none") return Reduction::none;
  throw std::invalid_argument("reduction='" + name + "' is unknown; choose mean, sum or none");
}

// Numbers behind a pointer, where the host can read them.
template <class T>
const T* on_host(const void* data, Index n, const View& like, std::vector<char>& copy) {
  if (!like.on_device || data == nullptr) return static_cast<const T*>(data);
  copy.resize(static_cast<size_t>(n) * sizeof(T));
  const Backend& backend = engine::find_backend("cuda");
  const engine::OnQueue queue(backend, like.queue);
  backend.download(copy.data(), data, copy.size());
  return reinterpret_cast<const T*>(copy.data());
}

template <class T>
double sum_of_class_weights(const Loss& op, const View& x) {
  std::vector<char> labels_copy, weights_copy;
  const auto* labels = on_host<int32_t>(op.target.labels, op.rows, x, labels_copy);
  const T* weights = on_host<T>(op.class_weight, op.cols, x, weights_copy);
  double total = 0;
  for (Index i = 0; i < op.rows; ++i) {
    const int32_t label = labels[i];
    if (label == op.ignore_index) continue;
    total += weights != nullptr && label >= 0 && label < op.cols ? weights[label] : 1;
  }
  return total;
}

// What "mean" divides by: the rows that are not ignored, or the sum of their class weights.
double divisor_of(const Loss& op, const View& x) {
  const bool all_alike = op.class_weight == nullptr && op.ignore_index == Loss().ignore_index;
  if (op.target.labels == nullptr || all_alike) return static_cast<double>(op.rows);
  return x.dtype() == DType::float32 ? sum_of_class_weights<float>(op, x)
                                     : sum_of_class_weights<double>(op, x);
}

// The views of a call, read and checked one after the other.
struct Arguments {
  const std::string& name;
  const engine::LossInfo& info;
  View x, t;
  Index rows = 0, cols = 0;
  bool by_label = false;
  std::optional<View> row_weight, column_weight;
  Output gradient;

  Arguments(const std::string& loss_name, const engine::LossInfo& loss_info)
      : name(loss_name), info(loss_info) {}

  Expected expected() const { return like(x, "predictions"); }

  void read_predictions(const py::object& given) {
    x = real_matrix(given, "predictions");
    const size_t rank = x.shape.size();
    if (rank > 0) {
      rows = x.shape[0];
      cols = engine::size_of(Shape(x.shape.begin() + 1, x.shape.end()));
    }
    if (rank == 0 || cols < 1 || (info.rowwise && rank != 2)) {
      throw std::invalid_argument("predictions: has shape " + engine::to_string(x.shape) +
                                  ", expected (rows, " + (info.rowwise ? "classes)" : "outputs)"));
    }
  }

  void read_targets(const py::object& given, const std::optional<int32_t>& ignore_index) {
    t = view(given, "targets");
    by_label = info.rowwise && (t.type.kind == 'i' || t.type.kind == 'u') && t.shape.size() == 1;
    if (by_label) {
      t = labels(given, "targets", rows, cols, ignore_index, x.on_device);
      return;
    }
    if (ignore_index) {
      throw std::invalid_argument("ignore_index: needs integer targets and a loss that takes them");
    }
    t = real_matrix(given, "targets", expected());
    // A single output may be written with or without its axis.
    const bool column =
        cols == 1 && x.shape.size() <= 2 && (t.shape == Shape{rows} || t.shape == Shape{rows, 1});
    if (!column) expect_shape(t, "targets", x.shape);
  }

  void read_weights(const py::object& by_row, const py::object& by_class) {
    row_weight = optional_real(by_row, "sample_weight", {rows}, expected());
    column_weight = optional_real(by_class, "class_weight", {cols}, expected());
    if (column_weight && !info.weighs_classes) {
      throw std::invalid_argument("class_weight: the loss " + name + " has no classes to weigh");
    }
  }

  void read_gradient(bool wanted, const py::object& out) {
    if (!wanted) {
      if (out.is_none()) return;
      throw std::invalid_argument("out: is where the gradient goes, but gradient is False");
    }
    gradient = output(out, "out", x.shape, expected());
    keep_apart(x, gradient.view, Same::allowed);
    keep_apart(t, gradient.view, Same::refused);
    if (row_weight) keep_apart(*row_weight, gradient.view, Same::refused);
    if (column_weight) keep_apart(*column_weight, gradient.view, Same::refused);
  }

  // Rows of `cols` values, whatever the number of axes.
  Matrix rows_of(const View& view) const {
    return {view.data, view.shape.size() == 2 ? view.matrix().stride : cols};
  }

  void fill(Loss& op) const {
    op.x = rows_of(x);
    if (by_label) {
      op.target.labels = reinterpret_cast<const int32_t*>(t.data);
    } else {
      op.target.dense = rows_of(t);
    }
    if (row_weight) op.sample_weight = row_weight->data;
    if (column_weight) op.class_weight = column_weight->data;
    if (gradient.object) op.gradient = rows_of(gradient.view);
    op.rows = rows;
    op.cols = cols;
  }
};

// (value, gradient or None). The value is a number, or one per row without reduction.
py::tuple loss(const std::string& name, const py::dict& hyper, const py::object& predictions,
               const py::object& targets, const std::string& reduction,
               const py::object& sample_weight, const py::object& class_weight,
               const std::optional<int32_t>& ignore_index, bool gradient, const py::object& out) {
  Loss op;
  op.rule = engine::find_loss(name);
  const engine::LossInfo& info = engine::losses()[static_cast<size_t>(op.rule)];
  const std::vector<double> parameters =
      engine::bind_parameters("loss " + name, info.parameters, numbers(hyper, "loss " + name));
  std::copy(parameters.begin(), parameters.end(), op.parameters);
  if (ignore_index) op.ignore_index = *ignore_index;
  const Reduction reduce = reduction_of(reduction);

  Arguments arguments(name, info);
  arguments.read_predictions(predictions);
  arguments.read_targets(targets, ignore_index);
  arguments.read_weights(sample_weight, class_weight);
  arguments.read_gradient(gradient, out);
  arguments.fill(op);

  const Output values = fresh({op.rows}, arguments.x);
  op.values = values.view.data;
  const double divisor = reduce == Reduction::mean ? divisor_of(op, arguments.x) : 1;
  const double scale = divisor == 0 ? 0 : 1 / divisor;
  // Without numbers of the host, a call on a device waits for nothing and may be part of a graph.
  op.scale = scale == 1 ? nullptr : &scale;
  double total = 0;
  Run run(arguments.x);
  run.add(op);
  if (reduce != Reduction::none) run.add(Sum{op.values, op.rows, &total});
  run.now();

  const py::object slope = gradient ? arguments.gradient.object : py::none();
  if (reduce == Reduction::none) return py::make_tuple(values.object, slope);
  const double value = divisor == 0 ? std::numeric_limits<double>::quiet_NaN() : total / divisor;
  return py::make_tuple(value, slope);
}

}  // namespace

void bind_loss(py::module_& m) {
  using namespace py::literals;
  m.def("loss", &loss, "name"_a, "hyper"_a, "predictions"_a, "targets"_a, "reduction"_a = "mean",
        "sample_weight"_a = py::none(), "class_weight"_a = py::none(),
        "ignore_index"_a = py::none(), "gradient"_a = true, "out"_a = py::none(),
        "(value, gradient or None).");
}

}  // namespace fusednn::bindings
