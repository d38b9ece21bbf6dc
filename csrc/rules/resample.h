// SPDX-License-Identifier: Apache-2.0
// Random affine transforms of images, and mixtures of samples: what is drawn, and where a pixel of the
// output lies in the input.
//
// Sample i draws the two blocks of words with the positions 2 i and 2 i + 1.
#pragma once

#include <stdint.h>

#include "core/affine.h"
#include "core/dtype.h"
#include "core/math.h"
#include "core/philox.h"

namespace fusednn::rules {

constexpr int kSampleWords = 8;

struct SampleWords {
  uint32_t word[kSampleWords];
};

FNN_HD SampleWords sample_words(Index sample, uint64_t step, uint32_t stream, uint64_t seed) {
  SampleWords words;
  for (uint64_t k = 0; k < 2; ++k) {
    const uint64_t position = 2 * static_cast<uint64_t>(sample) + k;
    const PhiloxBlock<uint32_t> block = philox(
        PhiloxBlock<uint32_t>{
            {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
             static_cast<uint32_t>(step), stream}
    },
        static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    for (int w = 0; w < 4; ++w) words.word[4 * k + static_cast<uint64_t>(w)] = block.word[w];
  }
  return words;
}

// A number in (0, 1).
FNN_HD double unit(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }
FNN_HD double within(Interval i, uint32_t word) { return i.low + (i.high - i.low) * unit(word); }
// A whole number in [0, n).
FNN_HD Index below(Index n, uint32_t word) {
  return static_cast<Index>((static_cast<uint64_t>(word) * static_cast<uint64_t>(n)) >> 32);
}

// Pixel (i, j) of the output lies at (top + yy i + yx j, left + xy i + xx j) of the input.
struct Affine {
  double top, yy, yx, left, xy, xx;
};

struct ImageSize {
  Index height, width;
};

// The window in the middle.
FNN_HD Affine middle(ImageSize in, ImageSize out) {
  return {static_cast<double>((in.height - out.height) / 2), 1, 0,
          static_cast<double>((in.width - out.width) / 2),   0, 1};
}

// The matrix is that of the way back, from the output to the input: the inverse of a turn is the turn
// the other way, and to see more of the image is to go further in it.
FNN_HD Affine affine_of(const RandomAffine& random, const SampleWords& drawn, ImageSize in,
                        ImageSize out) {
  const uint32_t* word = drawn.word;
  if (random.window) {
    return {static_cast<double>(below(in.height - out.height + 1, word[2])), 1, 0,
            static_cast<double>(below(in.width - out.width + 1, word[3])),   0, 1};
  }
  const double angle = within(random.angle, word[1]);
  const double sine = angle == 0 ? 0 : sin(angle), cosine = angle == 0 ? 1 : cos(angle);
  const double tall = within(random.tall, word[4]);
  const double wide = random.same_zoom ? tall : within(random.wide, word[5]);
  const double down = random.flip_down && (word[0] & 1u) != 0 ? -1 : 1;
  const double right = random.flip_right && (word[0] & 2u) != 0 ? -1 : 1;
  Affine a{};
  a.yy = down * cosine * tall;
  a.yx = right * sine * tall;
  a.xy = -down * sine * wide;
  a.xx = right * cosine * wide;
  const double middle_i = static_cast<double>(out.height - 1) / 2 + within(random.down, word[2]);
  const double middle_j = static_cast<double>(out.width - 1) / 2 + within(random.right, word[3]);
  a.top = static_cast<double>(in.height - 1) / 2 - a.yy * middle_i - a.yx * middle_j;
  a.left = static_cast<double>(in.width - 1) / 2 - a.xy * middle_i - a.xx * middle_j;
  return a;
}

// The place in [0, n) that stands for place k of an axis, or -1 for the fill value.
FNN_HD Index folded(Index k, Index n, FillMode mode) {
  if (k >= 0 && k < n) return k;
  if (mode == FillMode::constant) return -1;
  if (mode == FillMode::nearest) return k < 0 ? 0 : n - 1;
  const Index period = mode == FillMode::wrap ? n : 2 * n;
  Index rest = k % period;
  if (rest < 0) rest += period;
  return rest < n ? rest : period - 1 - rest;
}

// floor(x) and the rest, for places within 2^62 pixels.
FNN_HD Index whole_below(double x) {
  const Index whole = static_cast<Index>(x);
  return whole - (static_cast<double>(whole) > x);
}

template <class T>
FNN_HD T between(T a, T b, T share) {
  return fma(b - a, share, a);
}

// A number with the symmetric beta distribution of parameter alpha: (1 + t / sqrt(2 alpha + t²)) / 2 has
// it, where t has Student's distribution with 2 alpha degrees of freedom, and t is drawn as R. W. Bailey
// does ("Polar generation of random variates with the t-distribution", 1994).
FNN_HD double symmetric_beta(double alpha, uint32_t first, uint32_t second) {
  constexpr double kTurn = 6.283185307179586;
  const double left = exp(log(unit(first)) / alpha);
  const double cosine = cos(kTurn * unit(second));
  const double square = (1 - left) * cosine * cosine;
  return (1 + copysign(sqrt(square / (left + square)), cosine)) / 2;
}

// What sample i of a batch is mixed with: every sample with the one that is so many places on.
struct Mixture {
  Index partner;
  double share;  // of sample i itself
};

// The shift is drawn with the words that follow those of the samples.
FNN_HD Mixture mixture_of(Index sample, Index rows, double alpha, uint64_t step, uint32_t stream,
                          uint64_t seed) {
  if (rows < 2) return {sample, 1};
  const Index shift = 1 + below(rows - 1, sample_words(rows, step, stream, seed).word[0]);
  const SampleWords own = sample_words(sample, step, stream, seed);
  const Index partner = sample + shift < rows ? sample + shift : sample + shift - rows;
  return {partner, symmetric_beta(alpha, own.word[0], own.word[1])};
}

}  // namespace fusednn::rules
