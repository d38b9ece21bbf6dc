// SPDX-License-Identifier: Apache-2.0
// Rows of dense layers in one launch (cuda/fusion.h): the same as the commands one by one, as a network in
// float64 whose operands are rounded, and the same bits when it runs again.
#include "cuda/fusion.h"

#include "engine/catalog.h"
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

constexpr int kSharedBytes = 227 << 10;

enum class Order {
  beside,
  late
};  // gradients of weights before those of inputs, or all at the end

struct Net {
  std::vector<Index> widths;
  Index rows = 1;
  int rule = 1, last_rule = 0;
  bool bias = true, transposed = false, accumulate = false, float16 = false, wants_dx = true;
  Index gap = 0;
  Order order = Order::beside;

  size_t layers() const { return widths.size() - 1; }
  int rule_of(size_t l) const { return l + 1 < layers() ? rule : last_rule; }
};

using Arrays = std::vector<Numbers<float>>;

struct Memory {
  Arrays x, w, bias, y, z, dz, dw, dbias, sums;

  explicit Memory(const Net& net) {
    const Index rows = net.rows, gap = net.gap;
    for (size_t l = 0; l <= net.layers(); ++l) {
      const Index width = net.widths[l];
      x.emplace_back(l == 0 ? rows * (width + gap) : 0, -1, 1);
      dz.emplace_back(rows * (width + gap), -1, 1, Index(gap % 2));
      if (l == 0) continue;
      const Index in = net.widths[l - 1];
      const double scale = 1.7 / std::sqrt(double(in));
      w.emplace_back(in * width + gap * (net.transposed ? width : in), -scale, scale);
      bias.emplace_back(width, -0.5, 0.5);
      y.emplace_back(rows * width, -1, 1);
      z.emplace_back(rows * width, -1, 1);
      dw.emplace_back(in * width, -1, 1);
      dbias.emplace_back(width, -1, 1);
    }
    sums.emplace_back(rows + 2, -1, 1);
  }
};

bool saves_input(int rule) { return engine::activations()[size_t(rule)].saves_input; }

class Commands {
 public:
  std::vector<Command> list;

  // `inner`: nobody sees what lies between the layers.
  void forward(const Net& net, Memory& m, bool inner, bool keeps_z) {
    for (size_t l = 0; l < net.layers(); ++l) {
      DenseForward op;
      op.x = l == 0 ? ConstMatrix(m.x[0].data(), net.widths[0] + net.gap)
                    : ConstMatrix(m.y[l - 1].data(), net.widths[l]);
      op.w = weights(net, m, l);
      op.bias = net.bias ? m.bias[l].data() : nullptr;
      op.y = {m.y[l].data(), net.widths[l + 1]};
      if (keeps_z && saves_input(net.rule_of(l))) op.z = {m.z[l].data(), net.widths[l + 1]};
      shape(op, net, l);
      op.activation = activation(net.rule_of(l));
      op.bfloat16 = !net.float16;
      op.float16 = net.float16;
      add(op, inner && l + 1 < net.layers());
    }
  }

  void backward(const Net& net, Memory& m, bool inner) {
    std::vector<DenseBackwardWeights> late;
    for (size_t l = net.layers(); l-- > 0;) {
      DenseBackwardWeights op;
      op.x = l == 0 ? ConstMatrix(m.x[0].data(), net.widths[0] + net.gap)
                    : ConstMatrix(m.y[l - 1].data(), net.widths[l]);
      op.dz = dz(net, m, l + 1);
      op.dw = {m.dw[l].data(), net.transposed ? net.widths[l] : net.widths[l + 1]};
      op.dbias = net.bias ? m.dbias[l].data() : nullptr;
      op.accumulate = net.accumulate;
      op.bfloat16 = true;
      shape(op, net, l);
      if (net.order == Order::late) {
        late.push_back(op);
      } else {
        add(op, inner);
      }
      if (l == 0 && !net.wants_dx) break;
      DenseBackwardInput back;
      back.dz = op.dz;
      back.w = weights(net, m, l);
      const ConstMatrix dx = dz(net, m, l);
      back.dx = {const_cast<void*>(dx.data), dx.stride};
      back.accumulate = l == 0 && net.accumulate;
      back.bfloat16 = true;
      shape(back, net, l);
      if (l > 0) {
        back.activation = activation(net.rule);
        back.saved = {saves_input(net.rule) ? m.z[l - 1].data() : m.y[l - 1].data(), net.widths[l]};
      }
      add(back, inner && l > 0);
    }
    if (late.empty()) return;
    Sum sum;
    sum.values = m.sums[0].data() + 2;
    sum.n = net.rows;
    sum.total = reinterpret_cast<double*>(m.sums[0].data());
    add(sum, inner);
    for (const DenseBackwardWeights& op : late) add(op, inner);
    for (Command& command : list) command.apart = true;
  }

