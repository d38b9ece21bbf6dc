// SPDX-License-Identifier: Apache-2.0
// Update rules: what one optimizer step does to one parameter.
//
// A rule is a struct, derived from OptimizerRule (rules/update.h), with
//   Hyper, fields          its hyper-parameters, with PyTorch's defaults, and their names
//   states, n_states       tensors it keeps per parameter, by PyTorch's own names
//   Constants<R>           the numbers its update needs, all of type R and nothing else
//   prepare(h, c, t, m)    fills them, in double, once per step; the first is t = 1. On the host, or on
//                          the device where the count of steps is there
//   remember(h, c, t, m)   before that: moves numbers on that live from step to step, if it has any
//   update(c, p, g, s)     the new parameter, from the old one, the gradient and the state, which
//                          is changed in place
// Libraries write the same optimizer differently. Every difference becomes a constant in prepare(),
// so update() is one straight line for all conventions. Bytes per parameter are counted in float32:
// each tensor is read once, and written back once where it changes. Adam and its relatives are in
// rules/adam.h.
#pragma once

#include "rules/adam.h"
#include "rules/update.h"

namespace fusednn::rules {

// ---- gradient descent ----------------------------------------------------------------------------

// p -= lr g. (Cauchy 1847; Robbins and Monro 1951.) All libraries agree. 12 bytes per parameter.
struct Sgd : OptimizerRule {
  static constexpr char name[] = "sgd";
  struct Hyper {
    double lr = 1e-3;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr", &Hyper::lr}
  };
  static constexpr int n_states = 0;
  static constexpr const char* const* states = nullptr;

  template <class R>
  struct Constants {
    R step;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention, int64_t, const double*) {
    return {-h.lr};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V*) {
    return fma(c.step, g, p);
  }
};

// Heavy ball (Polyak 1964) and Nesterov (1983, in the form of Sutskever et al. 2013).
//   torch     b = momentum b + (1 - dampening) g, at first b = g; p -= lr b
//             Nesterov: p -= lr (g + momentum b)
//   keras     b = momentum b - lr g; p += b
//             Nesterov: p += momentum b - lr g
//   textbook  b = momentum b + (1 - momentum) g; p -= lr b
//             Nesterov: as torch without dampening
// Keras' buffer holds steps, so a change of lr reaches it slowly. `dampening` is torch's alone. Where
// the textbook takes Nesterov's gradient ahead of p, p here is that point ahead.
// 20 bytes per parameter.
struct Momentum : OptimizerRule {
  static constexpr char name[] = "momentum";
  // PyTorch's default momentum is 0, which is the rule above.
  struct Hyper {
    double lr = 1e-3, momentum = 0.9, dampening = 0, nesterov = 0;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",        &Hyper::lr       },
      {"momentum",  &Hyper::momentum },
      {"dampening", &Hyper::dampening},
      {"nesterov",  &Hyper::nesterov }
  };
  static constexpr int n_states = 1;
  static constexpr const char* states[] = {"momentum_buffer"};

  template <class R>
  struct Constants {
    R decay, gain, buffer, gradient, step;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double*) {
    const bool keras = convention == Convention::keras;
    const double decay = h.momentum;
    double gain = t == 1 ? 1 : 1 - h.dampening;
    if (keras) gain = -h.lr;
    if (convention == Convention::textbook) gain = h.nesterov != 0 ? 1 : 1 - h.momentum;
    const double step = keras ? 1 : -h.lr;  // what stands before the buffer
    if (h.nesterov == 0) return {decay, gain, 1, 0, step};
    return {decay, gain, decay, keras ? -h.lr : 1, step};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = fma(c.gain, g, c.decay * state[0]);
    // An infinite gradient must not come back as 0 * infinity.
    const V ahead = select(c.gradient == V(0), V(0), c.gradient * g);
    return fma(c.step, fma(c.buffer, state[0], ahead), p);
  }
};

// ---- a step size for each parameter ----------------------------------------------------------------

// s += g²; p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s + e1) + e2). Duchi, Hazan and Singer,
// JMLR 2011. torch: e2 = eps. keras, textbook: e1 = eps; Keras starts s at 0.1. 20 bytes per
// parameter.
struct Adagrad : OptimizerRule {
  static constexpr char name[] = "adagrad";
  struct Hyper {
    double lr = 1e-2, lr_decay = 0, initial_accumulator_value = 0, eps = 1e-10;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",                        &Hyper::lr                       },
      {"lr_decay",                  &Hyper::lr_decay                 },
      {"initial_accumulator_value", &Hyper::initial_accumulator_value},
      {"eps",                       &Hyper::eps                      }
  };
  static constexpr int n_states = 1;
  static constexpr const char* states[] = {"sum"};
  static double initial_state(const Hyper& h, Convention, int) {
    return h.initial_accumulator_value;
  }

