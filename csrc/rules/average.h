// SPDX-License-Identifier: Apache-2.0
// Moving averages, as optimizers and normalisation keep them.
#pragma once

#include <stdint.h>

#include "core/hd.h"
#include "core/math.h"

namespace fusednn::rules {

// average + weight * (x - average), as two fused steps. Exactly x at weight 1, without the
// cancellation of x - average, and the share that stays is exactly one minus the share that comes:
// 0.999f and 0.001f do not add up to 1, and after thousands of steps an average would show it.
template <class V>
FNN_HD V lerp(V average, V x, V weight) {
  return fma(weight, x, fma(-weight, average, average));
}

// The same with x * x, which may overflow where weight * x * x does not.
template <class V>
FNN_HD V lerp_square(V average, V x, V weight) {
  return fma(weight * x, x, fma(-weight, average, average));
}

// 1 - beta^t without cancellation: what an average that started at 0 lacks after t steps.
FNN_HD double bias_correction(double beta, int64_t t) {
  return -expm1(static_cast<double>(t) * log(beta));
}

}  // namespace fusednn::rules