 private:
  template <class Op>
  static void shape(Op& op, const Net& net, size_t l) {
    op.rows = net.rows;
    op.in = net.widths[l];
    op.out = net.widths[l + 1];
    op.transposed = net.transposed;
  }
  static ActivationSpec activation(int rule) {
    ActivationSpec spec;
    spec.rule = rule;
    spec.parameters[0] = 0.3;
    return spec;
  }
  static ConstMatrix weights(const Net& net, Memory& m, size_t l) {
    return {m.w[l].data(), (net.transposed ? net.widths[l] : net.widths[l + 1]) + net.gap};
  }
  static ConstMatrix dz(const Net& net, Memory& m, size_t l) {
    return {m.dz[l].data(), net.widths[l] + net.gap};
  }
  template <class Op>
  void add(const Op& op, bool inner) {
    list.emplace_back(op, DType::float32);
    list.back().inner = inner;
  }
};

// The distance of two arrays as a share of their size.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    off += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    size += double(a[i]) * a[i];
  }
  return std::sqrt(off / (size + 1e-30));
}

void fail(const std::string& name, const char* what, double number) {
  std::printf("%s: %s %.3g\n", name.c_str(), what, number);
  ++failures;
}

struct Expected {
  int forwards, backwards;  // launches; -1: whatever there are
};

using Build = std::function<Commands(Memory&)>;
using Results = std::function<std::vector<Arrays*>(Memory&)>;

void run(const Build& build, Memory& memory, cuda::Fusing fusing) {
  cuda::set_fusing(fusing);
  engine::run_with_copies(cuda::backend(), build(memory).list);
  cuda::set_fusing(cuda::Fusing::where_faster);
}

void check(const std::string& name, const Net& net, Expected expected, double tolerance,
           const Build& build, const Results& results) {
  ++cases;
  if (std::getenv("VERBOSE")) std::printf("# %s\n", name.c_str());
  const Memory memory(net);
  Memory apart = memory, fused = memory, again = memory;
  const Commands commands = build(fused);
  cuda::set_fusing(cuda::Fusing::always);
  const cuda::Fusion fusion(commands.list.data(), int(commands.list.size()), kSharedBytes);
  if (expected.forwards >= 0 && int(fusion.forwards().size()) != expected.forwards) {
    fail(name, "forward launches:", double(fusion.forwards().size()));
  }
  if (expected.backwards >= 0 && int(fusion.backwards().size()) != expected.backwards) {
    fail(name, "backward launches:", double(fusion.backwards().size()));
  }
  // On devices with less shared memory rows are cut elsewhere.
  for (const int bytes : {163 << 10, 99 << 10}) {
    const cuda::Fusion less(commands.list.data(), int(commands.list.size()), bytes);
    for (const auto& chain : less.forwards()) {
      if (chain.shared_bytes > bytes) fail(name, "shared memory", chain.shared_bytes);
    }
    for (const auto& chain : less.backwards()) {
      if (chain.shared_bytes > bytes) fail(name, "shared memory", chain.shared_bytes);
    }
  }
  run(build, apart, cuda::Fusing::never);
  run(build, fused, cuda::Fusing::always);
  run(build, again, cuda::Fusing::always);
  const auto want = results(apart), got = results(fused), second = results(again);
  for (size_t k = 0; k < want.size(); ++k) {
    for (size_t l = 0; l < want[k]->size(); ++l) {
      const auto& a = (*want[k])[l].values();
      const auto& b = (*got[k])[l].values();
      const double off = distance(a, b);
      if (!(off <= tolerance)) {
        fail(name + text(" result %lld of layer %lld", (long long)k, (long long)l), "is off by",
             off);
      }
      const auto& c = (*second[k])[l].values();
      if (!b.empty() && std::memcmp(b.data(), c.data(), b.size() * sizeof(float)) != 0) {
        fail(name, "other bits when it ran again, result", double(k));
      }
    }
  }
}

std::string name_of(const char* what, const Net& net) {
  std::string name = std::string(what) + " widths";
  for (const Index width : net.widths) name += text(" %lld", width);
  return name + text(" rows %lld rule %lld transposed %lld", net.rows, net.rule, net.transposed) +
         text(" accumulate %lld late %lld dx %lld gap %lld float16 %lld", net.accumulate,
              net.order == Order::late, net.wants_dx, net.gap, net.float16);
}

