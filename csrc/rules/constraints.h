// SPDX-License-Identifier: Apache-2.0
// Bounds that hold for weights after each update.
#pragma once

#include "core/hd.h"
#include "core/math.h"

namespace fusednn::rules {

// NaN stays.
template <class V>
FNN_HD V not_negative(V x) {
  return max(V(0), x);
}

// What a column of this norm is multiplied by: its norm becomes rate * clip(norm, low, high) +
// (1 - rate) * norm. (Keras' MinMaxNorm; low = 0 and rate = 1 is its MaxNorm, low = high its UnitNorm.)
template <class V>
FNN_HD V norm_factor(V norm, V low, V high, V rate) {
  const V wanted = rate * min(high, max(low, norm)) + (V(1) - rate) * norm;
  return wanted / (norm + V(1e-7));
}

}  // namespace fusednn::rules
