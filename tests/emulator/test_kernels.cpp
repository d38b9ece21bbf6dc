// SPDX-License-Identifier: Apache-2.0
// Every operation on the CPU and on the device: the same numbers but for rounding, and the same bits
// when it runs again. Shapes are those at which the kernels change their way.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "engine/footprint.h"
#include "rules/activations.h"
#include "rules/losses.h"
#include "rules/optimizers.h"

namespace {

using namespace fusednn;

int failures = 0;
int cases = 0;
std::mt19937 generator(7);

// Memory that an operation reads or writes, with room behind rows that nothing may touch.
template <class T>
class Numbers {
 public:
  Numbers() = default;
  Numbers(Index n, double low, double high, Index offset = 0) : offset_(offset) {
    std::uniform_real_distribution<double> draw(low, high);
    values_.resize(static_cast<size_t>(n + offset));
    for (T& v : values_) v = static_cast<T>(draw(generator));
  }
  T* data() { return values_.data() + offset_; }
  const std::vector<T>& values() const { return values_; }
  std::vector<T>& values() { return values_; }

 private:
  std::vector<T> values_;
  Index offset_ = 0;
};

struct Tolerance {
  double relative, absolute;
};

template <class T>
Tolerance tolerance(double factor = 1) {
  const double unit = sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
  return {factor * 16 * unit, factor * 16 * unit};
}

Storage halves = Storage::native;  // what 16 bits are at present

double value_of(double x) { return x; }
double value_of(uint16_t bits) {
  if (halves == Storage::float16) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return double(half);
  }
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

template <class T>
void compare(const std::string& name, const std::vector<T>& want, const std::vector<T>& got,
             Tolerance tolerance) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double a = value_of(want[i]), b = value_of(got[i]);
    const bool same = (std::isnan(a) && std::isnan(b)) || a == b ||
                      std::abs(a - b) <= tolerance.absolute + tolerance.relative * std::abs(a);
    if (same) continue;
    std::printf("%s: [%zu] cpu %.9g, device %.9g\n", name.c_str(), i, a, b);
    ++failures;
    return;
  }
}

template <class Op>
void on_cpu(const Op& op, DType dtype) {
  const Command command(op, dtype);
  const Backend& backend = cpu::backend();
  const Schedule schedule = backend.prepare(&command, 1, 1);
  void* workspace = backend.allocate(schedule.workspace_bytes);
  backend.execute(&command, 1, schedule, workspace);
  backend.release(workspace);
}

// `memory` is everything that build(memory) points to. It is copied for each run.
template <class T, class Memory, class Build>
void check(const std::string& name, const Memory& memory, Tolerance tolerance, Build build) {
  ++cases;
  if (std::getenv("VERBOSE")) std::printf("# %s\n", name.c_str());
  Memory host = memory, device = memory, again = memory;
  on_cpu(build(host), dtype_of<T>());
  engine::run_with_copies(cuda::backend(), {Command(build(device), dtype_of<T>())});
  engine::run_with_copies(cuda::backend(), {Command(build(again), dtype_of<T>())});
  host.each(device, [&](const char* part, const auto& want, const auto& got) {
    compare(name + " " + part + (sizeof(T) == 4 ? " float32" : " float64"), want.values(),
            got.values(), tolerance);
  });
  device.each(again, [&](const char* part, const auto& first, const auto& second) {
    const auto& a = first.values();
    if (std::memcmp(a.data(), second.values().data(), a.size() * sizeof(a[0])) == 0) return;
    std::printf("%s %s: other bits when it ran again\n", name.c_str(), part);
    ++failures;
  });
}

std::string text(const char* format, long long a = 0, long long b = 0, long long c = 0,
                 long long d = 0, long long e = 0) {
  char line[200];
  std::snprintf(line, sizeof(line), format, a, b, c, d, e);
  return line;
}

