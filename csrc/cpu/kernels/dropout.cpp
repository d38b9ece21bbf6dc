// SPDX-License-Identifier: Apache-2.0
// Dropout and noise with the random words of core/philox.h: what is drawn depends on seed, stream, step and place
// alone, so the backward pass draws it again instead of storing it.
#include "rules/dropout.h"
#include "core/philox.h"
#include "cpu/kernels/loops.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/strands.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

// Groups of elements whose words are drawn together.
constexpr int kGroups = Strands::size > kPhiloxLanes ? Strands::size / kPhiloxLanes : 1;
constexpr int kWords = kGroups * kPhiloxGroup;
constexpr Index kAhead = 2048;  // elements

// The words of kGroups groups of elements, in the order of the elements.
FNN_HD void draw(const Dropout& op, Index group, uint32_t* words) {
  const uint64_t position = static_cast<uint64_t>(group) * kPhiloxLanes;
  const uint32_t step = static_cast<uint32_t>(*op.step);  // its low half: 2^32 steps repeat nothing
  for (int first = 0; first < kGroups * kPhiloxLanes; first += Strands::size) {
    PhiloxBlock<Strands> counter;
    for (int k = 0; k < Strands::kCount; ++k) {
      // A vector never straddles two groups, nor do its positions cross a multiple of 2^32.
      const uint64_t start = position + static_cast<uint64_t>(first + k * VecU32::size);
      counter.word[0].part[k] = VecU32(static_cast<uint32_t>(start)) + iota<VecU32>();
      counter.word[1].part[k] = VecU32(static_cast<uint32_t>(start >> 32));
    }
    counter.word[2] = Strands(step);
    counter.word[3] = Strands(op.stream);
    const PhiloxBlock<Strands> block =
        philox(counter, static_cast<uint32_t>(op.seed), static_cast<uint32_t>(op.seed >> 32));
    for (int k = 0; k < Strands::kCount; ++k) {
      const int lane = first + k * VecU32::size;
      uint32_t* place = words + lane / kPhiloxLanes * kPhiloxGroup + lane % kPhiloxLanes;
      for (int w = 0; w < 4; ++w) block.word[w].part[k].store(place + w * kPhiloxLanes);
    }
  }
}

// The generator keeps the processor so busy that it does not look ahead for what is read next: without
// this, arrays in memory take twice the time.
template <class T>
FNN_HD void fetch(const T* x, T* y, Index begin, Index end) {
  for (Index i = begin; i < end; i += Index(64 / sizeof(T))) {
    __builtin_prefetch(x + i);
    __builtin_prefetch(y + i, 1);
  }
}

// What becomes of elements, given their words.
template <class V>
struct Masked {
  V scale, shift, dropped;
  uint32_t threshold;
  bool draws;

  Masked(const Dropout& op, const rules::Masking& m)
      : scale(m.scale), shift(m.shift), dropped(m.dropped) {
    const uint64_t keeps = rules::words_that_keep(op.rate);
    // Without a draw all words stay 0, and 0 is below a threshold of 1.
    draws = keeps < rules::kAllWords;
    threshold = draws ? static_cast<uint32_t>(keeps) : 1;
  }
  FNN_HD V operator()(const uint32_t* words, V x) const {
    return rules::masked(words_below<V>(words, threshold), x, scale, shift, dropped);
  }
};

template <class V, bool kFactor>
struct Gaussian {
  V deviation;
  static constexpr bool draws = true;

  explicit Gaussian(const Dropout& op) : deviation(op.deviation) {}
  FNN_HD V operator()(const uint32_t* words, V x) const {
    const V normal = rules::normal_of(rules::symmetric(one_and_upper_bits<V>(words)));
    return kFactor ? rules::with_factor(x, normal, deviation)
                   : rules::with_term(x, normal, deviation);
  }
};

template <class T, bool kAccumulate, class Change>
FNN_HD void apply(const Dropout& op, const Context& context, const Change& change) {
  using V = Vec<T>;
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y);
  const cpu::Range blocks = share((op.n + kWords - 1) / kWords, context);
  uint32_t words[kWords] = {};
  for (Index block = blocks.begin; block < blocks.end; ++block) {
    const Index begin = block * kWords;
    const Index end = op.n - begin < kWords ? op.n : begin + kWords;
    if (begin + kAhead + kWords <= op.n) fetch(x, y, begin + kAhead, begin + kAhead + kWords);
    if (change.draws) draw(op, block * kGroups, words);
    for_lanes<V>(begin, end, [&](Index i, int lanes) FNN_INLINE {
      V v = change(words + (i - begin), V::load(x + i, lanes));
      if (kAccumulate) v += V::load(y + i, lanes);
      v.store(y + i, lanes);
    });
  }
}

template <class T, class Change>
void apply(const Dropout& op, const Context& context, const Change& change) {
  if (op.accumulate) {
    apply<T, true>(op, context, change);
  } else {
    apply<T, false>(op, context, change);
  }
}

}  // namespace

template <class T>
void run(const Dropout& op, const Context& context) {
  using V = Vec<T>;
  switch (op.noise) {
    case Noise::mask:
      return apply<T>(op, context, Masked<V>(op, rules::masking(op.rate)));
    case Noise::alpha:
      return apply<T>(op, context, Masked<V>(op, rules::alpha_masking(op.rate, false)));
    case Noise::alpha_gradient:
      return apply<T>(op, context, Masked<V>(op, rules::alpha_masking(op.rate, true)));
    case Noise::factor:
      return apply<T>(op, context, Gaussian<V, true>(op));
    case Noise::term:
      return apply<T>(op, context, Gaussian<V, false>(op));
  }
}

template <class T>
Demand demand(const Dropout& op, int) {
  const bool normal = op.noise == Noise::factor || op.noise == Noise::term;
  return {(0.2 + (normal ? 0.15 : 0.02) * sizeof(T)) * double(op.n), 0};
}

template void run<float>(const Dropout&, const Context&);
template void run<double>(const Dropout&, const Context&);
template Demand demand<float>(const Dropout&, int);
template Demand demand<double>(const Dropout&, int);

}  // namespace fusednn::FNN_ISA
