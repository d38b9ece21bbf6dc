// SPDX-License-Identifier: Apache-2.0
// Stochastic rounding of float32 to bfloat16: up or down to a neighbour, with such probabilities that
// the mean is the number itself. A step that is too small for any rounding to nearest to show it still
// counts, now and then (Gupta et al., "Deep learning with limited numerical precision", ICML 2015).
//
// The noise of an element is 16 bits that follow from the seed, the step, the tensor and the place of
// the element alone: half-word e % 8 of the Philox block number e / 8. Eight neighbours share a block,
// which is what a CUDA thread holds, and a block in memory has their bits in their order.
//
//   counter = { block (low), block (high) + 2^28 * which, step, 2^31 + tensor },  key = { seed }
#pragma once

#include <stdint.h>

#include "core/hd.h"
#include "core/math.h"
#include "core/philox.h"

namespace fusednn::rules {

constexpr int kNoiseBlock = 8;  // elements

// Whose noise it is: `tensor` counts those of an optimizer.
struct NoiseKey {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t tensor = 0;
};

// A block of noise, or lanes of blocks whose numbers share their high half. `which` tells what is
// rounded apart: 0 for the parameter, 1, 2, ... for its states.
template <class U>
FNN_HD PhiloxBlock<U> noise_block(const NoiseKey& key, int which, U low, uint32_t high) {
  const uint32_t place = high + (static_cast<uint32_t>(which) << 28);
  return philox(
      PhiloxBlock<U>{
          {low, U(place), U(key.step), U(0x80000000u + key.tensor)}
  },
      static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

// The bfloat16 of a float32's bits, given 16 bits of noise: what is cut off carries as often as it is
// great. A bfloat16 stays what it is, and so does an infinity; a NaN becomes a quiet one.
template <class U>
FNN_HD U round_at_random(U bits, U noise) {
  const auto is_nan = U(0x7f800000u) < (bits & U(0x7fffffffu));
  return select(is_nan, (bits >> 16) | U(0x40u), (bits + noise) >> 16);
}

}  // namespace fusednn::rules
