// SPDX-License-Identifier: Apache-2.0
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

template <class T>
struct FlatMemory {
  Numbers<T> x, y, z;
  Numbers<double> total;
  Numbers<uint64_t> step;
  Numbers<Index> order, first;
  template <class F>
  void each(const FlatMemory& o, F f) const {
    f("x", x, o.x);
    f("y", y, o.y);
    f("z", z, o.z);
    f("total", total, o.total);
  }
};

template <class T>
void element_by_element(Index n, Index offset) {
  FlatMemory<T> memory{
      {n, -3, 3, offset},
      {n, -1, 1, offset},
      {n, -1, 1, offset},
      {1, 0, 1},
      {1, 0, 9},
      {},
      {}
  };
  const auto name = [&](const char* what, int a = 0) {
    return std::string(what) + text(" n %lld offset %lld variant %lld", n, offset, a);
  };
  for (int rule = 0; rule < rules::Activations::size; ++rule) {
    check<T>(name("activation", rule), memory, tolerance<T>(), [&](FlatMemory<T>& m) {
      ActivationForward op;
      op.x = m.x.data();
      op.y = rule % 2 == 0 ? m.x.data() : m.y.data();
      op.n = n;
      op.activation.rule = rule;
      op.activation.parameters[0] = 0.3;
      return op;
    });
    check<T>(name("activation backward", rule), memory, tolerance<T>(8), [&](FlatMemory<T>& m) {
      ActivationBackward op;
      op.dy = m.y.data();
      op.saved = m.x.data();
      op.dx = rule % 2 == 0 ? m.y.data() : m.z.data();
      op.n = n;
      op.activation.rule = rule;
      op.activation.parameters[0] = 0.3;
      op.accumulate = rule % 2 == 1;
      return op;
    });
  }
  check<T>(name("sum"), memory, {1e-12, 1e-12}, [&](FlatMemory<T>& m) {
    Sum op;
    op.values = m.x.data();
    op.n = n;
    op.total = m.total.data();
    return op;
  });
  for (int variant = 0; variant < 4; ++variant) {
    check<T>(name("dropout", variant), memory, {0, 0}, [&](FlatMemory<T>& m) {
      Dropout op;
      op.x = m.x.data();
      op.y = variant == 1 ? m.x.data() : m.y.data();
      op.n = n;
      op.rate = variant == 3 ? 0 : 0.37;
      op.seed = 0x123456789abcdefull;
      op.stream = 3;
      op.step = m.step.data();
      op.accumulate = variant == 2;
      return op;
    });
  }
  for (const Noise noise : {Noise::alpha, Noise::alpha_gradient, Noise::factor, Noise::term}) {
    check<T>(name("noise", int(noise)), memory, tolerance<T>(4), [&](FlatMemory<T>& m) {
      Dropout op;
      op.x = m.x.data();
      op.y = m.y.data();
      op.n = n;
      op.rate = 0.37;
      op.noise = noise;
      op.deviation = 0.3;
      op.seed = 0x123456789abcdefull;
      op.step = m.step.data();
      return op;
    });
  }
  check<T>(name("fill"), memory, {0, 0}, [&](FlatMemory<T>& m) {
    Fill op;
    op.dst = m.y.data();
    op.n = n;
    op.value = 1.5;
    return op;
  });
}

template <class T>
void copies(Index rows, Index cols, Index src_gap, Index dst_gap) {
  FlatMemory<T> memory{
      {rows * (cols + src_gap), -3, 3},
      {rows * (cols + dst_gap), -3, 3},
      {},
      {},
      {},
      {rows, 0, double(rows) - 0.01},
      {1, 0, 0}
  };
  for (const bool accumulate : {false, true}) {
    check<T>(text("copy %lldx%lld gaps %lld %lld", rows, cols, src_gap, dst_gap), memory, {0, 0},
             [&](FlatMemory<T>& m) {
               CopyRows op;
               op.src = {m.x.data(), cols + src_gap};
               op.dst = {m.y.data(), cols + dst_gap};
               op.rows = rows;
               op.cols = cols;
               op.accumulate = accumulate;
               return op;
             });
    check<T>(text("gather %lldx%lld", rows, cols), memory, {0, 0}, [&](FlatMemory<T>& m) {
      GatherRows op;
      op.src = m.x.data();
      op.order = accumulate ? m.order.data() : nullptr;
      op.first = m.first.data();
      op.dst = m.y.data();
      op.rows = rows;
      op.row_bytes = cols * Index(sizeof(T));
      return op;
    });
  }
}

}  // namespace

template <class T>
void elements() {
  for (const Index offset : {0, 1}) {
    for (const Index n : {0, 1, 5, 1003, 9000}) element_by_element<T>(n, offset);
  }
  for (const Index gap : {0, 1, 4}) {
    copies<T>(7, 12, gap, 0);
    copies<T>(1, 3000, 0, gap);
    copies<T>(600, 3, gap, gap);
  }
}

template void elements<float>();
template void elements<double>();

}  // namespace fusednn::kernel_check
