// SPDX-License-Identifier: Apache-2.0
// What regularisation adds to the loss.
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
  *op.total += op.weight * total;
}

template <class T>
Demand demand(const Penalty& op, int) {
  return {20.0 * double(op.n_terms) + 0.2 * double(op.elements),
          size_t(count_chunks(op)) * sizeof(double)};
}

template void run<float>(const Penalty&, const Context&);
template void run<double>(const Penalty&, const Context&);
template Demand demand<float>(const Penalty&, int);
template Demand demand<double>(const Penalty&, int);

}  // namespace fusednn::FNN_ISA
