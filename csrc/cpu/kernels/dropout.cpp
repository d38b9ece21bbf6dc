// SPDX-License-Identifier: Apache-2.0
// Dropout with the random words of core/philox.h: the mask depends on seed, stream, step and place
// alone, so the backward pass draws it again instead of storing it.
#include "rules/dropout.h"
#include "core/philox.h"
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

// The 64 words of one group of elements, in the order of the elements.
FNN_HD void draw(const Dropout& op, Index group, uint32_t* words) {
  const uint64_t position = static_cast<uint64_t>(group) * kPhiloxLanes;
  const uint32_t step = static_cast<uint32_t>(*op.step);  // its low half: 2^32 steps repeat nothing
  for (int first = 0; first < kPhiloxLanes; first += VecU32::size) {
    PhiloxBlock<VecU32> counter;
    counter.word[0] = VecU32(static_cast<uint32_t>(position) + first) + iota<VecU32>();
    counter.word[1] = VecU32(static_cast<uint32_t>(position >> 32));
    counter.word[2] = VecU32(step);
    counter.word[3] = VecU32(op.stream);
    const PhiloxBlock<VecU32> block =
        philox(counter, static_cast<uint32_t>(op.seed), static_cast<uint32_t>(op.seed >> 32));
    for (int w = 0; w < 4; ++w) block.word[w].store(words + w * kPhiloxLanes + first);
  }
}

template <class T, bool kAccumulate>
FNN_HD void apply(const Dropout& op, const Context& context) {
  using V = Vec<T>;
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y);
  const uint64_t keeps = rules::words_that_keep(op.rate);
  const V scale(rules::dropout_scale(op.rate));
  const cpu::Range groups = share((op.n + kPhiloxGroup - 1) / kPhiloxGroup, context);
  // Without a draw all words stay 0, and 0 is below a threshold of 1.
  const bool draws = keeps < rules::kAllWords;
  const uint32_t threshold = draws ? static_cast<uint32_t>(keeps) : 1;
  uint32_t words[kPhiloxGroup] = {};
  for (Index group = groups.begin; group < groups.end; ++group) {
    if (draws) draw(op, group, words);
    const Index begin = group * kPhiloxGroup;
    const Index end = op.n - begin < kPhiloxGroup ? op.n : begin + kPhiloxGroup;
    for_lanes<V>(begin, end, [&](Index i, int lanes) FNN_INLINE {
      const auto keep = words_below<V>(words + (i - begin), threshold);
      V v = rules::dropout(keep, V::load(x + i, lanes), scale);
      if (kAccumulate) v += V::load(y + i, lanes);
      v.store(y + i, lanes);
    });
  }
}

}  // namespace

template <class T>
void run(const Dropout& op, const Context& context) {
  if (op.accumulate) {
    apply<T, true>(op, context);
  } else {
    apply<T, false>(op, context);
  }
}

template <class T>
Demand demand(const Dropout& op, int) {
  return {(0.4 + 0.05 * sizeof(T)) * double(op.n), 0};
}

template void run<float>(const Dropout&, const Context&);
template void run<double>(const Dropout&, const Context&);
template Demand demand<float>(const Dropout&, int);
template Demand demand<double>(const Dropout&, int);

}  // namespace fusednn::FNN_ISA
