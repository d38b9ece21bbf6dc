// SPDX-License-Identifier: Apache-2.0
// Single operations on arrays: elementary functions, activations, softmax, dense products, dropout.
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/run.h"
#include "bindings/specs.h"
#include "engine/augment.h"
#include "engine/catalog.h"
#include "engine/scratch.h"

namespace fusednn::bindings {
namespace {

// The argument of an operation that works on a whole array, and the array for its result.
struct Elementwise {
  View x;
  Output y;
};

Elementwise elementwise(const py::object& x, const py::object& out) {
  View input = real(x, "x");
  Output result = output(out, "out", input.shape, like(input, "x"));
  if (!result.view.contiguous()) throw std::invalid_argument("out: must be C-contiguous");
  keep_apart(input, result.view, Same::allowed);
  return {std::move(input), std::move(result)};
}

double sum(const py::object& x, int max_threads) {
  const View input = real(x, "x");
  need_host(input, "x");
  double total = 0;
  Run(input).add(Sum{input.data, input.size(), &total}).now(max_threads);
  return total;
}

py::object elementary(const std::string& name, const py::object& x, const py::object& out) {
  const int function = engine::find_elementary(name);
  const auto [input, result] = elementwise(x, out);
  Run(input).add(Elementary{function, input.data, result.view.data, input.size()}).now();
  return result.object;
}

py::object activation_forward(const std::string& name, const py::dict& hyper, const py::object& x,
                              const py::object& out) {
  const ActivationSpec spec = engine::activation_spec(name, numbers(hyper, "activation " + name));
  const auto [input, result] = elementwise(x, out);
  Run(input).add(ActivationForward{input.data, result.view.data, input.size(), spec}).now();
  return result.object;
}

py::object activation_backward(const std::string& name, const py::dict& hyper, const py::object& dy,
                               const py::object& x, const py::object& out, const py::object& y) {
  const ActivationSpec spec = engine::activation_spec(name, numbers(hyper, "activation " + name));
  auto [saved, result] = elementwise(x, out);
  const Expected expected = like(saved, "x");
  View upstream = real(dy, "dy", expected);
  expect_shape(upstream, "dy", saved.shape);
  const bool from_input = y.is_none() || engine::activations()[spec.rule].saves_input;
  if (!y.is_none()) {
    View given = real(y, "y", expected);
    expect_shape(given, "y", saved.shape);
    if (!from_input) saved = given;
  }
  keep_apart(upstream, result.view, Same::allowed);
  keep_apart(saved, result.view, Same::refused);

  ActivationBackward op{upstream.data, saved.data, result.view.data, saved.size(), spec};
  op.from_input = from_input;
  Run(saved).add(op).now();
  return result.object;
}

void need_axis(const View& view, const std::string& argument) {
  if (view.shape.empty()) {
    throw std::invalid_argument(argument + ": is a single number, expected at least one axis");
  }
}

py::object softmax(const py::object& x, const py::object& out, bool log) {
  View input = real_matrix(x, "x");
  need_axis(input, "x");
  const Output result = output(out, "out", input.shape, like(input, "x"));
  keep_apart(input, result.view, Same::allowed);
  Run(input)
      .add(SoftmaxForward{input.matrix(), result.view.matrix(), input.rows(), input.columns(), log})
      .now();
  return result.object;
}

py::object softmax_backward(const py::object& dy, const py::object& y, const py::object& out,
                            bool log) {
  View output_value = real_matrix(y, "y");
  need_axis(output_value, "y");
  const Expected expected = like(output_value, "y");
  View upstream = real_matrix(dy, "dy", expected);
  expect_shape(upstream, "dy", output_value.shape);
  const Output result = output(out, "out", output_value.shape, expected);
  keep_apart(upstream, result.view, Same::allowed);
  keep_apart(output_value, result.view, Same::refused);
  SoftmaxBackward op;
  op.y = output_value.matrix();
  op.dy = upstream.matrix();
  op.dx = result.view.matrix();
  op.rows = output_value.rows();
  op.cols = output_value.columns();
  op.log = log;
  Run(output_value).add(op).now();
  return result.object;
}

// ---- dense -----------------------------------------------------------------------------------

// What follows the product: an elementwise rule that runs in its epilogue, or a softmax over the row.
struct DenseActivation {
  ActivationSpec rule;
  bool softmax = false;
  bool log = false;

