// SPDX-License-Identifier: Apache-2.0
// Losses: value and gradient in one pass.
//
// x is the prediction, t the target. A pointwise loss has a value per output, of which a row takes the
// mean (or the sum, where the rule says so). A rowwise loss has one value per row, in which all
// columns take part.
//
// Logits may be -infinity where a class is masked out: what has no target mass costs nothing there.
// A NaN stays a NaN. At a kink the gradient is the subgradient nearest to zero.
#pragma once

#include "core/hd.h"
#include "core/math.h"
#include "core/parameter.h"
#include "core/type_list.h"
#include "rules/lanes.h"

namespace fusednn::rules {

// The least probability that a logarithm sees, as in Keras, and the logarithms of it and of 1 - it.
constexpr double kLeastProbability = 1e-7;
constexpr double kLogLeast = -16.118095650958319788;
constexpr double kLogMost = -1.0000000500000033e-7;

// ---- pointwise -------------------------------------------------------------------------------

template <class V>
struct LossLanes {
  V value, gradient;
};

// (x - t)^2.
struct MeanSquaredError {
  static constexpr char name[] = "mse";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V d = x - t;
    return {d * d, V(2) * d};
  }
};

// |x - t|.
struct MeanAbsoluteError {
  static constexpr char name[] = "mae";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V d = x - t;
    return {abs(d), sign(d)};
  }
};

// d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2), with d = x - t (Huber 1964), as torch. With
// c = min(|d|, delta) both are c (|d| - c / 2). delta is above zero.
struct Huber {
  static constexpr char name[] = "huber";
  static constexpr Parameters<1> parameters{{{"delta", 1.0, 1e-30, kInfinity}}};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V* a) {
    const V d = x - t;
    const V size = abs(d);
    const V c = min(a[0], size);
    return {c * (size - V(0.5) * c), clamp(d, -a[0], a[0])};
  }
};

// log cosh d with d = x - t; the gradient is g = tanh d. Near zero the value is log(1 + sinh^2 d) / 2
// with sinh^2 d = g^2 / (1 - g^2) < 1, which does not cancel; farther out it is
// |d| - log 2 + log(1 + exp(-2 |d|)), which does not overflow.
struct LogCosh {
  static constexpr char name[] = "log_cosh";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V d = x - t;
    const V size = abs(d);
    const V g = tanh(d);
    const V square = g * g;
    const auto near = size < V(0.875);
    const V logarithm = log1p_unit(select(near, square / (V(1) - square), exp(V(-2) * size)));
    const V far_value = size - V(0.69314718055994530942) + logarithm;
    return {select(near, V(0.5) * logarithm, far_value), g};
  }
};

// q d for d = t - x > 0, else (q - 1) d: its minimum is the q-th quantile (Koenker and Bassett 1978).
struct Quantile {
  static constexpr char name[] = "quantile";
  static constexpr Parameters<1> parameters{{{"quantile", 0.5, 0.0, 1.0}}};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V* a) {
    const V d = t - x;
    const V slope = select(d > V(0), a[0], a[0] - V(1));
    return {slope * d, select(d == V(0), d, keep_nan(d, -slope))};
  }
};

// x - t log(x + epsilon): the negative log-likelihood of a count t under the rate x > 0, without the
// term that does not depend on x.
struct Poisson {
  static constexpr char name[] = "poisson";
  static constexpr Parameters<1> parameters{{{"epsilon", 1e-7, 0.0, kInfinity}}};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V* a) {
    const V rate = x + a[0];
    return {fma(-t, log(rate), x), V(1) - t / rate};
  }
};

// exp(x) - t x: the same for the logarithm x of the rate.
struct PoissonLog {
  static constexpr char name[] = "poisson_log";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V rate = exp(x);
    return {rate - times_if(t, x), rate - t};
  }
};

// max(0, 1 - t x) for targets -1 and 1.
struct Hinge {
  static constexpr char name[] = "hinge";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V lack = fma(-t, x, V(1));
    return {max(V(0), lack), keep_nan(lack, select(lack > V(0), -t, V(0)))};
  }
};

// max(0, 1 - t x)^2 for targets -1 and 1.
struct SquaredHinge {
  static constexpr char name[] = "squared_hinge";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V lack = max(V(0), fma(-t, x, V(1)));
    return {lack * lack, V(-2) * t * lack};
  }
};

