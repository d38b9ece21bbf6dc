// SPDX-License-Identifier: Apache-2.0
// What batch and layer normalisation share.
#pragma once

#include "cpu/kernels/loops.h"
#include "engine/backend.h"
#include "rules/normalization.h"

namespace fusednn::FNN_ISA {

// Sums over rows are taken in chunks: of at least this many rows, and at most 64 chunks.
FNN_HD Index rows_per_chunk(Index rows, Index least) {
  while ((rows + least - 1) / least > 64) least *= 2;
  return least;
}

// A vector that may be missing: gamma or beta.
template <class V>
FNN_HD V load_or(const void* p, Index i, int lanes, double missing) {
  return p ? V::load(static_cast<const typename V::Scalar*>(p) + i, lanes) : V(missing);
}

// A gradient that may not be wanted: dgamma or dbeta.
template <class V>
FNN_HD void store_gradient(const NormBackward& op, void* p, V value, Index i, int lanes) {
  using T = typename V::Scalar;
  if (p == nullptr) return;
  T* gradient = static_cast<T*>(p) + i;
  if (op.accumulate_parameters) value += V::load(gradient, lanes);
  value.store(gradient, lanes);
}

}  // namespace fusednn::FNN_ISA