  DenseActivation(const std::string& name, const py::dict& hyper)
      : softmax(name == "softmax" || name == "log_softmax"), log(name == "log_softmax") {
    const Numbers values = numbers(hyper, "activation " + name);
    if (softmax && !values.empty()) {
      throw std::invalid_argument("activation " + name + " has no parameter '" +
                                  values.begin()->first + "'");
    }
    if (!softmax) rule = engine::activation_spec(name, values);
  }
  bool saves_input() const {
    return engine::activations()[static_cast<size_t>(rule.rule)].saves_input;
  }
};

// The input of a dense layer: rows of at least one feature.
View features(const py::object& x) {
  View result = real_matrix(x, "x");
  need_axis(result, "x");
  if (result.columns() < 1) {
    throw std::invalid_argument("x: has shape " + engine::to_string(result.shape) +
                                ", expected at least one feature");
  }
  return result;
}

Shape with_last(Shape shape, Index last) {
  shape.back() = last;
  return shape;
}

View weights(const py::object& w, const View& x) {
  View result = real_matrix(w, "w", like(x, "x"));
  if (result.shape.size() != 2 || result.shape[0] != x.columns()) {
    throw std::invalid_argument("w: has shape " + engine::to_string(result.shape) + ", expected (" +
                                std::to_string(x.columns()) + ", units) for x of shape " +
                                engine::to_string(x.shape));
  }
  return result;
}

// That of a product of arrays like this one. Without a name it is that of the arrays.
Precision precision_of(const std::optional<std::string>& name, const View& like) {
  if (!name) return like.dtype();
  const Precision wanted = precision_named(*name, Run(like).backend());
  if (wanted.dtype != like.dtype()) {
    throw py::type_error("precision='" + *name + "' needs arrays of " + name_of(wanted.dtype) +
                         ", got " + name_of(like.dtype()));
  }
  return wanted;
}

// (y, what the backward pass reads): y itself, or the values before the activation.
py::tuple dense_forward(const py::object& x, const py::object& w, const py::object& b,
                        const std::string& activation, const py::dict& hyper, bool keep,
                        const py::object& out, const std::optional<std::string>& precision) {
  const DenseActivation after(activation, hyper);
  View input = features(x);
  View kernel = weights(w, input);
  const Index units = kernel.columns();
  const Expected expected = like(input, "x");
  std::optional<View> bias = optional_real(b, "b", {units}, expected);
  const Output y = output(out, "out", with_last(input.shape, units), expected);
  keep_apart(input, y.view, Same::refused);
  keep_apart(kernel, y.view, Same::refused);
  if (bias) keep_apart(*bias, y.view, Same::refused);

  DenseForward op;
  const Precision rounded = precision_of(precision, input);
  op.bfloat16 = rounded.bfloat16;
  op.float16 = rounded.float16;
  op.x = input.matrix();
  op.w = kernel.matrix();
  op.bias = bias ? bias->data : nullptr;
  op.y = y.view.matrix();
  op.rows = input.rows();
  op.in = input.columns();
  op.out = units;
  op.activation = after.rule;
  py::object saved = keep ? y.object : py::none();
  if (keep && after.saves_input()) {
    const Output z = fresh(y.view.shape, input);
    op.z = z.view.matrix();
    saved = z.object;
  }
  Run run(input);
  run.add(op);
  if (after.softmax) run.add(SoftmaxForward{op.y, op.y, op.rows, units, after.log});
  run.now();
  return py::make_tuple(y.object, saved);
}

// (dx, dw, db) from what dense_forward left.
py::tuple dense_backward(const py::object& dy, const py::object& x, const py::object& w,
                         const py::object& saved, const std::string& activation,
                         const py::dict& hyper, const std::optional<std::string>& precision) {
  const DenseActivation after(activation, hyper);
  const View input = features(x);
  const View kernel = weights(w, input);
  const Index units = kernel.columns();
  const Shape shape = with_last(input.shape, units);
  const View upstream = real(dy, "dy", like(input, "x"));
  expect_shape(upstream, "dy", shape);
  const View kept = real(saved, "saved", like(input, "x"));
  expect_shape(kept, "saved", shape);

  const Output dz = fresh(shape, input);
  const Output dx = fresh(input.shape, input);
  const Output dw = fresh(kernel.shape, input);
  const Output db = fresh({units}, input);
  const Matrix gradient = dz.view.matrix();
  const Index rows = input.rows();
  Run run(input);
  if (after.softmax) {
    run.add(
        SoftmaxBackward{kept.matrix(), upstream.matrix(), gradient, rows, units, after.log, false});
  } else {
    run.add(ActivationBackward{upstream.data, kept.data, gradient.data, dz.view.size(), after.rule,
                               false});
  }
  DenseBackwardInput to_input;
  to_input.dz = gradient;
  to_input.w = kernel.matrix();
  to_input.dx = dx.view.matrix();
  DenseBackwardWeights to_weights;
  to_weights.x = input.matrix();
  to_weights.dz = gradient;
  to_weights.dw = dw.view.matrix();
  to_weights.dbias = db.view.data;
  to_input.bfloat16 = to_weights.bfloat16 = precision_of(precision, input).bfloat16;
  to_input.rows = to_weights.rows = rows;
  to_input.in = to_weights.in = input.columns();
  to_input.out = to_weights.out = units;
  run.add(to_input).add(to_weights).now();
  return py::make_tuple(dx.object, dw.object, db.object);
}

// Rows whose values between two layers are in the caches when the next layer reads them.
constexpr Index kRowsAtOnce = 512;

// A dense layer of several: after its product comes what normalises it, where it has such, and then the
// activation. norm: gamma, beta, mean, variance, or nothing.
struct FollowingLayer {
  View kernel;
  std::optional<View> bias;
  DenseActivation after;
  std::vector<View> norm;

