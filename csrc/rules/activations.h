// SPDX-License-Identifier: Apache-2.0
// Activations: elementwise functions and their derivatives.
//
// Every rule is defined for all numbers: at an infinity it takes its limit, it never overflows on the
// way, and a NaN stays a NaN in value and derivative. At a kink the derivative is the one of torch.
//
// A rule saves its output where the derivative is simple in it: the input need not be kept then, and
// the activation can run in place. It saves its input where the output does not tell the input.
// Derivatives taken from the output have a small absolute, not a small relative, error where the
// output is next to an asymptote (1 - y for y near 1).
#pragma once

#include "core/hd.h"
#include "core/math.h"
#include "core/parameter.h"
#include "core/type_list.h"
#include "rules/lanes.h"

namespace fusednn::rules {

enum class Saves { output, input };  // what the derivative reads

// y = x.
struct Linear {
  static constexpr char name[] = "linear";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return x;
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return keep_nan(y, V(1));
  }
};

// y = max(x, 0), y' = 1 for x > 0, else 0 (Nair and Hinton 2010). y > 0 tells x > 0.
struct Relu {
  static constexpr char name[] = "relu";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return max(V(0), x);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return keep_nan(y, select(y > V(0), V(1), V(0)));
  }
};

// y = x for x > 0, else slope x (Maas et al. 2013). The slope is not negative, so y > 0 tells x > 0.
struct LeakyRelu {
  static constexpr char name[] = "leaky_relu";
  static constexpr Parameters<1> parameters{{{"negative_slope", 0.01, 0.0, kInfinity}}};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V* a) {
    return select(x > V(0), x, a[0] * x);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V* a) {
    return keep_nan(y, select(y > V(0), V(1), a[0]));
  }
};

// y = x for x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016); there y' = y + alpha.
struct Elu {
  static constexpr char name[] = "elu";
  static constexpr Parameters<1> parameters{{{"alpha", 1.0, 0.0, kInfinity}}};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V* a) {
    return select(x > V(0), x, a[0] * expm1(x));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V* a) {
    return select(y > V(0), V(1), y + a[0]);
  }
};

// y = scale elu(x, alpha), with the constants that keep mean 0 and variance 1 as a fixed point
// (Klambauer et al. 2017). For x <= 0, y' = y + scale alpha.
struct Selu {
  static constexpr char name[] = "selu";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  static constexpr double kAlpha = 1.6732632423543772848170429916717;
  static constexpr double kScale = 1.0507009873554804934193349852946;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return select(x > V(0), V(kScale) * x, V(kScale * kAlpha) * expm1(x));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return select(y > V(0), V(kScale), y + V(kScale * kAlpha));
  }
};

// y = x P(x) with the normal distribution P(x) = (1 + erf(x / sqrt 2)) / 2, y' = P(x) + x p(x)
// (Hendrycks and Gimpel 2016). Not monotonic, so the input is saved. Beyond 40 the factor of x is 0
// or 1 in any precision; stopping there avoids 0 * infinity.
struct Gelu {
  static constexpr char name[] = "gelu";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::input;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V finite = max(V(-40), x);
    return finite * distribution(finite);
  }
  template <class V>
  FNN_HD static V derivative(V x, const V*) {
    const V finite = clamp(x, V(-40), V(40));
    const V density = V(0.39894228040143267794) * exp(V(-0.5) * finite * finite);
    return fma(finite, density, distribution(finite));
  }

 private:
  template <class V>
  FNN_HD static V distribution(V x) {
    return fma(V(0.5), erf(x * V(0.70710678118654752440)), V(0.5));
  }
};

// y = x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks and Gimpel 2016), which
// is x s(2u) with the logistic function s: cheaper than tanh, and right in the tail. Not monotonic, so
// the input is saved.
struct GeluTanh {
  static constexpr char name[] = "gelu_tanh";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::input;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V finite = max(V(-40), x);
    return finite / (V(1) + exp(-twice_u(finite)));
  }
  template <class V>
  FNN_HD static V derivative(V x, const V*) {
    const V finite = clamp(x, V(-40), V(40));
    const Logistic<V> s(twice_u(finite));
    const V slope = fma(V(3 * kScale * kCubic), finite * finite, V(kScale));
    return fma(finite * slope, s.derivative(), s.value);
  }

 private:
  static constexpr double kScale = 1.5957691216057307117;  // 2 sqrt(2 / pi)
  static constexpr double kCubic = 0.044715;
  template <class V>
  FNN_HD static V twice_u(V x) {
    return x * fma(V(kScale * kCubic), x * x, V(kScale));
  }
};

// y = x s(x) with the logistic function s, also called swish (Elfwing et al. 2018). Not monotonic, so
// the input is saved. At -1000 the factor s has vanished in any precision.
struct Silu {
  static constexpr char name[] = "silu";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::input;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V finite = max(V(-1000), x);
    return finite / (V(1) + exp(-finite));
  }
  template <class V>
  FNN_HD static V derivative(V x, const V*) {
    const V finite = clamp(x, V(-1000), V(1000));
    const Logistic<V> s(finite);
    return fma(finite, s.derivative(), s.value);
  }
};