// -(w t' log p + (1 - t') log(1 - p)) for a probability p, with t' = (1 - s) t + s / 2; w is pos_weight
// and s label_smoothing. p is limited to [1e-7, 1 - 1e-7], and where it is the gradient is 0. The
// logarithms are limited instead of p, because 1 - 1e-7 has no float32. Logits are the better input.
struct BinaryCrossEntropy {
  static constexpr char name[] = "binary_cross_entropy";
  static constexpr Parameters<2> parameters{
      {{"pos_weight", 1.0, 0.0, kInfinity}, {"label_smoothing", 0.0, 0.0, 1.0}}
  };
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V* a) {
    const V keep = V(1) - a[1];
    const V yes = a[0] * fma(t, keep, V(0.5) * a[1]);
    const V no = fma(V(1) - t, keep, V(0.5) * a[1]);
    const V p = clamp(x, V(0), V(1));
    const V q = V(1) - p;
    const V log_p = clamp(log(p), V(kLogLeast), V(kLogMost));
    const V log_q = clamp(log1p(-p), V(kLogLeast), V(kLogMost));
    const auto limited = (x < V(kLeastProbability)) | (q < V(kLeastProbability));
    return {-fma(yes, log_p, no * log_q), select(limited, V(0), no / q - yes / p)};
  }
};

// The same for a logit x, p = 1 / (1 + exp(-x)): w t' log(1 + exp(-x)) + (1 - t') log(1 + exp(x)).
struct BinaryCrossEntropyLogits {
  static constexpr char name[] = "binary_cross_entropy_logits";
  static constexpr Parameters<2> parameters{
      {{"pos_weight", 1.0, 0.0, kInfinity}, {"label_smoothing", 0.0, 0.0, 1.0}}
  };
  static constexpr bool sums_outputs = false;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V* a) {
    const V keep = V(1) - a[1];
    const V yes = a[0] * fma(t, keep, V(0.5) * a[1]);
    const V no = fma(V(1) - t, keep, V(0.5) * a[1]);
    const Logistic<V> s(x);
    const V if_yes = max(V(0), -x) + s.softening();
    const V if_no = max(V(0), x) + s.softening();
    return {times_if(yes, if_yes) + times_if(no, if_no), no * s.value - yes * s.mirror};
  }
};

// t log(t / x) for probabilities t and x, 0 at t = 0 (Kullback and Leibler 1951). x counts as at least
// 1e-7; where it is limited the gradient is 0.
struct KlDivergence {
  static constexpr char name[] = "kl_divergence";
  static constexpr Parameters<0> parameters{};
  static constexpr bool sums_outputs = true;
  template <class V>
  FNN_HD static LossLanes<V> evaluate(V x, V t, const V*) {
    const V least = V(kLeastProbability);
    const V ratio = select(t == V(0), keep_nan(x, V(1)), t / max(least, x));
    return {t * log(ratio), select(x < least, V(0), -t / x)};
  }
};

using PointwiseLosses =
    TypeList<MeanSquaredError, MeanAbsoluteError, Huber, LogCosh, Quantile, Poisson, PoissonLog,
             Hinge, SquaredHinge, BinaryCrossEntropy, BinaryCrossEntropyLogits, KlDivergence>;

// ---- rowwise ---------------------------------------------------------------------------------
// A kernel takes a rule through the columns of a row twice:
//
//   target     the target lane that the rule really compares with; per_class = 1 / number of columns
//   terms      what a lane adds to the sums of its row, and the lane it keeps for the gradient
//   prepare    from the sums: the value of the row and the factors of its gradient (a lane is a row)
//   gradient   from the kept lane, the target lane and the factors
//
// `needs_max`: terms() is given the greatest x of the row, else 0. `weighs_classes`: the kernel
// multiplies target lanes by class weights, after smoothing, as torch does.

constexpr int kRowSums = 3;
constexpr int kRowFactors = 2;

template <class V>
struct RowTerms {
  V kept;
  V sums[kRowSums];
};

template <class V>
struct RowLoss {
  V value;
  V factors[kRowFactors];
};

// (1 - s) t + s / C, where per_class = 1 / C.
template <class V>
FNN_HD V smooth_target(V t, V per_class, V s) {
  return fma(t, V(1) - s, s * per_class);
}

// With e = exp(x - m), m the greatest x, and the sums E of e, T of t and D of t (x - m), the
// cross-entropy of t and softmax(x) is T log E - D, with gradient (T / E) e - t. Probabilities that
// need not add up to 1 take the same way, with e = x.
template <class V>
FNN_HD RowLoss<V> prepare_cross_entropy(const V (&sums)[kRowSums]) {
  return {
      fma(sums[1], log(sums[0]), -sums[2]), {sums[1] / sums[0], V(0)}
  };
}

