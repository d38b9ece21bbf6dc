// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), templated on
// the lane type U: uint32_t in a CUDA thread or on the host, a vector of them in a CPU kernel.
//
// Who gets which random word is part of the contract, so that a dropout mask is the same on every
// device and for every number of threads. Elements come in groups of 64, and a group takes 16
// counters: element e uses word (e / 16) % 4 of counter 16 * (e / 64) + e % 16. Four vectors of 16
// lanes then leave the generator in element order, with no shuffling of lanes.
//
//   counter = { position (low), position (high), step, stream },  key = { seed (low), seed (high) }
#pragma once

#include <stdint.h>

#include "core/hd.h"

namespace fusednn {

constexpr int kPhiloxGroup = 64;  // elements that share a block of counters
constexpr int kPhiloxLanes = 16;  // counters in such a block

template <class U>
struct PhiloxBlock {
  U word[4];
};

// The scalar lane of the generator's only exotic operation; vectors bring their own by ADL.
FNN_HD void mulhilo(uint32_t a, uint32_t b, uint32_t& high, uint32_t& low) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  high = static_cast<uint32_t>(product >> 32);
  low = static_cast<uint32_t>(product);
}

template <class U>
FNN_HD PhiloxBlock<U> philox(PhiloxBlock<U> counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    U high0, low0, high1, low1;
    mulhilo(counter.word[0], 0xD2511F53u, high0, low0);
    mulhilo(counter.word[2], 0xCD9E8D57u, high1, low1);
    counter = {
        {high1 ^ counter.word[1] ^ U(key0), low1, high0 ^ counter.word[3] ^ U(key1), low0}
    };
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace fusednn
