// SPDX-License-Identifier: Apache-2.0
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

template <class T>
struct RowMemory {
  Numbers<T> x, dy, dx, gamma, beta, mean, inverse, running_mean, running_variance;
  template <class F>
  void each(const RowMemory& o, F f) const {
    f("x", x, o.x);
    f("dy", dy, o.dy);
    f("dx", dx, o.dx);
    f("gamma", gamma, o.gamma);
    f("beta", beta, o.beta);
    f("mean", mean, o.mean);
    f("inverse", inverse, o.inverse);
    f("running mean", running_mean, o.running_mean);
    f("running variance", running_variance, o.running_variance);
  }
};

template <class T>
RowMemory<T> row_memory(Index rows, Index cols, Index gap, Index statistics) {
  const Index n = rows * (cols + gap);
  return {
      {n,          -2,  2},
      {n,          -1,  1},
      {n,          -1,  1},
      {cols,       -1,  1},
      {cols,       -1,  1},
      {statistics, -1,  1},
      {statistics, 0.5, 2},
      {statistics, -1,  1},
      {statistics, 0.5, 2}
  };
}

template <class T>
void softmax(Index rows, Index cols, Index gap) {
  const RowMemory<T> memory = row_memory<T>(rows, cols, gap, 1);
  for (const bool log : {false, true}) {
    for (const bool in_place : {false, true}) {
      check<T>(text("softmax %lldx%lld log %lld in place %lld", rows, cols, log, in_place), memory,
               tolerance<T>(4), [&](RowMemory<T>& m) {
                 SoftmaxForward op;
                 op.x = {m.x.data(), cols + gap};
                 op.y = {in_place ? m.x.data() : m.dx.data(), cols + gap};
                 op.rows = rows;
                 op.cols = cols;
                 op.log = log;
                 return op;
               });
      check<T>(text("softmax backward %lldx%lld log %lld in place %lld", rows, cols, log, in_place),
               memory, tolerance<T>(8 + double(cols) / 16), [&](RowMemory<T>& m) {
                 SoftmaxBackward op;
                 op.y = {m.x.data(), cols + gap};
                 op.dy = {m.dy.data(), cols + gap};
                 op.dx = {in_place ? m.dy.data() : m.dx.data(), cols + gap};
                 op.rows = rows;
                 op.cols = cols;
                 op.log = log;
                 op.accumulate = !in_place && log;
                 return op;
               });
    }
  }
}

template <class T, class Op>
Op norm_backward(RowMemory<T>& m, Index rows, Index cols, Index gap, int variant) {
  Op op;
  op.x = {m.x.data(), cols + gap};
  op.dy = {m.dy.data(), cols + gap};
  op.mean = m.mean.data();
  op.inverse_deviation = m.inverse.data();
  op.gamma = variant == 1 ? nullptr : m.gamma.data();
  if (variant != 2) op.dx = {variant == 3 ? m.dy.data() : m.dx.data(), cols + gap};
  if (variant != 1) {
    op.dgamma = m.beta.data();
    op.dbeta = m.running_mean.data();
  }
  op.rows = rows;
  op.cols = cols;
  op.accumulate = variant == 0;
  op.accumulate_parameters = variant == 2;
  return op;
}

template <class T>
void normalization(Index rows, Index cols, Index gap) {
  const double far = double(rows + cols) / 32 + 8;
  RowMemory<T> memory = row_memory<T>(rows, cols, gap, cols);
  for (const bool training : {true, false}) {
    check<T>(text("batch norm %lldx%lld training %lld", rows, cols, training), memory,
             tolerance<T>(far), [&](RowMemory<T>& m) {
               BatchNormForward op;
               op.x = {m.x.data(), cols + gap};
               op.y = {gap > 0 ? m.x.data() : m.dx.data(), cols + gap};
               op.gamma = gap == 1 ? nullptr : m.gamma.data();
               op.beta = gap == 1 ? nullptr : m.beta.data();
               op.running_mean = m.running_mean.data();
               op.running_variance = m.running_variance.data();
               op.mean = m.mean.data();
               op.inverse_deviation = m.inverse.data();
               op.rows = rows;
               op.cols = cols;
               op.training = training;
               return op;
             });
  }
  for (int variant = 0; variant < 4; ++variant) {
    check<T>(text("batch norm backward %lldx%lld variant %lld", rows, cols, variant), memory,
             tolerance<T>(far), [&](RowMemory<T>& m) {
               return norm_backward<T, BatchNormBackward>(m, rows, cols, gap, variant);
             });
  }
  memory = row_memory<T>(rows, cols, gap, std::max(rows, cols));
  for (const bool keeps : {true, false}) {
    check<T>(text("layer norm %lldx%lld keeps %lld", rows, cols, keeps), memory, tolerance<T>(far),
             [&](RowMemory<T>& m) {
               LayerNormForward op;
               op.x = {m.x.data(), cols + gap};
               op.y = {gap > 0 ? m.x.data() : m.dx.data(), cols + gap};
               op.gamma = keeps ? m.gamma.data() : nullptr;
               op.beta = keeps ? m.beta.data() : nullptr;
               if (keeps) op.mean = m.mean.data();
               if (keeps) op.inverse_deviation = m.inverse.data();
               op.rows = rows;
               op.cols = cols;
               return op;
             });
  }
  for (int variant = 0; variant < 4; ++variant) {
    check<T>(text("layer norm backward %lldx%lld variant %lld", rows, cols, variant), memory,
             tolerance<T>(far), [&](RowMemory<T>& m) {
               return norm_backward<T, LayerNormBackward>(m, rows, cols, gap, variant);
             });
  }
}

}  // namespace

template <class T>
void rows() {
  const Index shapes[][2] = {
      {1,     1   },
      {7,     2   },
      {9,     10  },
      {5,     33  },
      {40,    31  },
      {3,     130 },
      {2,     700 },
      {300,   34  },
      {700,   3   },
      {2,     2500},
      {0,     5   },
      {1100,  8   },
      {520,   100 },
      {70000, 1   }
  };
  for (const auto& s : shapes) {
    for (const Index gap : {0, 1, 4}) {
      if (s[0] > 1000 && gap == 1) continue;
      if (s[0] < 2000) softmax<T>(s[0], s[1], gap);
      normalization<T>(s[0], s[1], gap);
    }
  }
}

template void rows<float>();
template void rows<double>();

}  // namespace fusednn::kernel_check
