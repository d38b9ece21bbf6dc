// SPDX-License-Identifier: Apache-2.0
// Adam and its relatives. What a rule consists of: rules/optimizers.h.
//
// In the formulas m and v are the averages of g and g², m̂ and v̂ the same with their bias corrected.
#pragma once

#include "rules/update.h"

namespace fusednn::rules {

// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p -= lr m̂ / (sqrt(v̂) + eps), with m̂ = m / (1 - b1^t)
// and v̂ = v / (1 - b2^t). Kingma and Ba, ICLR 2015, Algorithm 1: torch and textbook.
// keras: p -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps), so eps weighs more in early steps.
// AdamW is this rule with decoupled decay. 28 bytes per parameter.
struct Adam : OptimizerRule {
  static constexpr char name[] = "adam";
  struct Hyper {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",    &Hyper::lr   },
      {"beta1", &Hyper::beta1},
      {"beta2", &Hyper::beta2},
      {"eps",   &Hyper::eps  }
  };
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"exp_avg", "exp_avg_sq"};

  template <class R>
  struct Constants {
    R weight1, keep2, weight2, step, root, eps;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double*) {
    const double step = -h.lr / bias_correction(h.beta1, t);
    const double root = sqrt(bias_correction(h.beta2, t));
    if (convention == Convention::keras)
      return {1 - h.beta1, h.beta2, 1 - h.beta2, step * root, 1, h.eps};
    return {1 - h.beta1, h.beta2, 1 - h.beta2, step, 1 / root, h.eps};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = average_of_square(state[1], g, c.keep2, c.weight2);
    return p + c.step * state[0] / fma(c.root, sqrt(state[1]), c.eps);
  }
};

// Adam with the greatest v so far in place of v. Reddi, Kale and Kumar, ICLR 2018. Conventions differ as
// in Adam; the paper itself corrects no bias. 36 bytes per parameter.
struct AmsGrad : OptimizerRule {
  static constexpr char name[] = "amsgrad";
  using Hyper = Adam::Hyper;
  static constexpr auto& fields = Adam::fields;
  static constexpr int n_states = 3;
  static constexpr const char* states[] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};

  template <class R>
  using Constants = Adam::Constants<R>;

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double* memory) {
    return Adam::prepare(h, convention, t, memory);
  }

  template <class V>
  FNN_HD static V update(const Adam::Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = average_of_square(state[1], g, c.keep2, c.weight2);
    state[2] = max(state[2], state[1]);
    return p + c.step * state[0] / fma(c.root, sqrt(state[2]), c.eps);
  }
};

// m as in Adam; u = max(b2 u, |g| + e1); p -= lr / (1 - b1^t) * m / (u + e2). Kingma and Ba, ICLR 2015,
// Algorithm 2. torch: e1 = eps. keras: e2 = eps. textbook: neither, but a parameter that has never seen
// a gradient must not become 0 / 0, hence an e1 too small to show. 28 bytes per parameter.
struct Adamax : OptimizerRule {
  static constexpr char name[] = "adamax";
  struct Hyper {
    double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",    &Hyper::lr   },
      {"beta1", &Hyper::beta1},
      {"beta2", &Hyper::beta2},
      {"eps",   &Hyper::eps  }
  };
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"exp_avg", "exp_inf"};

  template <class R>
  struct Constants {
    R weight1, beta2, step, inner_eps, outer_eps;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double*) {
    const double smallest = 1.17549435082228751e-38;  // that float32 holds in full
    const double inner = convention == Convention::torch   ? h.eps
                         : convention == Convention::keras ? 0
                                                           : smallest;
    const double outer = convention == Convention::keras ? h.eps : 0;
    return {1 - h.beta1, h.beta2, -h.lr / bias_correction(h.beta1, t), inner, outer};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = max(c.beta2 * state[1], abs(g) + c.inner_eps);
    return p + c.step * state[0] / (state[1] + c.outer_eps);
  }
};

// Adam with Nesterov momentum: p -= lr (cm m + cg g) / (sqrt(v̂) + eps). Dozat 2016.
//   torch     mu_t = b1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 ... mu_t,
//             cm = mu_(t+1) / (1 - M_(t+1)), cg = (1 - mu_t) / (1 - M_t)
//   keras     the same with momentum_decay = 1
//   textbook  cm = b1 / (1 - b1^t), cg = (1 - b1) / (1 - b1^t)
// memory[0] is M_t (PyTorch's mu_product, which is kept in float32 there). 28 bytes per parameter.
struct NAdam : OptimizerRule {
  static constexpr char name[] = "nadam";
  struct Hyper {
    double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum_decay = 4e-3;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",             &Hyper::lr            },
      {"beta1",          &Hyper::beta1         },
      {"beta2",          &Hyper::beta2         },
      {"eps",            &Hyper::eps           },
      {"momentum_decay", &Hyper::momentum_decay}
  };
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"exp_avg", "exp_avg_sq"};
  static constexpr int n_memory = 1;
  static constexpr const char* memory_names[] = {"mu_product"};
  static constexpr double memory_start[] = {1};

  FNN_HD static double mu(const Hyper& h, Convention convention, int64_t t) {
    const double decay = convention == Convention::keras ? 1 : h.momentum_decay;
    return h.beta1 * (1 - 0.5 * __builtin_pow(0.96, static_cast<double>(t) * decay));
  }

  template <class R>
  FNN_HD static void remember(const Hyper& h, Convention convention, int64_t t, R* memory) {
    memory[0] *= static_cast<R>(mu(h, convention, t));
  }

  template <class R>
  struct Constants {
    R weight1, keep2, weight2, step_average, step_gradient, root, eps;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double* memory) {
    const double root = 1 / sqrt(bias_correction(h.beta2, t));
    if (convention == Convention::textbook) {
      const double step = -h.lr / bias_correction(h.beta1, t);
      return {1 - h.beta1, h.beta2, 1 - h.beta2, step * h.beta1, step * (1 - h.beta1), root, h.eps};
    }
    const double now = mu(h, convention, t), next = mu(h, convention, t + 1);
    const double product = memory[0];
    return {1 - h.beta1,
            h.beta2,
            1 - h.beta2,
            -h.lr * next / (1 - product * next),
            -h.lr * (1 - now) / (1 - product),
            root,
            h.eps};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = average_of_square(state[1], g, c.keep2, c.weight2);
    const V each = V(1) / fma(c.root, sqrt(state[1]), c.eps);
    p = fma(c.step_gradient * g, each, p);  // one after the other, as PyTorch
    return fma(c.step_average * state[0], each, p);
  }
};

