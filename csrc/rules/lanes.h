// SPDX-License-Identifier: Apache-2.0
// Small functions that several rules are made of.
#pragma once

#include "core/hd.h"
#include "core/math.h"

namespace fusednn::rules {

// `value` where x is a number, else x: comparisons alone would turn a NaN into one of the cases.
template <class V>
FNN_HD V keep_nan(V x, V value) {
  return select(x == x, value, x);
}

// x limited to [low, high], with the NaN kept.
template <class V>
FNN_HD V clamp(V x, V low, V high) {
  return min(high, max(low, x));
}

// a * b, and 0 for a = 0 whatever b is.
template <class V>
FNN_HD V times_if(V a, V b) {
  return select(a == V(0), V(0), a * b);
}

// The logistic function s(x) = 1 / (1 + exp(-x)), its mirror s(-x) = 1 - s(x), and log(1 + exp(-|x|)),
// all from one exponential that cannot overflow and without cancellation in either tail.
template <class V>
struct Logistic {
  V small, value, mirror;
  FNN_HD explicit Logistic(V x) : small(exp(-abs(x))) {
    const V large_side = V(1) / (V(1) + small);
    const V small_side = small * large_side;
    value = select(x < V(0), small_side, large_side);
    mirror = select(x < V(0), large_side, small_side);
  }
  FNN_HD V derivative() const { return value * mirror; }
  FNN_HD V softening() const { return log1p_unit(small); }
};

}  // namespace fusednn::rules