  // `x` is what the layer takes, of which only the shape and the dtype are looked at.
  FollowingLayer(const py::tuple& given, const View& x)
      : kernel(weights(given[0], x)),
        bias(optional_real(given[1], "b", {kernel.columns()}, like(x, "x"))),
        after(py::cast<std::string>(given[2]), py::cast<py::dict>(given[3])) {
    if (given[4].is_none()) return;
    for (const py::handle values : py::cast<py::sequence>(given[4])) {
      norm.push_back(real(values, "norm", like(x, "x")));
      expect_shape(norm.back(), "norm", {kernel.columns()});
    }
    if (norm.size() != 4) throw std::invalid_argument("norm: expected four arrays");
  }

  void record(Run& run, DenseForward op, double epsilon) const {
    op.w = kernel.matrix();
    op.bias = bias ? bias->data : nullptr;
    op.in = kernel.shape[0];
    op.out = kernel.columns();
    const bool fused = norm.empty();
    if (fused) op.activation = after.rule;
    run.add(op);
    if (!fused) {
      BatchNormForward normalise;
      normalise.x = op.y;
      normalise.y = op.y;
      normalise.gamma = norm[0].data;
      normalise.beta = norm[1].data;
      normalise.running_mean = norm[2].data;
      normalise.running_variance = norm[3].data;
      normalise.rows = op.rows;
      normalise.cols = op.out;
      normalise.epsilon = epsilon;
      normalise.training = false;
      run.add(normalise);
      const Index n = op.rows * op.out;
      run.add(ActivationForward{op.y.data, op.y.data, n, after.rule});
    }
    if (after.softmax) run.add(SoftmaxForward{op.y, op.y, op.rows, op.out, after.log});
  }
};

// What dense layers one after the other make of rows, in one run of the backend.
py::object dense_layers(const py::object& x, const std::vector<py::tuple>& given, double epsilon,
                        const std::optional<std::string>& precision, int max_threads) {
  const View input = features(x);
  need_host(input, "x");
  if (given.empty()) throw std::invalid_argument("layers: there must be at least one");
  std::vector<FollowingLayer> layers;
  layers.reserve(given.size());
  View values = input;  // what the next layer takes
  Index widest = 0;     // of the layers between input and output
  for (const py::tuple& each : given) {
    if (each.size() != 5) throw std::invalid_argument("layers: expected tuples of five");
    if (!layers.empty()) widest = std::max(widest, values.columns());
    layers.emplace_back(each, values);
    values.shape = with_last(values.shape, layers.back().kernel.columns());
  }
  const Output y = fresh(values.shape, input);
  const Precision rounded = precision_of(precision, input);
  const Index rows = input.rows();
  const Index at_once = std::min(rows, kRowsAtOnce);
  const size_t element = size_of(input.dtype());
  const size_t block_bytes = engine::align(static_cast<size_t>(at_once * widest) * element);
  // The values between the layers take turns in two blocks.
  const engine::ScratchMemory blocks(engine::find_backend("cpu"), engine::Scratch::values,
                                     2 * block_bytes);
  Run run(input);
  const auto from = [&](const Matrix& whole, Index row) {
    const Index bytes = row * whole.stride * static_cast<Index>(element);
    return Matrix{static_cast<char*>(whole.data) + bytes, whole.stride};
  };
  for (Index row = 0; row < rows; row += at_once) {
    DenseForward op;
    op.bfloat16 = rounded.bfloat16;
    op.float16 = rounded.float16;
    op.rows = std::min(at_once, rows - row);
    op.x = from(input.matrix(), row);
    for (size_t i = 0; i < layers.size(); ++i) {
      const bool last = i + 1 == layers.size();
      char* const block = blocks.data() + (i % 2) * block_bytes;
      op.y = last ? from(y.view.matrix(), row) : Matrix{block, layers[i].kernel.columns()};
      layers[i].record(run, op, epsilon);
      op.x = op.y;
    }
  }
  run.now(max_threads);
  return y.object;
}

Noise noise_named(const std::string& name) {
  constexpr const char* names[] = {"mask", "alpha", "alpha_gradient", "factor", "term"};
  for (int i = 0; i < 5; ++i) {
    if (name == names[i]) return static_cast<Noise>(i);
  }
  throw std::invalid_argument("noise='" + name +
                              "' is unknown; known: mask, alpha, alpha_gradient, factor, term");
}

py::object dropout(const py::object& x, double rate, uint64_t seed, uint64_t step, uint32_t stream,
                   const py::object& out, const std::string& noise, double deviation) {
  if (!(rate >= 0 && rate < 1)) {
    throw std::invalid_argument("rate=" + std::to_string(rate) + " must lie in [0, 1)");
  }
  if (!(deviation >= 0)) {
    throw std::invalid_argument("deviation=" + std::to_string(deviation) + " must not be negative");
  }
  const auto [input, result] = elementwise(x, out);
  Dropout op;
  op.x = input.data;
  op.y = result.view.data;
  op.n = input.size();
  op.noise = noise_named(noise);
  op.rate = rate;
  op.deviation = deviation;
  op.seed = seed;
  op.stream = stream;
  op.step = &step;
  Run(input).add(op).now();
  return result.object;
}

// The images of a batch, each through the transform that a layer with this configuration draws for it.
py::object resample(const py::object& images, const py::dict& config, uint64_t seed, uint64_t step,
                    uint32_t stream, bool training) {
  const View x = real(images, "images");
  if (x.shape.empty()) throw std::invalid_argument("images: needs an axis of samples");
  const Shape sample(x.shape.begin() + 1, x.shape.end());
  Resample op = engine::resample_of({"images", config_of(config, "config")}, sample);
  Shape shape = engine::output_of(op, sample);
  shape.insert(shape.begin(), x.shape[0]);
  const Output result = fresh(shape, x);
  op.x = x.data;
  op.y = result.view.data;
  op.rows = x.shape[0];
  op.seed = seed;
  op.stream = stream;
  op.step = training ? &step : nullptr;
  Run(x).add(op).now();
  return result.object;
}

// Samples as `train` mixes them.
py::object mix_rows(const py::object& given, double alpha, uint64_t seed, uint64_t step,
                    uint32_t stream) {
  const View x = real(given, "x");
  if (x.shape.empty()) throw std::invalid_argument("x: needs an axis of samples");
  if (!(alpha > 0)) {
    throw std::invalid_argument("alpha=" + std::to_string(alpha) + " must be positive");
  }
  const Output result = fresh(x.shape, x);
  MixRows op;
  op.x = x.data;
  op.y = result.view.data;
  op.rows = x.shape[0];
  op.cols = op.rows > 0 ? x.size() / op.rows : 0;
  op.alpha = alpha;
  op.seed = seed;
  op.stream = stream;
  op.step = &step;
  Run(x).add(op).now();
  return result.object;
}

}  // namespace

void bind_ops(py::module_& m) {
  using namespace py::literals;
  m.def("sum", &sum, "x"_a, "max_threads"_a = 0, "Of all elements, in double.");
  m.def("elementary", &elementary, "name"_a, "x"_a, "out"_a = py::none());
  m.def("activation_forward", &activation_forward, "name"_a, "hyper"_a, "x"_a,
        "out"_a = py::none());
  m.def("activation_backward", &activation_backward, "name"_a, "hyper"_a, "dy"_a, "x"_a,
        "out"_a = py::none(), "y"_a = py::none());
  m.def("softmax", &softmax, "x"_a, "out"_a = py::none(), "log"_a = false);
  m.def("softmax_backward", &softmax_backward, "dy"_a, "y"_a, "out"_a = py::none(),
        "log"_a = false);
  m.def("dense_forward", &dense_forward, "x"_a, "w"_a, "b"_a, "activation"_a, "hyper"_a,
        "keep"_a = false, "out"_a = py::none(), "precision"_a = py::none(),
        "(y, what dense_backward reads as `saved`, or None without `keep`).");
  m.def("dense_backward", &dense_backward, "dy"_a, "x"_a, "w"_a, "saved"_a, "activation"_a,
        "hyper"_a, "precision"_a = py::none(), "(dx, dw, db).");
  m.def("dense_layers", &dense_layers, "x"_a, "layers"_a, "epsilon"_a = 1e-5,
        "precision"_a = py::none(), "max_threads"_a = 0,
        "The values of the last of several dense layers. layers: kernel, bias, activation, its "
        "parameters, and None or gamma, beta, mean and variance of a normalisation before it.");
  m.def("dropout", &dropout, "x"_a, "rate"_a, "seed"_a, "step"_a = 0, "stream"_a = 0,
        "out"_a = py::none(), "noise"_a = "mask", "deviation"_a = 0.0,
        "Noise by the name of what becomes of an element, as in engine/operations.h.");
  m.def("resample", &resample, "images"_a, "config"_a, "seed"_a, "step"_a = 0, "stream"_a = 0,
        "training"_a = true, "Images through random transforms, as a layer's configuration says.");
  m.def("mix_rows", &mix_rows, "x"_a, "alpha"_a, "seed"_a, "step"_a = 0, "stream"_a = 0,
        "Samples mixed with others of the batch, as in training with mixup.");
}

}  // namespace fusednn::bindings