// ---- products ----------------------------------------------------------------------------------

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
  check<T>(text("forward %lldx%lldx%lld transposed %lld rule %lld", c.rows, c.in, c.out,
                c.transposed, c.rule) +
               text(" gap %lld bf16 %lld", c.gap, c.bfloat16),
           memory, dense_tolerance<T>(c.in), [&](DenseMemory<T>& m) {
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

// ---- rows --------------------------------------------------------------------------------------

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

template <class T>
void rows_of_all_lengths() {
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

// ---- losses ------------------------------------------------------------------------------------

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

// ---- elements ----------------------------------------------------------------------------------

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
void elements(Index n, Index offset) {
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

// ---- optimizers --------------------------------------------------------------------------------

template <class T>
struct OptimizerMemory {
  Numbers<T> p, g, s0, s1, s2, ema;
  Numbers<float> master, wide_ema;
  Numbers<uint16_t> p16, g16, s16[kMaxStates];
  Numbers<double> numbers;  // coefficients, then the norm, then the total
  std::vector<UpdateTensor> tensors;
  std::vector<PenaltyTerm> terms;
  std::vector<UpdateGroup> groups;
  template <class F>
  void each(const OptimizerMemory& o, F f) const {
    f("p", p, o.p);
    f("g", g, o.g);
    f("s0", s0, o.s0);
    f("s1", s1, o.s1);
    f("s2", s2, o.s2);
    f("ema", ema, o.ema);
    f("master", master, o.master);
    f("wide ema", wide_ema, o.wide_ema);
    f("p16", p16, o.p16);
    f("g16", g16, o.g16);
    for (const int k : {0, 1, 2}) f("s16", s16[k], o.s16[k]);
    f("numbers", numbers, o.numbers);
  }
};

uint16_t half_bits(Storage storage, double value) {
  if (storage == Storage::float16) {
    const _Float16 half = static_cast<_Float16>(value);
    uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
  }
  const float wide = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &wide, 4);
  return static_cast<uint16_t>(bits >> 16);
}

struct UpdateCase {
  int rule;
  std::vector<Index> lengths;
  Storage storage = Storage::native;
  bool master = false, decorated = false, aligned = true;
};

template <class T>
OptimizerMemory<T> optimizer_memory(const UpdateCase& c, Index& total) {
  total = 0;
  for (const Index n : c.lengths) total += n + (c.aligned ? (16 - n % 16) % 16 : 1);
  const bool half = c.storage != Storage::native;
  OptimizerMemory<T> m;
  const Index wide = half ? 0 : total, narrow = half ? total : 0;
  m.p = {wide, -1, 1};
  m.g = {wide, -1, 1};
  m.s0 = {wide, 0, 0.5};
  m.s1 = {wide, 0.1, 0.5};
  m.s2 = {wide, 0.1, 0.5};
  m.ema = {wide, -1, 1};
  m.master = {narrow, -1, 1};
  m.wide_ema = {narrow, -1, 1};
  const auto halves = [&](double low, double high) {
    const Numbers<double> exact(narrow, low, high);
    Numbers<uint16_t> numbers(narrow, 0, 0);
    for (size_t i = 0; i < size_t(narrow); ++i) {
      numbers.values()[i] = half_bits(c.storage, exact.values()[i]);
    }
    return numbers;
  };
  m.p16 = halves(-1, 1);
  m.g16 = halves(-1, 1);
  m.s16[0] = halves(0, 0.5);
  m.s16[1] = halves(0.1, 0.5);
  m.s16[2] = halves(0.1, 0.5);
  m.numbers = {Index(c.lengths.size()) + 2, 0.4, 0.9};
  m.groups.resize(2);
  for (UpdateGroup& group : m.groups) {
    // Not round: nothing may cancel exactly in one way of rounding and not in the other.
    const double first = &group == &m.groups[0] ? 0.1137 : 0.3071;
    for (int k = 0; k < kMaxConstants; ++k) group.constants[k] = first + 0.05 * k;
    group.ema_decay = 0.9;
    if (c.decorated) {
      group.gradient_scale = -0.5;
      group.clip_value = 0.3;
      group.l2 = 0.1;
      group.l1 = 0.05;
      group.shrink = 0.02;
    }
  }
  return m;
}

// Points the tables into the memory, which has its final place now.
template <class T>
void point(OptimizerMemory<T>& m, const UpdateCase& c) {
  m.tensors.clear();
  m.terms.clear();
  Index place = 0, before = 0;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const Index n = c.lengths[i];
    UpdateTensor t;
    PenaltyTerm term;
    t.n = term.n = n;
    t.before = term.before = before;
    t.group = int32_t(i % 2);
    if (c.storage == Storage::native) {
      t.parameter = m.p.data() + place;
      t.gradient = m.g.data() + place;
      T* states[] = {m.s0.data() + place, m.s1.data() + place, m.s2.data() + place};
      for (int k = 0; k < kMaxStates; ++k) t.state[k] = states[k];
      if (c.decorated) t.ema = m.ema.data() + place;
    } else {
      t.parameter = m.p16.data() + place;
      t.gradient = m.g16.data() + place;
      for (int k = 0; k < kMaxStates; ++k) t.state[k] = m.s16[k].data() + place;
      if (c.master) t.master = m.master.data() + place;
      if (c.decorated) t.ema = m.wide_ema.data() + place;
    }
    term.parameter = m.p.data() + place;
    term.l1 = 0.1 * double(i + 1);
    term.l2 = 0.2;
    m.tensors.push_back(t);
    m.terms.push_back(term);
    place += n + (c.aligned ? (16 - n % 16) % 16 : 1);
    before += n;
  }
}

Index sum_of(const std::vector<Index>& lengths) {
  Index sum = 0;
  for (const Index n : lengths) sum += n;
  return sum;
}

template <class T>
void update(const UpdateCase& c) {
  Index total;
  const OptimizerMemory<T> memory = optimizer_memory<T>(c, total);
  const std::string name =
      text("rule %lld tensors %lld elements %lld storage %lld", c.rule, (long long)c.lengths.size(),
           total, int(c.storage)) +
      text(" master %lld decorated %lld aligned %lld", c.master, c.decorated, c.aligned);
  // A unit in the last place of a half where two ways of rounding part.
  halves = c.storage;
  const Tolerance close =
      c.storage == Storage::native ? tolerance<T>(8) : Tolerance{1.0 / 128, 1e-6};
  check<T>("update " + name, memory, close, [&](OptimizerMemory<T>& m) {
    point(m, c);
    OptimizerStep op;
    op.rule = c.rule;
    op.storage = c.storage;
    op.tensors = m.tensors.data();
    op.n_tensors = Index(c.lengths.size());
    op.elements = sum_of(c.lengths);
    op.groups = m.groups.data();
    op.coefficients = c.decorated ? m.numbers.data() : nullptr;
    op.coefficient_per_tensor = c.decorated && c.aligned;
    op.clear_gradient = c.decorated;
    return op;
  });
}

template <class T>
void norms(const UpdateCase& c) {
  Index total;
  const OptimizerMemory<T> memory = optimizer_memory<T>(c, total);
  for (const bool global : {true, false}) {
    check<T>(text("clip tensors %lld elements %lld global %lld", (long long)c.lengths.size(), total,
                  global),
             memory, {1e-12, 1e-300}, [&](OptimizerMemory<T>& m) {
               point(m, c);
               ClipCoefficient op;
               op.tensors = m.tensors.data();
               op.n_tensors = Index(c.lengths.size());
               op.elements = sum_of(c.lengths);
               op.groups = m.groups.data();
               op.max_norm = 0.7;
               op.storage = c.storage;
               op.global = global;
               op.coefficients = m.numbers.data();
               op.norm = m.numbers.data() + c.lengths.size();
               return op;
             });
  }
  if (c.storage != Storage::native) return;
  check<T>(text("penalty terms %lld elements %lld", (long long)c.lengths.size(), total), memory,
           {1e-12, 0}, [&](OptimizerMemory<T>& m) {
             point(m, c);
             Penalty op;
             op.terms = m.terms.data();
             op.n_terms = Index(c.lengths.size());
             op.elements = sum_of(c.lengths);
             op.weight = 0.7;
             op.total = m.numbers.data() + c.lengths.size() + 1;
             return op;
           });
}

template <class T>
void optimizers() {
  std::vector<Index> many(40, 17);
  for (size_t i = 0; i < many.size(); i += 7) many[i] = 0;
  const std::vector<std::vector<Index>> lists = {
      {1},
      {7, 0, 130},
      {5000},
      {3, 2049, 1, 900, 0, 4100},
      {20000, 5},
      many
  };
  for (const auto& lengths : lists) {
    for (const bool aligned : {true, false}) {
      norms<T>({0, lengths, Storage::native, false, true, aligned});
      for (int rule = 0; rule < rules::Optimizers::size; ++rule) {
        const bool last = rule + 1 == rules::Optimizers::size;  // LAMB, which needs norms
        if (!last && rule % 7 != 0 && &lengths != &lists[3]) continue;
        update<T>({rule, lengths, Storage::native, false, aligned, aligned});
      }
    }
  }
  if (sizeof(T) == 8) return;
  for (const Storage storage : {Storage::bfloat16, Storage::float16}) {
    norms<T>({0, lists[3], storage, false, true, true});
    for (const bool flag : {true, false}) {
      for (int rule = 0; rule < rules::Optimizers::size; ++rule) {
        update<T>({rule, lists[3], storage, flag, flag, rule % 2 == 0});
      }
    }
  }
}

template <class T>
void all_elements() {
  for (const Index offset : {0, 1}) {
    for (const Index n : {0, 1, 5, 1003, 9000}) elements<T>(n, offset);
  }
  for (const Index gap : {0, 1, 4}) {
    copies<T>(7, 12, gap, 0);
    copies<T>(1, 3000, 0, gap);
    copies<T>(600, 3, gap, gap);
  }
}

struct Group {
  const char* name;
  void (*in_float32)();
  void (*in_float64)();
};

}  // namespace

// Arguments: the groups to check, or none for all.
int main(int n_arguments, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const Group groups[] = {
      {"elements",   &all_elements<float>,        &all_elements<double>       },
      {"rows",       &rows_of_all_lengths<float>, &rows_of_all_lengths<double>},
      {"losses",     &losses<float>,              &losses<double>             },
      {"optimizers", &optimizers<float>,          &optimizers<double>         },
      {"products",   &products<float>,            &products<double>           }
  };
  for (const Group& group : groups) {
    bool wanted = n_arguments == 1;
    for (int i = 1; i < n_arguments; ++i) wanted |= std::strcmp(arguments[i], group.name) == 0;
    if (!wanted) continue;
    group.in_float32();
    group.in_float64();
    std::printf("%s: %d cases, %d differences so far\n", group.name, cases, failures);
  }
  return failures == 0 ? 0 : 1;
}
