// SPDX-License-Identifier: Apache-2.0
// What regularisation adds to the loss, and to gradients.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"
#include "rules/update.h"

namespace fusednn::FNN_ISA {
namespace {

constexpr Index kChunk = 4096;  // elements that one thread adds up
constexpr int kRunning = 16;    // running sums within a chunk, the same on every instruction set

Index chunks_of(const PenaltyTerm& term) { return (term.n + kChunk - 1) / kChunk; }

Index count_chunks(const Penalty& op) {
  Index n = 0;
  for (Index i = 0; i < op.n_terms; ++i) n += chunks_of(op.terms[i]);
  return n;
}

template <class T>
double penalty_of(const PenaltyTerm& term, Index begin, Index end) {
  const T* p = static_cast<const T*>(term.parameter);
  double running[kRunning] = {};
  const auto add = [&](Index i, int k)
                       FNN_INLINE { running[k] += rules::penalty(double(p[i]), term.l1, term.l2); };
  Index i = begin;
  for (; i + kRunning <= end; i += kRunning) {
    for (int k = 0; k < kRunning; ++k) add(i + k, k);
  }
  for (int k = 0; i < end; ++i, ++k) add(i, k);
  double total = 0;
  for (const double each : running) total += each;
  return total;
}

}  // namespace

// The chunks' sums wait in the workspace until all are there; one thread then adds them in order.
template <class T>
void run(const Penalty& op, const Context& context) {
  double* sums = reinterpret_cast<double*>(context.workspace);
  const cpu::Range mine = cpu::share(count_chunks(op), context);
  Index chunk = 0;
  for (Index i = 0; i < op.n_terms; ++i) {
    const PenaltyTerm& term = op.terms[i];
    for (Index begin = 0; begin < term.n; begin += kChunk, ++chunk) {
      if (chunk < mine.begin || chunk >= mine.end) continue;
      const Index end = begin + kChunk < term.n ? begin + kChunk : term.n;
      sums[chunk] = penalty_of<T>(term, begin, end);
    }
  }
  context.sync();
  if (context.rank != 0) return;
  double total = 0;
  for (Index k = 0; k < chunk; ++k) total += sums[k];
  *op.total += op.weight * *op.scale * total;
}

template <class T>
Demand demand(const Penalty& op, int) {
  return {20.0 * double(op.n_terms) + 0.2 * double(op.elements),
          size_t(count_chunks(op)) * sizeof(double)};
}

template <class T>
void run(const PenaltyGradient& op, const Context& context) {
  using V = Vec<T>;
  const T* p = static_cast<const T*>(op.parameter);
  T* gradient = static_cast<T*>(op.gradient);
  const double factor = op.factor * *op.scale;
  const V l1(factor * op.term->l1), l2(factor * op.term->l2);
  const cpu::Range mine = share_lines<T>(op.n, context);
  for_lanes<V>(mine.begin, mine.end, [&](Index i, int lanes) FNN_INLINE {
    const V v = V::load(p + i, lanes);
    rules::add_l1(rules::add_l2(V::load(gradient + i, lanes), v, l2), v, l1)
        .store(gradient + i, lanes);
  });
}

template <class T>
Demand demand(const PenaltyGradient& op, int) {
  return {0.05 * sizeof(T) * double(op.n), 0};
}

template void run<float>(const Penalty&, const Context&);
template void run<double>(const Penalty&, const Context&);
template void run<float>(const PenaltyGradient&, const Context&);
template void run<double>(const PenaltyGradient&, const Context&);
template Demand demand<float>(const Penalty&, int);
template Demand demand<double>(const Penalty&, int);
template Demand demand<float>(const PenaltyGradient&, int);
template Demand demand<double>(const PenaltyGradient&, int);

}  // namespace fusednn::FNN_ISA