// -sum t log softmax(x): the cross-entropy of target probabilities (or a class) and logits.
struct SoftmaxCrossEntropy {
  static constexpr char name[] = "softmax_cross_entropy";
  static constexpr Parameters<1> parameters{{{"label_smoothing", 0.0, 0.0, 1.0}}};
  static constexpr bool needs_max = true;
  static constexpr bool weighs_classes = true;
  template <class V>
  FNN_HD static V target(V t, V per_class, const V* a) {
    return smooth_target(t, per_class, a[0]);
  }
  template <class V>
  FNN_HD static RowTerms<V> terms(V x, V t, V m) {
    const V shifted = x - m;
    const V e = exp(shifted);
    return {
        e, {e, t, times_if(t, shifted)}
    };
  }
  template <class V>
  FNN_HD static RowLoss<V> prepare(const V (&sums)[kRowSums]) {
    return prepare_cross_entropy(sums);
  }
  template <class V>
  FNN_HD static V gradient(V e, V t, const V (&factors)[kRowFactors]) {
    return fma(e, factors[0], -t);
  }
};

// -sum t log(x / sum x) for probabilities x, which need not add up to 1 exactly: with the sums P of x,
// T of t and D of t log x it is T log P - D, with gradient T / P - t / x. The logarithm sees at least
// 1e-7; where it is limited the second term of the gradient is 0. Logits are the better input.
struct CategoricalCrossEntropy {
  static constexpr char name[] = "categorical_cross_entropy";
  static constexpr Parameters<1> parameters{{{"label_smoothing", 0.0, 0.0, 1.0}}};
  static constexpr bool needs_max = false;
  static constexpr bool weighs_classes = true;
  template <class V>
  FNN_HD static V target(V t, V per_class, const V* a) {
    return smooth_target(t, per_class, a[0]);
  }
  template <class V>
  FNN_HD static RowTerms<V> terms(V x, V t, V) {
    return {
        x, {x, t, t * log(max(V(kLeastProbability), x))}
    };
  }
  template <class V>
  FNN_HD static RowLoss<V> prepare(const V (&sums)[kRowSums]) {
    return prepare_cross_entropy(sums);
  }
  template <class V>
  FNN_HD static V gradient(V x, V t, const V (&factors)[kRowFactors]) {
    return factors[0] - select(x < V(kLeastProbability), V(0), t / x);
  }
};

// sum t (log t - log softmax(x)) for target probabilities t and logits x, 0 log 0 = 0: the cross-entropy
// less the entropy of t, which rides along in the third sum.
struct KlDivergenceLogits {
  static constexpr char name[] = "kl_divergence_logits";
  static constexpr Parameters<0> parameters{};
  static constexpr bool needs_max = true;
  static constexpr bool weighs_classes = false;
  template <class V>
  FNN_HD static V target(V t, V, const V*) {
    return t;
  }
  template <class V>
  FNN_HD static RowTerms<V> terms(V x, V t, V m) {
    const V shifted = x - m;
    const V e = exp(shifted);
    return {
        e, {e, t, times_if(t, shifted - log(t))}
    };
  }
  template <class V>
  FNN_HD static RowLoss<V> prepare(const V (&sums)[kRowSums]) {
    return prepare_cross_entropy(sums);
  }
  template <class V>
  FNN_HD static V gradient(V e, V t, const V (&factors)[kRowFactors]) {
    return fma(e, factors[0], -t);
  }
};

// 1 - cos(x, t) = 1 - x.t / (|x| |t|), with gradient cos x / |x|^2 - t / (|x| |t|). A row of zeros is
// orthogonal to everything: value 1, gradient 0. The squares must not overflow. The two terms of the
// gradient cancel where x and t are parallel, which leaves an error of a rounding of 1 / |x|.
struct Cosine {
  static constexpr char name[] = "cosine";
  static constexpr Parameters<0> parameters{};
  static constexpr bool needs_max = false;
  static constexpr bool weighs_classes = false;
  template <class V>
  FNN_HD static V target(V t, V, const V*) {
    return t;
  }
  template <class V>
  FNN_HD static RowTerms<V> terms(V x, V t, V) {
    return {
        x, {x * x, t * t, x * t}
    };
  }
  template <class V>
  FNN_HD static RowLoss<V> prepare(const V (&sums)[kRowSums]) {
    const V per_x = inverse_norm(sums[0]);
    const V per_t = inverse_norm(sums[1]);
    const V cosine = sums[2] * per_x * per_t;
    return {
        V(1) - cosine, {cosine * per_x * per_x, per_x * per_t}
    };
  }
  template <class V>
  FNN_HD static V gradient(V x, V t, const V (&factors)[kRowFactors]) {
    return fma(x, factors[0], -(t * factors[1]));
  }

 private:
  template <class V>
  FNN_HD static V inverse_norm(V square) {
    return select(square == V(0), V(0), V(1) / sqrt(square));
  }
};

using RowwiseLosses =
    TypeList<SoftmaxCrossEntropy, CategoricalCrossEntropy, KlDivergenceLogits, Cosine>;

}  // namespace fusednn::rules
