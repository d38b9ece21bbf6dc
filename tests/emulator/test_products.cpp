// SPDX-License-Identifier: Apache-2.0
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

template <class T>
struct DenseMemory {
  Numbers<T> x, w, bias, y, z;
  template <class F>
  void each(const DenseMemory& other, F f) const {
    f("x", x, other.x);
    f("w", w, other.w);
    f("bias", bias, other.bias);
    f("y", y, other.y);
    f("z", z, other.z);
  }
};

struct DenseCase {
  Index rows, in, out, gap;
  bool transposed, flag;  // keeps z, or accumulates
  int rule;
  bool bfloat16;
};

template <class T>
Tolerance dense_tolerance(Index k) {
  const Tolerance one = tolerance<T>();
  return {one.relative * (1 + std::sqrt(double(k)) / 4), one.absolute * (1 + double(k) / 16)};
}

template <class T>
void forward(const DenseCase& c) {
  const Index w_rows = c.transposed ? c.out : c.in, w_cols = c.transposed ? c.in : c.out;
  DenseMemory<T> memory{
      {c.rows * (c.in + c.gap),   -1, 1},
      {w_rows * (w_cols + c.gap), -1, 1},
      {c.out,                     -1, 1},
      {c.rows * (c.out + c.gap),  -1, 1},
      {c.rows * (c.out + c.gap),  -1, 1}
  };
  const std::string name = text("forward %lldx%lldx%lld transposed %lld rule %lld", c.rows, c.in,
                                c.out, c.transposed, c.rule) +
                           text(" gap %lld bf16 %lld", c.gap, c.bfloat16);
  const auto build = [&](DenseMemory<T>& m) {
    DenseForward op;
    op.x = {m.x.data(), c.in + c.gap};
    op.w = {m.w.data(), w_cols + c.gap};
    op.bias = c.rule % 3 == 2 ? nullptr : m.bias.data();
    op.y = {m.y.data(), c.out + c.gap};
    if (c.flag) op.z = {m.z.data(), c.out + c.gap};
    op.rows = c.rows;
    op.in = c.in;
    op.out = c.out;
    op.activation.rule = c.rule;
    op.activation.parameters[0] = 0.3;
    op.transposed = c.transposed;
    op.bfloat16 = c.bfloat16 && sizeof(T) == 4;
    return op;
  };
  check<T>(name, memory, dense_tolerance<T>(c.in), build);
  if (!c.bfloat16 || sizeof(T) != 4) return;
  // The processor has no products of float16: it gets operands that are such numbers already.
  for (auto* operand : {&memory.x, &memory.w}) {
    for (T& v : operand->values()) v = T(static_cast<_Float16>(v));
  }
  check<T>(name + " float16", memory, dense_tolerance<T>(c.in), [&](DenseMemory<T>& m) {
    DenseForward op = build(m);
    op.bfloat16 = false;
    op.float16 = true;
    return op;
  });
}

template <class T>
void backward_input(const DenseCase& c) {
  const Index w_rows = c.transposed ? c.out : c.in, w_cols = c.transposed ? c.in : c.out;
  DenseMemory<T> memory{
      {c.rows * (c.in + c.gap), -1, 1},
      {w_rows * (w_cols + c.gap), -1, 1},
      {},
      {c.rows * (c.out + c.gap), -1, 1},
      {c.rows * (c.in + c.gap), -1, 1}
  };
  check<T>(text("backward input %lldx%lldx%lld transposed %lld rule %lld", c.rows, c.in, c.out,
                c.transposed, c.rule) +
               text(" gap %lld bf16 %lld", c.gap, c.bfloat16),
           memory, dense_tolerance<T>(c.out), [&](DenseMemory<T>& m) {
             DenseBackwardInput op;
             op.dz = {m.y.data(), c.out + c.gap};
             op.w = {m.w.data(), w_cols + c.gap};
             op.dx = {m.x.data(), c.in + c.gap};
             op.saved = {m.z.data(), c.in + c.gap};
             op.rows = c.rows;
             op.in = c.in;
             op.out = c.out;
             op.activation.rule = c.rule;
             op.activation.parameters[0] = 0.3;
             op.transposed = c.transposed;
             op.accumulate = c.flag;
             op.bfloat16 = c.bfloat16 && sizeof(T) == 4;
             return op;
           });
}

template <class T>
void backward_weights(const DenseCase& c) {
  const Index w_rows = c.transposed ? c.out : c.in, w_cols = c.transposed ? c.in : c.out;
  DenseMemory<T> memory{
      {c.rows * (c.in + c.gap), -1, 1},
      {w_rows * (w_cols + c.gap), -1, 1},
      {c.out, -1, 1},
      {c.rows * (c.out + c.gap), -1, 1},
      {}
  };
  for (int wanted = 1; wanted < 4; ++wanted) {
    check<T>(text("backward weights %lldx%lldx%lld transposed %lld wanted %lld", c.rows, c.in,
                  c.out, c.transposed, wanted) +
                 text(" gap %lld bf16 %lld", c.gap, c.bfloat16),
             memory, dense_tolerance<T>(c.rows), [&](DenseMemory<T>& m) {
               DenseBackwardWeights op;
               op.x = {m.x.data(), c.in + c.gap};
               op.dz = {m.y.data(), c.out + c.gap};
               if (wanted & 1) op.dw = {m.w.data(), w_cols + c.gap};
               if (wanted & 2) op.dbias = m.bias.data();
               op.rows = c.rows;
               op.in = c.in;
               op.out = c.out;
               op.transposed = c.transposed;
               op.accumulate = c.flag;
               op.bfloat16 = c.bfloat16 && sizeof(T) == 4;
               return op;
             });
  }
}

}  // namespace

template <class T>
void products() {
  const Index shapes[][3] = {
      {1,    1,    1 },
      {3,    5,    7 },
      {8,    64,   32},
      {2,    1100, 40},
      {33,   17,   31},
      {64,   64,   64},
      {9,    1300, 6 },
      {2500, 10,   12},
      {0,    4,    4 },
      {4,    0,    4 },
      {1030, 24,   1 }
  };
  for (const auto& s : shapes) {
    for (int variant = 0; variant < 4; ++variant) {
      DenseCase c{s[0], s[1], s[2], variant == 3 ? 3 : 0, variant % 2 == 1, variant >= 2, 0, false};
      c.rule = variant == 3 ? 0 : 5;
      forward<T>(c);
      backward_input<T>(c);
      backward_weights<T>(c);
      if (sizeof(T) == 8 || variant == 0) continue;
      c.bfloat16 = true;
      c.rule = 10;
      forward<T>(c);
      backward_input<T>(c);
      backward_weights<T>(c);
    }
  }
  // Tiles of 64 x 64 and 128 x 128, and every rule in an epilogue.
  forward<T>({700, 20, 750, 0, false, true, 1, false});
  forward<T>({1410, 20, 1500, 0, false, false, 1, false});
  forward<T>({1410, 20, 1500, 0, true, true, 1, true});
  backward_input<T>({1410, 1500, 9, 1, false, true, 1, false});
  backward_weights<T>({24, 1410, 1500, 0, false, true, 1, false});
  backward_weights<T>({40, 1410, 1500, 1, true, true, 1, true});
  for (int rule = 0; rule < rules::Activations::size; ++rule) {
    forward<T>({20, 9, 21, 1, false, true, rule, false});
    backward_input<T>({20, 9, 21, 0, false, rule % 2 == 0, rule, false});
  }
}

template void products<float>();
template void products<double>();

}  // namespace fusednn::kernel_check