// A derivative kept in 16 bits changes where some products round their operands, by 1 in 256.
double backward_tolerance(const Net& net) { return cuda::tells_slope(net.rule) ? 5e-4 : 8e-3; }

void forward(const Net& net, int launches = 1) {
  check(
      name_of("inference", net), net, {launches, 0}, 5e-4,
      [&](Memory& m) {
        Commands commands;
        commands.forward(net, m, true, false);
        return commands;
      },
      [](Memory& m) {
        Arrays last{m.y.back()};
        m.y = last;
        return std::vector<Arrays*>{&m.y};
      });
  check(
      name_of("all outputs", net), net, {launches, 0}, 5e-4,
      [&](Memory& m) {
        Commands commands;
        commands.forward(net, m, false, true);
        return commands;
      },
      [](Memory& m) { return std::vector<Arrays*>{&m.y, &m.z}; });
}

// As plans lay out large batches: two blocks take turns, and the last y lies where x was.
void in_turns(size_t layers) {
  Net net;
  net.rows = 300;
  net.widths = std::vector<Index>(layers + 1, 24);
  net.widths[1] = 20;
  check(
      name_of("in turns", net), net, {1, 0}, 5e-4,
      [&](Memory& m) {
        Commands commands;
        commands.forward(net, m, true, false);
        void* blocks[2] = {m.x[0].data(), m.y[1].data()};
        for (size_t l = 0; l < layers; ++l) {
          auto& op = *reinterpret_cast<DenseForward*>(commands.list[l].arguments);
          op.x.data = blocks[l % 2];
          op.y.data = blocks[(l + 1) % 2];
        }
        Sum sum;  // reads the last y
        sum.values = blocks[layers % 2];
        sum.n = net.rows * 24;
        sum.total = reinterpret_cast<double*>(m.sums[0].data());
        commands.list.emplace_back(sum, DType::float32);
        return commands;
      },
      [&](Memory& m) {
        if (layers % 2 == 0) return std::vector<Arrays*>{&m.x};
        m.y = Arrays{m.y[1]};
        return std::vector<Arrays*>{&m.y};
      });
}

std::vector<Arrays*> gradients(Memory& m) {
  // What lies between the layers need not be there.
  for (size_t l = 1; l + 1 < m.dz.size(); ++l) m.dz[l] = Numbers<float>();
  return {&m.dw, &m.dbias, &m.dz};
}

void training(const Net& net, int forwards = 1, int backwards = 1) {
  check(
      name_of("training", net), net, {forwards, backwards}, backward_tolerance(net),
      [&](Memory& m) {
        Commands commands;
        commands.forward(net, m, true, true);
        commands.backward(net, m, true);
        return commands;
      },
      gradients);
}

void given(const Net& net, int backwards = 1) {
  check(
      name_of("backward", net), net, {0, backwards}, backward_tolerance(net),
      [&](Memory& m) {
        Commands commands;
        commands.backward(net, m, true);
        return commands;
      },
      gradients);
}

// ---- against float64 ---------------------------------------------------------------------------------

double rounded(double x) {
  if (x == 0) return 0;
  int exponent;
  (void)std::frexp(x, &exponent);
  const double unit = std::ldexp(1.0, exponent - 8);
  return std::nearbyint(x / unit) * unit;
}