// y = 1 / (1 + exp(-x)), y' = y (1 - y). An exponential that overflows gives the limit 0.
struct Sigmoid {
  static constexpr char name[] = "sigmoid";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return V(1) / (V(1) + exp(-x));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return y * (V(1) - y);
  }
};

// y = min(max(x + 3, 0), 6) / 6, as torch (Keras before 3 had another slope). 0 < y < 1 tells that
// x lies between the kinks.
struct HardSigmoid {
  static constexpr char name[] = "hard_sigmoid";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return clamp(x + V(3), V(0), V(6)) / V(6);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return keep_nan(y, select((y > V(0)) & (y < V(1)), V(1.0 / 6), V(0)));
  }
};

// y = tanh(x), y' = 1 - y^2.
struct Tanh {
  static constexpr char name[] = "tanh";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return tanh(x);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return fma(-y, y, V(1));
  }
};

// y = log(1 + exp(x)), y' = 1 / (1 + exp(-x)) = 1 - exp(-y) (Dugas et al. 2001). The form below
// cannot overflow.
struct Softplus {
  static constexpr char name[] = "softplus";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return max(V(0), x) + log1p_unit(exp(-abs(x)));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return -expm1(-y);
  }
};

// y = x / (1 + |x|), y' = 1 / (1 + |x|)^2 = (1 - |y|)^2 (Turian et al. 2009). From 1e30 on y is 1 in any
// precision; stopping there avoids infinity / infinity.
struct Softsign {
  static constexpr char name[] = "softsign";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V size = min(V(1e30), abs(x));
    return copysign(size / (V(1) + size), x);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    const V rest = V(1) - abs(y);
    return rest * rest;
  }
};

// y = x tanh(log(1 + exp(x))) (Misra 2019). With e = exp(x) and n = e (e + 2) the factor of x is
// n / (n + 2), and its derivative is 4 e (e + 1) / (n + 2)^2. From 22 on the factor is 1 in any
// precision, and at -1000 it is 0. Not monotonic, so the input is saved.
struct Mish {
  static constexpr char name[] = "mish";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::input;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V e = exp(min(V(22), x));
    const V n = e * (e + V(2));
    return max(V(-1000), x) * (n / (n + V(2)));
  }
  template <class V>
  FNN_HD static V derivative(V x, const V*) {
    const V finite = clamp(x, V(-1000), V(22));
    const V e = exp(finite);
    const V n = e * (e + V(2));
    const V inverse = V(1) / (n + V(2));
    const V slope = V(4) * e * (e + V(1)) * inverse * inverse;
    return fma(finite, slope, n * inverse);
  }
};

// y = min(max(x, 0), 6), y' = 1 for 0 < x < 6, else 0 (Krizhevsky 2010). y tells where x lies.
struct Relu6 {
  static constexpr char name[] = "relu6";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return clamp(x, V(0), V(6));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return keep_nan(y, select((y > V(0)) & (y < V(6)), V(1), V(0)));
  }
};

// y = x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019), y' = 0 for x <= -3, 1 for x >= 3, else
// x / 3 + 1/2. Not monotonic, so the input is saved. Below -3 the factor is 0; stopping there avoids
// 0 * infinity.
struct HardSwish {
  static constexpr char name[] = "hard_swish";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::input;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    const V finite = max(V(-3), x);
    return finite * (min(V(6), finite + V(3)) / V(6));
  }
  template <class V>
  FNN_HD static V derivative(V x, const V*) {
    const V middle = x / V(3) + V(0.5);
    return select(x >= V(3), V(1), select(x <= V(-3), V(0), middle));
  }
};

// y = exp(x) = y'. Overflows to infinity where the function itself does.
struct Exponential {
  static constexpr char name[] = "exponential";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return exp(x);
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return y;
  }
};

// y = log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)), y' = 1 - exp(y). y tells where x lies.
struct LogSigmoid {
  static constexpr char name[] = "log_sigmoid";
  static constexpr Parameters<0> parameters{};
  static constexpr Saves saves = Saves::output;
  template <class V>
  FNN_HD static V forward(V x, const V*) {
    return min(V(0), x) - log1p_unit(exp(-abs(x)));
  }
  template <class V>
  FNN_HD static V derivative(V y, const V*) {
    return -expm1(y);
  }
};

// An activation is named by its place here. Linear comes first: place 0 means none.
using Activations =
    TypeList<Linear, Relu, LeakyRelu, Elu, Selu, Gelu, GeluTanh, Silu, Sigmoid, HardSigmoid, Tanh,
             Softplus, Softsign, Mish, Relu6, HardSwish, Exponential, LogSigmoid>;

}  // namespace fusednn::rules
