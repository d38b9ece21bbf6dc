// SPDX-License-Identifier: Apache-2.0
// Dropout: which random words keep an element, and what becomes of it.
#pragma once

#include <stdint.h>

#include "core/hd.h"
#include "core/math.h"

namespace fusednn::rules {

// An element is kept if its random word is below this: the number of 32-bit words that are less than
// (1 - rate) * 2^32. At 2^32 all elements are kept, and no word needs to be drawn.
FNN_HD uint64_t words_that_keep(double rate) {
  const double bound = (1 - rate) * 0x1p32;
  const uint64_t whole = static_cast<uint64_t>(bound);
  return whole + (static_cast<double>(whole) < bound);
}

constexpr uint64_t kAllWords = uint64_t(1) << 32;

// What a kept element is multiplied by, so that the expectation stays.
FNN_HD double dropout_scale(double rate) { return rate < 1 ? 1 / (1 - rate) : 0; }

// A dropped element is 0 even where x is not finite.
template <class Mask, class V>
FNN_HD V dropout(Mask keep, V x, V scale) {
  return select(keep, x * scale, V(0));
}

}  // namespace fusednn::rules
