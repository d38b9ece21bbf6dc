// SPDX-License-Identifier: Apache-2.0
// Dropout and noise with the random words of core/philox.h: what is drawn depends on seed, stream, step
// and place alone, so the backward pass draws it again instead of storing it.
//
// A thread draws four blocks whose counters follow each other. Word w of them belongs to four
// elements that follow each other, 16 elements after those of word w - 1.
#pragma once

#include "rules/dropout.h"

#include "core/philox.h"
#include "cuda/kernels/loops.cuh"

namespace fusednn::cuda {

constexpr int kWords = 4;
constexpr int kThreadsPerGroup = kPhiloxLanes / kQuad;

// What becomes of an element, given its word.
template <class T>
struct Masked {
  T scale, shift, dropped;
  uint32_t threshold;
  bool draws;  // false: every word is taken to be 0, which is below a threshold of 1

  FNN_HD Masked(const Dropout& op, const rules::Masking& m)
      : scale(T(m.scale)), shift(T(m.shift)), dropped(T(m.dropped)) {
    const uint64_t keeps = rules::words_that_keep(op.rate);
    draws = keeps < rules::kAllWords;
    threshold = draws ? static_cast<uint32_t>(keeps) : 1;
  }
  __device__ T operator()(uint32_t word, T x) const {
    return rules::masked(word < threshold, x, scale, shift, dropped);
  }
};

template <class T, bool kFactor>
struct Gaussian {
  T deviation;
  bool draws = true;

  FNN_HD explicit Gaussian(const Dropout& op) : deviation(T(op.deviation)) {}
  __device__ T operator()(uint32_t word, T x) const {
    const T normal = rules::normal_of(rules::symmetric(T(1) + T(word >> 9) * T(0x1p-23)));
    return kFactor ? rules::with_factor(x, normal, deviation)
                   : rules::with_term(x, normal, deviation);
  }
};

// f(change) with what becomes of the elements.
FNN_HD rules::Masking masking_of(const Dropout& op) {
  if (op.noise == Noise::mask) return rules::masking(op.rate);
  return rules::alpha_masking(op.rate, op.noise == Noise::alpha_gradient);
}

// f(change) with what becomes of the elements.
#pragma nv_exec_check_disable  // f is for the side that calls
template <class T, class F>
FNN_HD void with_noise(const Dropout& op, F f) {
  if (op.noise == Noise::factor) return f(Gaussian<T, true>(op));
  if (op.noise == Noise::term) return f(Gaussian<T, false>(op));
  f(Masked<T>(op, masking_of(op)));
}

FNN_HD Index blocks_of(const Dropout& op) {
  return divide_up(divide_up(op.n, kPhiloxGroup) * kThreadsPerGroup, kThreads);
}

// What falls to a block.
template <class T, class Change>
__device__ void change_elements(const Dropout& op, const Change& change, bool quads, Index block) {
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y);
  const Index thread = block * kThreads + threadIdx.x;
  const Index first_lane = thread % kThreadsPerGroup * kQuad;
  const Index group = thread / kThreadsPerGroup;
  const Index first = group * kPhiloxGroup + first_lane;
  if (first >= op.n) return;

  uint32_t words[kQuad][kWords] = {};
  if (change.draws) {
    const uint64_t position = static_cast<uint64_t>(group * kPhiloxLanes + first_lane);
    const uint32_t step = static_cast<uint32_t>(*op.step);  // its low half
    for (int q = 0; q < kQuad; ++q) {
      const uint64_t place = position + q;
      const PhiloxBlock<uint32_t> block = philox(
          PhiloxBlock<uint32_t>{
              {uint32_t(place), uint32_t(place >> 32), step, op.stream}
      },
          uint32_t(op.seed), uint32_t(op.seed >> 32));
      for (int w = 0; w < kWords; ++w) words[q][w] = block.word[w];
    }
  }
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    const Index place = first + w * kPhiloxLanes;
    const auto result = [&](T v, T old, int q) {
      const T changed = change(words[q][w], v);
      return op.accumulate ? old + changed : changed;
    };
    if (quads && place + kQuad <= op.n) {
      Quad<T> v = load_quad(x + place), old = {};
      if (op.accumulate) old = load_quad(y + place);
      for (int q = 0; q < kQuad; ++q) v.lane[q] = result(v.lane[q], old.lane[q], q);
      store_pack(y + place, v);
    } else {
#pragma unroll
      for (int q = 0; q < kQuad; ++q) {
        if (place + q < op.n) {
          y[place + q] = result(x[place + q], op.accumulate ? y[place + q] : T(0), q);
        }
      }
    }
  }
}

}  // namespace fusednn::cuda
