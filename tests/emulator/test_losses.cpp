// SPDX-License-Identifier: Apache-2.0
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

template <class T>
struct LossMemory {
  Numbers<T> x, target, gradient, values, sample_weight, class_weight;
  Numbers<int32_t> labels;
  Numbers<double> scale;
  template <class F>
  void each(const LossMemory& o, F f) const {
    f("x", x, o.x);
    f("gradient", gradient, o.gradient);
    f("values", values, o.values);
  }
};

template <class T>
void loss(int rule, Index rows, Index cols, int variant) {
  const bool rowwise = rule >= rules::PointwiseLosses::size;
  const Index gap = variant == 2 ? 3 : 0, n = rows * (cols + gap);
  LossMemory<T> memory{
      {n,    0.05, 0.9                },
      {n,    0.05, 0.9                },
      {n,    -1,   1                  },
      {rows, -1,   1                  },
      {rows, 0,    2                  },
      {cols, 0.5,  2                  },
      {rows, 0,    double(cols) - 0.01},
      {1,    0.1,  0.2                }
  };
  for (Index i = 0; i < rows; i += 5) memory.sample_weight.values()[size_t(i)] = 0;
  check<T>(text("loss %lld %lldx%lld variant %lld", rule, rows, cols, variant), memory,
           tolerance<T>(8 + double(cols) / 16), [&](LossMemory<T>& m) {
             Loss op;
             op.rule = rule;
             op.parameters[0] = rowwise ? 0.1 : 0.7;
             op.parameters[1] = 0.1;
             op.x = {m.x.data(), cols + gap};
             op.target.dense = {m.target.data(), cols + gap};
             if (rowwise && variant != 1) {
               op.target.dense = {};
               op.target.labels = m.labels.data();
               op.ignore_index = variant == 2 ? 0 : INT32_MIN;
             }
             if (variant != 0) op.sample_weight = m.sample_weight.data();
             if (variant != 0 && rowwise) op.class_weight = m.class_weight.data();
             if (variant != 3) op.scale = m.scale.data();
             if (variant != 3) {
               op.gradient = {variant == 2 ? m.x.data() : m.gradient.data(), cols + gap};
             }
             op.values = m.values.data();
             op.rows = rows;
             op.cols = cols;
             return op;
           });
}

template <class T>
void accuracy(Index rows, Index cols, bool labels) {
  LossMemory<T> memory{
      {rows * cols, 0, 1},
      {rows * cols, 0, 1},
      {},
      {rows, 0, 1},
      {rows, 0, 1},
      {},
      {rows, 0, double(cols) + 0.9},
      {}
  };
  for (size_t i = 0; i < memory.x.values().size(); i += 3) memory.x.values()[i] = T(0.9);
  for (size_t i = 0; i < memory.x.values().size(); i += 7) memory.x.values()[i] = T(NAN);
  check<T>(text("accuracy %lldx%lld labels %lld", rows, cols, labels), memory, {0, 0},
           [&](LossMemory<T>& m) {
             Accuracy op;
             op.x = {m.x.data(), cols};
             if (labels) {
               op.target.labels = m.labels.data();
             } else {
               op.target.dense = {m.target.data(), cols};
               op.sample_weight = m.sample_weight.data();
             }
             op.values = m.values.data();
             op.rows = rows;
             op.cols = cols;
             return op;
           });
}

}  // namespace

template <class T>
void losses() {
  const Index shapes[][2] = {
      {5,   1   },
      {300, 1   },
      {7,   10  },
      {6,   40  },
      {3,   200 },
      {2,   600 },
      {2,   2300}
  };
  for (int rule = 0; rule < rules::PointwiseLosses::size + rules::RowwiseLosses::size; ++rule) {
    for (const auto& s : shapes) {
      for (int variant = 0; variant < 4; ++variant) loss<T>(rule, s[0], s[1], variant);
    }
  }
  for (const auto& s : shapes) {
    accuracy<T>(s[0], s[1], true);
    accuracy<T>(s[0], s[1], false);
  }
}

template void losses<float>();
template void losses<double>();

}  // namespace fusednn::kernel_check
