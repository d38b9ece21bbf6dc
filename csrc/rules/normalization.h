// SPDX-License-Identifier: Apache-2.0
// Batch and layer normalisation. (Ioffe and Szegedy, ICML 2015; Ba, Kiros and Hinton 2016.)
//   xhat = (x - mean) / sqrt(variance + eps), y = gamma xhat + beta
// Batch normalisation takes mean and variance over the rows of a column, layer normalisation over the
// columns of a row. Variances that normalise are biased (divided by n).
#pragma once

#include "core/hd.h"
#include "core/math.h"
#include "rules/average.h"

namespace fusednn::rules {

template <class V>
FNN_HD V inverse_deviation(V variance, V eps) {
  return V(1) / sqrt(variance + eps);
}

// y, where scale is gamma / sqrt(variance + eps). The mean comes off first: folded into beta, it would
// take the digits with it where it is large.
template <class V>
FNN_HD V normalize(V x, V mean, V scale, V beta) {
  return fma(x - mean, scale, beta);
}

// dx = gamma inverse (dy - mean(dy) - xhat mean(dy xhat)), in terms of x - mean instead of xhat:
// scale is gamma * inverse and slope is inverse² mean(dy (x - mean)). For layer normalisation gamma is
// already in dy.
template <class V>
FNN_HD V normalize_backward(V dy, V x_minus_mean, V mean_dy, V slope, V scale) {
  return scale * ((dy - mean_dy) - x_minus_mean * slope);
}

// Mean and sum of squared deviations of some numbers.
template <class V>
struct Moments {
  V mean, squares;
};

// The moments of two sets together (Chan, Golub and LeVeque 1979), of n_a and n_b numbers:
// share = n_b / (n_a + n_b), cross = n_a share.
template <class V>
FNN_HD Moments<V> merge(Moments<V> a, Moments<V> b, V share, V cross) {
  const V delta = b.mean - a.mean;
  return {fma(delta, share, a.mean), fma(delta * delta, cross, a.squares + b.squares)};
}

}  // namespace fusednn::rules