// Adam whose early steps, where v is not yet to be trusted, are plain momentum. Liu et al., ICLR 2020.
//   rho_t = rho - 2 t b2^t / (1 - b2^t) with rho = 2 / (1 - b2) - 1
//   rho_t > 5: p -= lr r_t m̂ sqrt(1 - b2^t) / (sqrt(v) + eps), else p -= lr m̂
//   r_t² = (rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2) rho_t)
// The paper prints rho_t > 4; its authors' code and PyTorch use 5, and so do all conventions here. Keras
// has no RAdam. 28 bytes per parameter.
struct RAdam : OptimizerRule {
  static constexpr char name[] = "radam";
  using Hyper = Adam::Hyper;
  static constexpr auto& fields = Adam::fields;
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"exp_avg", "exp_avg_sq"};

  template <class R>
  struct Constants {
    R weight1, keep2, weight2, step, root, eps;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention, int64_t t, const double*) {
    const double step = -h.lr / bias_correction(h.beta1, t);
    const double correction = bias_correction(h.beta2, t);
    const double rho = 2 / (1 - h.beta2) - 1;
    const double rho_t = rho - 2 * static_cast<double>(t) * (1 - correction) / correction;
    if (!(rho_t > 5)) return {1 - h.beta1, h.beta2, 1 - h.beta2, step, 0, 1};
    const double rectification =
        sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t) * correction);
    return {1 - h.beta1, h.beta2, 1 - h.beta2, step * rectification, 1, h.eps};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = average_of_square(state[1], g, c.keep2, c.weight2);
    // root is 0 or 1, and an overflow in v must not come back as 0 * infinity.
    const V root = select(c.root > V(0), sqrt(state[1]), V(0));
    return fma(c.step, state[0] / (root + c.eps), p);
  }
};

// p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g. Chen et al., NeurIPS 2023. Keras has the same
// formula, PyTorch no Lion; the paper's decay is decoupled. 20 bytes per parameter.
struct Lion : OptimizerRule {
  static constexpr char name[] = "lion";
  struct Hyper {
    double lr = 1e-4, beta1 = 0.9, beta2 = 0.99;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",    &Hyper::lr   },
      {"beta1", &Hyper::beta1},
      {"beta2", &Hyper::beta2}
  };
  static constexpr int n_states = 1;
  static constexpr const char* states[] = {"exp_avg"};

  template <class R>
  struct Constants {
    R weight1, weight2, step;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention, int64_t, const double*) {
    return {1 - h.beta1, 1 - h.beta2, -h.lr};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    p = fma(c.step, sign(average_of(state[0], g, c.weight1)), p);
    state[0] = average_of(state[0], g, c.weight2);
    return p;
  }
};

// u = m̂ / (sqrt(v̂) + eps) + weight_decay p; p -= lr |p| / |u| * u, with norms over each tensor alone,
// and a ratio of 1 where either is 0. You et al., ICLR 2020. Keras' Lamb is the same without
// weight_decay; PyTorch has none. Two passes, the second of which computes u again instead of storing
// it: 40 bytes per parameter.
struct Lamb : OptimizerRule {
  static constexpr char name[] = "lamb";
  struct Hyper {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",           &Hyper::lr          },
      {"beta1",        &Hyper::beta1       },
      {"beta2",        &Hyper::beta2       },
      {"eps",          &Hyper::eps         },
      {"weight_decay", &Hyper::weight_decay}
  };
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"exp_avg", "exp_avg_sq"};
  static constexpr bool layerwise = true;

  template <class R>
  struct Constants {
    R weight1, keep2, weight2, average, root, eps, decay, step;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention, int64_t t, const double*) {
    return {1 - h.beta1,
            h.beta2,
            1 - h.beta2,
            1 / bias_correction(h.beta1, t),
            1 / sqrt(bias_correction(h.beta2, t)),
            h.eps,
            h.weight_decay,
            -h.lr};
  }

  template <class V>
  FNN_HD static void moments(const Constants<V>& c, V g, V* state) {
    state[0] = average_of(state[0], g, c.weight1);
    state[1] = average_of_square(state[1], g, c.keep2, c.weight2);
  }

  template <class V>
  FNN_HD static V direction(const Constants<V>& c, V p, const V* state) {
    return fma(c.decay, p, c.average * state[0] / fma(c.root, sqrt(state[1]), c.eps));
  }

  FNN_HD static double trust_ratio(double norm_p, double norm_u) {
    return norm_p == 0 || norm_u == 0 ? 1 : norm_p / norm_u;
  }

  template <class V>
  FNN_HD static V apply(const Constants<V>& c, V p, V direction, V ratio) {
    return fma(c.step * ratio, direction, p);
  }
};

}  // namespace fusednn::rules
