// SPDX-License-Identifier: Apache-2.0
// Dropout and noise: which random words keep an element, and what becomes of it.
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

// What becomes of an element: x * scale + shift if it is kept, `dropped` if not, even where x is not
// finite. Adding -0 leaves everything as it is.
struct Masking {
  double scale = 1, shift = -0.0, dropped = 0;
};

// The expectation stays.
FNN_HD Masking masking(double rate) { return {rate < 1 ? 1 / (1 - rate) : 0, -0.0, 0}; }

// Klambauer et al., "Self-normalizing neural networks" (2017): dropped elements become SELU's lowest
// value, and a line then restores mean 0 and variance 1.
FNN_HD Masking alpha_masking(double rate, bool gradient) {
  constexpr double lowest = -1.6732632423543772 * 1.0507009873554805;
  const double scale = 1 / sqrt((1 - rate) * (1 + rate * lowest * lowest));
  if (gradient) return {scale, -0.0, 0};
  const double shift = -scale * lowest * rate;
  return {scale, shift, scale * lowest + shift};
}

template <class Mask, class V>
FNN_HD V masked(Mask keep, V x, V scale, V shift, V dropped) {
  return select(keep, x * scale + shift, dropped);
}

// The value below which a normal variable lies with probability (1 + u) / 2, for -1 < u < 1: the
// inverse error function times sqrt 2, as M. Giles approximates it ("Approximating the erfinv
// function", GPU Computing Gems, 2011), to 1e-6 of the value.
template <class V>
FNN_HD V normal_of(V u) {
  const V w = -log((V(1) - u) * (V(1) + u));
  const auto line = [](V x, const double (&c)[9]) {
    V sum(c[0]);
    for (int k = 1; k < 9; ++k) sum = fma(sum, x, V(c[k]));
    return sum;
  };
  const V middle =
      line(w - V(2.5), {2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06,
                        0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941});
  const V tail =
      line(sqrt(w) - V(3), {-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844,
                            0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682});
  return V(1.4142135623730951) * u * select(w < V(5), middle, tail);
}

// A uniform value in (-1, 1) of a word, given 1 + the 23 upper bits of it / 2^23. Never -1 or 1.
template <class V>
FNN_HD V symmetric(V one_and) {
  return V(2) * one_and - V(3) + V(0x1p-23);
}

// x (1 + deviation n) or x + deviation n. The mean stays.
template <class V>
FNN_HD V with_factor(V x, V normal, V deviation) {
  return fma(x * deviation, normal, x);
}
template <class V>
FNN_HD V with_term(V x, V normal, V deviation) {
  return fma(deviation, normal, x);
}

}  // namespace fusednn::rules
