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

// The averages of optimizers, rounded where PyTorch's CPU kernels round, so that a hundred steps in
// float32 end where PyTorch's do. First torch.lerp, which is exact at both ends ...
template <class V>
FNN_HD V average_of(V average, V x, V weight) {
  const auto nearer = weight < V(0.5);
  return fma(x - average, select(nearer, weight, weight - V(1)), select(nearer, average, x));
}

// ... and keep * average + weight * x², with keep = 1 - weight before both are rounded.
template <class V>
FNN_HD V average_of_square(V average, V x, V keep, V weight) {
  return fma(weight * x, x, keep * average);
}

// 1 - beta^t without cancellation: what an average that started at 0 lacks after t steps.
FNN_HD double bias_correction(double beta, int64_t t) {
  return -expm1(static_cast<double>(t) * log(beta));
}

}  // namespace fusednn::rules
