// SPDX-License-Identifier: Apache-2.0
// Batch and layer normalisation on arrays, forward and backward.
#include <stdexcept>

#include "bindings/array.h"
#include "bindings/bindings.h"
#include "bindings/run.h"

namespace fusednn::bindings {
namespace {

// The input of a normalisation and what scales and shifts its columns.
struct Normalised {
  View x;
  std::optional<View> gamma, beta;
  Output y;

  Normalised(const py::object& input, const py::object& scale, const py::object& shift,
             const py::object& out)
      : x(real_matrix(input, "x")) {
    if (x.shape.size() < 2 || x.columns() < 1 || x.rows() < 1) {
      throw std::invalid_argument("x: has shape " + engine::to_string(x.shape) +
                                  ", expected rows and columns, at least one of each");
    }
    const Expected expected = like(x, "x");
    gamma = optional_real(scale, "gamma", {x.columns()}, expected);
    beta = optional_real(shift, "beta", {x.columns()}, expected);
    y = output(out, "out", x.shape, expected);
    if (gamma) keep_apart(*gamma, y.view, Same::refused);
    if (beta) keep_apart(*beta, y.view, Same::refused);
  }

  // The backward pass reads the input again.
  void need_untouched_input() const {
    if (overlap(x, y.view)) {
      throw std::invalid_argument("out: shares memory with x, which the backward pass reads");
    }
  }

