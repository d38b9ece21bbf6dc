// SPDX-License-Identifier: Apache-2.0
// What metrics count over the rows of a batch.
#include "rules/tally.h"
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"

namespace fusednn::FNN_ISA {
namespace {

Index chunk_rows(const Tally& op) { return rules::tally_rows(op.n_counts, op.cols); }

Index chunks_of(const Tally& op) {
  const Index each = chunk_rows(op);
  return (op.rows + each - 1) / each;
}

// An element and where it stands.
struct Place {
  double value;
  Index at;
};

// The last of the `top` greatest elements of a row.
template <class T>
Place last_of_greatest(const T* x, Index n, Index top) {
  Place last{double(x[0]), 0};
  for (Index k = 0; k < top && k < n; ++k) {
    Place best{0, -1};
    for (Index j = 0; j < n; ++j) {
      const bool behind = k == 0 || rules::precedes(last.value, last.at, double(x[j]), j);
      const bool better = best.at < 0 || rules::precedes(double(x[j]), j, best.value, best.at);
      if (behind && better) best = {double(x[j]), j};
    }
    last = best;
  }
  return last;
}

// One row of a batch, read as the operation says.
template <class T>
struct Row {
  const Tally& op;
  Index row;
  const T* x;
  const T* dense;  // null: the target is a label

  Row(const Tally& o, Index i)
      : op(o),
        row(i),
        x(row_of<T>(o.x, i)),
        dense(o.target.labels == nullptr ? row_of<T>(o.target.dense, i) : nullptr) {}

  double weight() const {
    const T* weights = static_cast<const T*>(op.sample_weight);
    return weights == nullptr ? 1 : double(weights[row]);
  }
  double target(Index j) const {
    return dense != nullptr ? double(dense[j]) : double(op.target.labels[row] == j);
  }

  void add_levels(double* counts) const {
    const double w = weight();
    const Index n = op.n_thresholds;
    const bool all = op.top == 0 || op.top >= op.cols;
    const Place last = all ? Place{} : last_of_greatest(x, op.cols, op.top);
    const Index begin = op.column < 0 ? 0 : op.column;
    const Index end = op.column < 0 ? op.cols : op.column + 1;
    for (Index j = begin; j < end; ++j) {
      const double value = double(x[j]);
      const bool may = all || !rules::precedes(last.value, last.at, value, j);
      const Index level = may ? rules::level_of(value, op.thresholds, n) : 0;
      const Index group = op.per_column ? j - begin : 0;
      counts[rules::level_place(group, rules::is_positive(target(j)), level, n)] += w;
    }
  }

  void add_class(double* counts) const {
    Index is, found;
    if (op.cols == 1) {
      is = rules::is_positive(dense != nullptr ? double(dense[0]) : double(op.target.labels[row]));
      found = double(x[0]) > op.thresholds[0];
    } else {
      is = dense != nullptr ? last_of_greatest(dense, op.cols, 1).at : op.target.labels[row];
      found = last_of_greatest(x, op.cols, 1).at;
    }
    const Index classes = op.cols == 1 ? 2 : op.cols;
    counts[is * classes + found] += weight();
  }

  void add_moments(double* counts) const {
    const double w = weight();
    for (Index j = 0; j < op.cols; ++j) {
      for (Index k = 0; k < rules::kMoments; ++k) {
        counts[j * rules::kMoments + k] += w * rules::moment(k, double(x[j]), target(j));
      }
    }
  }

  void add(double* counts) const {
    if (op.what == Tallied::levels) return add_levels(counts);
    if (op.what == Tallied::classes) return add_class(counts);
    add_moments(counts);
  }
};

template <class T>
void add_chunk(const Tally& op, Index chunk, double* counts) {
  const Index begin = chunk * chunk_rows(op);
  const Index end = op.rows - begin < chunk_rows(op) ? op.rows : begin + chunk_rows(op);
  for (Index row = begin; row < end; ++row) Row<T>(op, row).add(counts);
}

}  // namespace

// The chunks' counts wait in the workspace until all are there; they are then added in order.
template <class T>
void run(const Tally& op, const Context& context) {
  const Index chunks = chunks_of(op);
  if (chunks <= 1) {
    if (context.rank == 0) add_chunk<T>(op, 0, op.counts);
    return;
  }
  double* parts = reinterpret_cast<double*>(context.workspace);
  const cpu::Range mine = cpu::share(chunks, context);
  for (Index chunk = mine.begin; chunk < mine.end; ++chunk) {
    double* part = parts + chunk * op.n_counts;
    for (Index c = 0; c < op.n_counts; ++c) part[c] = 0;
    add_chunk<T>(op, chunk, part);
  }
  context.sync();
  const cpu::Range counts = cpu::share(op.n_counts, context);
  for (Index c = counts.begin; c < counts.end; ++c) {
    double sum = 0;
    for (Index chunk = 0; chunk < chunks; ++chunk) sum += parts[chunk * op.n_counts + c];
    op.counts[c] += sum;
  }
}

template <class T>
Demand demand(const Tally& op, int) {
  const Index chunks = chunks_of(op);
  const double each = op.what == Tallied::levels ? 12 : 3;
  const double passes = op.top > 0 ? double(op.top) : 1;
  return {double(op.rows) * (10 + each * passes * double(op.cols)),
          chunks > 1 ? size_t(chunks * op.n_counts) * sizeof(double) : 0};
}

template void run<float>(const Tally&, const Context&);
template void run<double>(const Tally&, const Context&);
template Demand demand<float>(const Tally&, int);
template Demand demand<double>(const Tally&, int);

}  // namespace fusednn::FNN_ISA