  template <class R>
  struct Constants {
    R step, inner_eps, outer_eps;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t t,
                                          const double*) {
    const bool outer = convention == Convention::torch;
    return {-h.lr / (1 + static_cast<double>(t - 1) * h.lr_decay), outer ? 0 : h.eps,
            outer ? h.eps : 0};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = fma(g, g, state[0]);
    return p + c.step * g / (sqrt(state[0] + c.inner_eps) + c.outer_eps);
  }
};

// v = alpha v + (1 - alpha) g²; d = g / (sqrt(v + e1) + e2); p -= lr d. Tieleman and Hinton 2012.
//   centered  v - a² instead of v under the root, with a = alpha a + (1 - alpha) g (Graves 2013)
//   momentum  b = momentum b + d; p -= lr b;   keras: b = momentum b + lr d; p -= b
// torch: e2 = eps. keras, textbook: e1 = eps. Rounding can make v - a² negative, where PyTorch returns
// NaN; here it counts as 0. Bytes per parameter: 20, and 8 more for each of the two variants.
template <bool kCentered, bool kMomentum>
struct RmsPropRule : OptimizerRule {
  struct Hyper {
    double lr = 1e-2, alpha = 0.99, eps = 1e-8, momentum = 0.9;
  };
  static constexpr int n_states = 1 + kCentered + kMomentum;

  template <class R>
  struct Constants {
    R keep, weight, inner_eps, outer_eps, step, decay, gain;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention convention, int64_t,
                                          const double*) {
    const bool outer = convention == Convention::torch;
    const bool inside = kMomentum && convention == Convention::keras;  // lr inside the buffer
    return {h.alpha,    1 - h.alpha,      outer ? 0 : h.eps, outer ? h.eps : 0, inside ? -1 : -h.lr,
            h.momentum, inside ? h.lr : 1};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of_square(state[0], g, c.keep, c.weight);
    V square = state[0];
    if constexpr (kCentered) {
      state[1] = average_of(state[1], g, c.weight);
      square = max(V(0), fma(-state[1], state[1], square));
    }
    const V root = sqrt(square + c.inner_eps) + c.outer_eps;
    if constexpr (kMomentum) {
      V& buffer = state[n_states - 1];
      buffer = c.decay * buffer + c.gain * g / root;
      return fma(c.step, buffer, p);
    } else {
      return p + c.step * g / root;
    }
  }
};

struct RmsProp : RmsPropRule<false, false> {
  static constexpr char name[] = "rmsprop";
  static constexpr Field<Hyper> fields[] = {
      {"lr",    &Hyper::lr   },
      {"alpha", &Hyper::alpha},
      {"eps",   &Hyper::eps  }
  };
  static constexpr const char* states[] = {"square_avg"};
};

struct RmsPropMomentum : RmsPropRule<false, true> {
  static constexpr char name[] = "rmsprop_momentum";
  static constexpr Field<Hyper> fields[] = {
      {"lr",       &Hyper::lr      },
      {"alpha",    &Hyper::alpha   },
      {"eps",      &Hyper::eps     },
      {"momentum", &Hyper::momentum}
  };
  static constexpr const char* states[] = {"square_avg", "momentum_buffer"};
};

struct RmsPropCentered : RmsPropRule<true, false> {
  static constexpr char name[] = "rmsprop_centered";
  static constexpr Field<Hyper> fields[] = {
      {"lr",    &Hyper::lr   },
      {"alpha", &Hyper::alpha},
      {"eps",   &Hyper::eps  }
  };
  static constexpr const char* states[] = {"square_avg", "grad_avg"};
};

struct RmsPropCenteredMomentum : RmsPropRule<true, true> {
  static constexpr char name[] = "rmsprop_centered_momentum";
  static constexpr Field<Hyper> fields[] = {
      {"lr",       &Hyper::lr      },
      {"alpha",    &Hyper::alpha   },
      {"eps",      &Hyper::eps     },
      {"momentum", &Hyper::momentum}
  };
  static constexpr const char* states[] = {"square_avg", "grad_avg", "momentum_buffer"};
};

// v = rho v + (1 - rho) g²; d = sqrt(a + eps) / sqrt(v + eps) * g; a = rho a + (1 - rho) d²;
// p -= lr d. Zeiler 2012, where there is no lr: 1, PyTorch's default, is the paper. Keras has the same
// formula with lr = 0.001. 28 bytes per parameter.
struct Adadelta : OptimizerRule {
  static constexpr char name[] = "adadelta";
  struct Hyper {
    double lr = 1.0, rho = 0.9, eps = 1e-6;
  };
  static constexpr Field<Hyper> fields[] = {
      {"lr",  &Hyper::lr },
      {"rho", &Hyper::rho},
      {"eps", &Hyper::eps}
  };
  static constexpr int n_states = 2;
  static constexpr const char* states[] = {"square_avg", "acc_delta"};

  template <class R>
  struct Constants {
    R keep, weight, eps, step;
  };

  FNN_HD static Constants<double> prepare(const Hyper& h, Convention, int64_t, const double*) {
    return {h.rho, 1 - h.rho, h.eps, -h.lr};
  }

  template <class V>
  FNN_HD static V update(const Constants<V>& c, V p, V g, V* state) {
    state[0] = average_of_square(state[0], g, c.keep, c.weight);
    // One root of a quotient: roots and divisions are what takes the time, in cache.
    const V delta = sqrt((state[1] + c.eps) / (state[0] + c.eps)) * g;
    state[1] = average_of_square(state[1], delta, c.keep, c.weight);
    return fma(c.step, delta, p);
  }
};

using Optimizers =
    TypeList<Sgd, Momentum, Adagrad, RmsProp, RmsPropMomentum, RmsPropCentered,
             RmsPropCenteredMomentum, Adadelta, Adam, AmsGrad, Adamax, NAdam, RAdam, Lion, Lamb>;

}  // namespace fusednn::rules
