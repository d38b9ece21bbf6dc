// SPDX-License-Identifier: Apache-2.0
// Numbers from many rows: sums and accuracy.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

// ---- sum -------------------------------------------------------------------------------------

constexpr Index kChunk = 4096;  // values that one thread adds up
constexpr int kRunning = 16;    // running sums within a chunk, the same on every instruction set

Index chunks_of(Index n) { return (n + kChunk - 1) / kChunk; }

// Adds the upper half to the lower until one sum is left.
double fold(double (&running)[kRunning]) {
  for (int half = kRunning / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) running[k] += running[k + half];
  }
  return running[0];
}

template <class T>
double sum_chunk(const T* values, Index n) {
  double running[kRunning] = {};
  Index i = 0;
  for (; i + kRunning <= n; i += kRunning) {
    for (int k = 0; k < kRunning; ++k) running[k] += values[i + k];
  }
  for (int k = 0; i < n; ++i, ++k) running[k] += values[i];
  return fold(running);
}

// ---- accuracy --------------------------------------------------------------------------------

// The first of the greatest elements; n when there is none, which takes a row of NaNs.
template <class T>
Index place_of_greatest(const T* x, Index n) {
  using V = Vec<T>;
  const V lowest(-kInfinity);
  V lanes_greatest = lowest;
  for_lanes<V>(0, n, [&](Index j, int lanes) FNN_INLINE {
    lanes_greatest = max(first(lanes, V::load(x + j, lanes), lowest), lanes_greatest);
  });
  const T greatest = max_of(lanes_greatest);
  Index place = 0;
  while (place < n && x[place] != greatest) ++place;
  return place;
}

// NaN is among the greatest of nothing.
template <class T>
bool is_among_greatest(const T* x, Index n, Index place, Index top) {
  if (!(x[place] == x[place])) return false;
  Index greater = 0;
  for (Index j = 0; j < n; ++j) greater += x[j] > x[place];
  return greater < top;
}

template <class T>
bool is_right(const Accuracy& op, Index row) {
  const T* x = row_of<T>(op.x, row);
  const int32_t* labels = op.target.labels;
  const T* dense = labels == nullptr ? row_of<T>(op.target.dense, row) : nullptr;
  if (op.cols == 1) {
    const double target = labels != nullptr ? double(labels[row]) : double(dense[0]);
    return (double(x[0]) > op.threshold) == (target > 0.5);
  }
  const Index target = labels != nullptr ? Index(labels[row]) : place_of_greatest(dense, op.cols);
  if (op.top > 1) return target < op.cols && is_among_greatest(x, op.cols, target, op.top);
  return place_of_greatest(x, op.cols) == target;
}

}  // namespace

// The chunks' sums wait in the workspace until all are there; one thread then adds them in order.
template <class T>
void run(const Sum& op, const Context& context) {
  const T* values = static_cast<const T*>(op.values);
  double* sums = reinterpret_cast<double*>(context.workspace);
  const Index chunks = chunks_of(op.n);
  if (chunks <= 1) {
    if (context.rank == 0) *op.total += sum_chunk(values, op.n);
    return;
  }
  const cpu::Range mine = cpu::share(chunks, context);
  for (Index chunk = mine.begin; chunk < mine.end; ++chunk) {
    const Index begin = chunk * kChunk;
    const Index left = op.n - begin;
    sums[chunk] = sum_chunk(values + begin, left < kChunk ? left : kChunk);
  }
  context.sync();
  if (context.rank == 0) *op.total += sum_chunk(sums, chunks);
}

template <class T>
void run(const Accuracy& op, const Context& context) {
  const T* weights = static_cast<const T*>(op.sample_weight);
  T* values = static_cast<T*>(op.values);
  const cpu::Range mine = share_lines<T>(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    const T weight = weights == nullptr ? T(1) : weights[row];
    values[row] = is_right<T>(op, row) ? weight : T(0);
  }
}

template <class T>
Demand demand(const Sum& op, int) {
  const Index chunks = chunks_of(op.n);
  return {0.3 * double(op.n), chunks > 1 ? size_t(chunks) * sizeof(double) : 0};
}

template <class T>
Demand demand(const Accuracy& op, int) {
  return {double(op.rows) * (10 + double(op.cols)), 0};
}

template void run<float>(const Sum&, const Context&);
template void run<double>(const Sum&, const Context&);
template void run<float>(const Accuracy&, const Context&);
template void run<double>(const Accuracy&, const Context&);
template Demand demand<float>(const Sum&, int);
template Demand demand<double>(const Sum&, int);
template Demand demand<float>(const Accuracy&, int);
template Demand demand<double>(const Accuracy&, int);

}  // namespace fusednn::FNN_ISA