  template <class Op>
  void fill(Op& op) const {
    op.x = x.matrix();
    op.y = y.view.matrix();
    op.gamma = gamma ? gamma->data : nullptr;
    op.beta = beta ? beta->data : nullptr;
    op.rows = x.rows();
    op.cols = x.columns();
  }
};

void need_epsilon(double epsilon) {
  if (!(epsilon > 0 && epsilon < kInfinity)) {
    throw std::invalid_argument("epsilon=" + std::to_string(epsilon) + " must be positive");
  }
}

// Running statistics change where they lie; without any, the kernel moves some that nobody sees.
View statistics(const py::object& given, const std::string& argument, const View& x,
                bool training) {
  if (given.is_none()) {
    View scratch = fresh({x.columns()}, x).view;
    Run(x).add(Fill{scratch.data, x.columns(), 1}).now();
    return scratch;
  }
  const Expected expected = like(x, "x");
  View result = training ? in_place(given, argument, expected) : real(given, argument, expected);
  expect_shape(result, argument, {x.columns()});
  return result;
}

py::tuple batch_norm_forward(const py::object& x, const py::object& gamma, const py::object& beta,
                             const py::object& running_mean, const py::object& running_variance,
                             bool training, double momentum, double epsilon, const py::object& out,
                             bool unbiased) {
  need_epsilon(epsilon);
  if (!(momentum >= 0 && momentum <= 1)) {
    throw std::invalid_argument("momentum=" + std::to_string(momentum) + " must lie in [0, 1]");
  }
  if (!training && (running_mean.is_none() || running_variance.is_none())) {
    throw std::invalid_argument(
        "running_mean and running_variance: are needed when training is False");
  }
  Normalised n(x, gamma, beta, out);
  if (training) {
    n.need_untouched_input();
  } else {
    keep_apart(n.x, n.y.view, Same::allowed);
  }
  const View mean_now = statistics(running_mean, "running_mean", n.x, training);
  const View variance_now = statistics(running_variance, "running_variance", n.x, training);
  for (const View* statistic : {&mean_now, &variance_now}) {
    for (const View* other : {&n.x, n.gamma ? &*n.gamma : nullptr, n.beta ? &*n.beta : nullptr}) {
      if (training && other != nullptr && overlap(*statistic, *other)) {
        throw std::invalid_argument("running statistics: share memory with x, gamma or beta");
      }
    }
    if (overlap(*statistic, n.y.view)) {
      throw std::invalid_argument("out: shares memory with the running statistics");
    }
  }
  if (training && overlap(mean_now, variance_now)) {
    throw std::invalid_argument("running_mean and running_variance: share memory");
  }
  const Output mean = fresh({n.x.columns()}, n.x);
  const Output inverse_deviation = fresh({n.x.columns()}, n.x);
  BatchNormForward op;
  n.fill(op);
  op.running_mean = mean_now.data;
  op.running_variance = variance_now.data;
  op.mean = mean.view.data;
  op.inverse_deviation = inverse_deviation.view.data;
  op.momentum = momentum;
  op.epsilon = epsilon;
  op.training = training;
  op.unbiased = unbiased;
  Run(n.x).add(op).now();
  if (!training) return py::make_tuple(n.y.object, py::none(), py::none());
  return py::make_tuple(n.y.object, mean.object, inverse_deviation.object);
}

py::tuple layer_norm_forward(const py::object& x, const py::object& gamma, const py::object& beta,
                             double epsilon, const py::object& out) {
  need_epsilon(epsilon);
  const Normalised n(x, gamma, beta, out);
  n.need_untouched_input();
  const Output mean = fresh({n.x.rows()}, n.x);
  const Output inverse_deviation = fresh({n.x.rows()}, n.x);
  LayerNormForward op;
  n.fill(op);
  op.mean = mean.view.data;
  op.inverse_deviation = inverse_deviation.view.data;
  op.epsilon = epsilon;
  Run(n.x).add(op).now();
  return py::make_tuple(n.y.object, mean.object, inverse_deviation.object);
}

// (dx, dgamma, dbeta) from the statistics that the forward pass kept.
template <class Op>
py::tuple norm_backward(const py::object& dy, const py::object& x, const py::object& gamma,
                        const py::object& mean, const py::object& inverse_deviation,
                        const py::object& out) {
  Normalised n(x, gamma, py::none(), out);
  keep_apart(n.x, n.y.view, Same::refused);
  const Expected expected = like(n.x, "x");
  View upstream = real_matrix(dy, "dy", expected);
  keep_apart(upstream, n.y.view, Same::allowed);
  expect_shape(upstream, "dy", n.x.shape);
  const Index groups = std::is_same_v<Op, BatchNormBackward> ? n.x.columns() : n.x.rows();
  View mean_kept = real(mean, "mean", expected);
  View deviation_kept = real(inverse_deviation, "inverse_deviation", expected);
  keep_apart(mean_kept, n.y.view, Same::refused);
  keep_apart(deviation_kept, n.y.view, Same::refused);
  expect_shape(mean_kept, "mean", {groups});
  expect_shape(deviation_kept, "inverse_deviation", {groups});
  const Output dgamma = fresh({n.x.columns()}, n.x);
  const Output dbeta = fresh({n.x.columns()}, n.x);
  Op op;
  op.x = n.x.matrix();
  op.dy = upstream.matrix();
  op.gamma = n.gamma ? n.gamma->data : nullptr;
  op.mean = mean_kept.data;
  op.inverse_deviation = deviation_kept.data;
  op.dx = n.y.view.matrix();
  op.dgamma = dgamma.view.data;
  op.dbeta = dbeta.view.data;
  op.rows = n.x.rows();
  op.cols = n.x.columns();
  Run(n.x).add(op).now();
  return py::make_tuple(n.y.object, dgamma.object, dbeta.object);
}

}  // namespace

void bind_normalization(py::module_& m) {
  using namespace py::literals;
  m.def(
      "batch_norm_forward", &batch_norm_forward, "x"_a, "gamma"_a, "beta"_a, "running_mean"_a,
      "running_variance"_a, "training"_a = true, "momentum"_a = 0.1, "epsilon"_a = 1e-5,
      "out"_a = py::none(), "unbiased"_a = true,
      "(y, mean, inverse deviation), the last two None in inference; running statistics change in "
      "place.");
  m.def("layer_norm_forward", &layer_norm_forward, "x"_a, "gamma"_a, "beta"_a, "epsilon"_a = 1e-5,
        "out"_a = py::none(), "(y, mean, inverse deviation).");
  m.def("batch_norm_backward", &norm_backward<BatchNormBackward>, "dy"_a, "x"_a, "gamma"_a,
        "mean"_a, "inverse_deviation"_a, "out"_a = py::none(), "(dx, dgamma, dbeta).");
  m.def("layer_norm_backward", &norm_backward<LayerNormBackward>, "dy"_a, "x"_a, "gamma"_a,
        "mean"_a, "inverse_deviation"_a, "out"_a = py::none(), "(dx, dgamma, dbeta).");
}

}  // namespace fusednn::bindings