// tanh and a linear last layer, in a few lines that share nothing with the kernels.
void against_float64(const Net& net) {
  ++cases;
  Memory m(net);
  const Memory before = m;
  Commands commands;
  commands.forward(net, m, true, true);
  commands.backward(net, m, true);
  cuda::set_fusing(cuda::Fusing::always);
  engine::run_with_copies(cuda::backend(), commands.list);
  cuda::set_fusing(cuda::Fusing::where_faster);

  const size_t n = net.layers(), rows = size_t(net.rows);
  const auto width = [&](size_t l) { return size_t(net.widths[l]); };
  const auto array = [](const Numbers<float>& numbers) {
    return std::vector<double>(numbers.values().begin(), numbers.values().end());
  };
  std::vector<std::vector<double>> a{array(before.x[0])};
  for (size_t l = 0; l < n; ++l) {
    const auto w = array(before.w[l]), b = array(before.bias[l]);
    std::vector<double> y(rows * width(l + 1));
    for (size_t r = 0; r < rows; ++r) {
      for (size_t j = 0; j < width(l + 1); ++j) {
        double sum = b[j];
        for (size_t i = 0; i < width(l); ++i) {
          sum += rounded(a[l][r * width(l) + i]) * rounded(w[i * width(l + 1) + j]);
        }
        y[r * width(l + 1) + j] = l + 1 < n ? std::tanh(sum) : sum;
      }
    }
    a.push_back(y);
  }
  const auto close = [&](const char* what, const std::vector<double>& right,
                         const std::vector<float>& got, double tolerance) {
    const double off = distance(std::vector<float>(right.begin(), right.end()), got);
    if (!(off <= tolerance)) fail(name_of(what, net), "is off by", off);
  };
  close("y in float64", a[n], m.y[n - 1].values(), 1e-3);
  std::vector<double> dz = array(before.dz[n]);
  for (size_t l = n; l-- > 0;) {
    const auto w = array(before.w[l]);
    std::vector<double> dw(width(l) * width(l + 1)), db(width(l + 1)), dx(rows * width(l));
    for (size_t r = 0; r < rows; ++r) {
      for (size_t j = 0; j < width(l + 1); ++j) {
        const double g = dz[r * width(l + 1) + j];
        db[j] += g;
        for (size_t i = 0; i < width(l); ++i) {
          dw[i * width(l + 1) + j] += rounded(a[l][r * width(l) + i]) * rounded(g);
          dx[r * width(l) + i] += rounded(g) * rounded(w[i * width(l + 1) + j]);
        }
      }
    }
    close("dw in float64", dw, m.dw[l].values(), 4e-3);
    close("dbias in float64", db, m.dbias[l].values(), 4e-3);
    for (size_t i = 0; l > 0 && i < dx.size(); ++i) dx[i] *= 1 - a[l][i] * a[l][i];
    dz = dx;
  }
  close("dx in float64", dz, m.dz[0].values(), 4e-3);
}

Net net_of(std::vector<Index> widths, Index rows, int rule = 1) {
  Net net;
  net.widths = std::move(widths);
  net.rows = rows;
  net.rule = rule;
  return net;
}

}  // namespace

void fused() {
  constexpr int kTanh = PlaceIn<rules::Tanh, rules::Activations>::value;
  constexpr int kGelu = PlaceIn<rules::Gelu, rules::Activations>::value;
  // Every width, of two, three and six layers, with odd ends and tails of rows.
  for (const Index width : {16, 32, 48, 64, 128}) {
    for (const Index depth : {1, 2, 5}) {
      Net net = net_of({7}, width == 64 && depth == 2 ? 1000 : depth == 5 ? 130 : 7);
      for (Index k = 0; k < depth; ++k) net.widths.push_back(width);
      net.widths.push_back(3);
      forward(net);
      const bool cut = width == 128 && depth == 5;  // gradients of four matrices do not fit
      training(net, 1, cut ? 2 : 1);
      given(net, cut ? 2 : 1);
      net.rule = depth == 2 ? kGelu : kTanh;
      net.last_rule = kTanh;
      net.transposed = true;
      net.gap = depth == 1 ? 3 : 0;
      net.order = Order::late;
      net.accumulate = depth == 2;
      net.wants_dx = depth != 1;
      if (!cut) forward(net);
      training(net, 1, -1);
      given(net, -1);
    }
  }
  forward(net_of({16, 256, 256, 5}, 40));
  forward(net_of({16, 256, 256, 256, 5}, 20), 2);
  training(net_of({16, 256, 5}, 20), 1, 0);
  for (const Index rows : {1, 16, 128, 129, 1000}) training(net_of({32, 32, 32, 1}, rows));
  in_turns(5);
  in_turns(4);
  // Ends that stay by themselves.
  for (const Order order : {Order::beside, Order::late}) {
    Net wide = net_of({300, 24, 24, 40, 270}, 33);
    wide.order = order;
    training(wide);
    wide.widths = {300, 24, 24, 40, 200};
    training(wide);
  }
  // More tiles than blocks: each has several.
  training(net_of({2, 8, 1}, 128 * 140 + 5));
  for (int rule = 0; rule < rules::Activations::size; ++rule) {
    Net net = net_of({9, 20, 24, 2}, 35, rule);
    forward(net);
    training(net);
    given(net);
  }
  Net half = net_of({9, 20, 24, 2}, 35, kGelu);
  half.float16 = true;
  forward(half);
  training(half);
  against_float64(net_of({5, 33, 64, 64, 4}, 70, kTanh));
  against_float64(net_of({64, 128, 100, 1}, 150, kTanh));
}

}  // namespace fusednn::kernel_check
