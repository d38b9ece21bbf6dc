// SPDX-License-Identifier: Apache-2.0
#include "kernel_check.h"

namespace fusednn::kernel_check {
namespace {

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
  Rounding rounding = Rounding::nearest;
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
    group.seed = 0x123456789abcdef;
    group.step = 5;
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
    t.number = uint32_t(3 * i);
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
  const std::string name = text("rule %lld tensors %lld elements %lld storage %lld", c.rule,
                                (long long)c.lengths.size(), total, int(c.storage)) +
                           text(" master %lld decorated %lld aligned %lld rounding %lld", c.master,
                                c.decorated, c.aligned, int(c.rounding));
  // A unit in the last place of a half where two ways of rounding part.
  halves = c.storage;
  const Tolerance close =
      c.storage == Storage::native ? tolerance<T>(8) : Tolerance{1.0 / 128, 1e-6};
  check<T>("update " + name, memory, close, [&](OptimizerMemory<T>& m) {
    point(m, c);
    OptimizerStep op;
    op.rule = c.rule;
    op.storage = c.storage;
    op.rounding = c.rounding;
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
             op.scale = &m.groups[0].penalty_scale;
             op.total = m.numbers.data() + c.lengths.size() + 1;
             return op;
           });
}

// Two steps: the second one begins where the rows begin again. There may be more groups than threads.
void beginnings() {
  struct Memory {
    StepClock clock{7, 10, 20, 32, 1};
    std::vector<UpdateGroup> table, groups;
  };
  for (const size_t n : {0, 1, 70}) {
    ++cases;
    Memory here;
    here.table.resize(3 * n);
    here.groups.resize(n);
    for (size_t i = 0; i < here.table.size(); ++i) here.table[i].l1 = double(i);
    Memory there = here;
    const auto step = [n](Memory& m) {
      BeginStep op;
      op.clock = &m.clock;
      op.rows = 12;
      op.trains = true;
      op.table = n > 0 ? m.table.data() : nullptr;
      op.groups = m.groups.data();
      op.n_groups = Index(n);
      return op;
    };
    for (int k = 0; k < 2; ++k) {
      on_cpu(step(here), DType::float32);
      engine::run_with_copies(cuda::backend(), {Command(step(there), DType::float32)});
    }
    bool same = here.clock == there.clock && there.clock == StepClock{9, 0, 12, 32, 3};
    for (size_t i = 0; i < n; ++i) {
      same &= here.groups[i].l1 == double(2 * n + i) && there.groups[i].l1 == here.groups[i].l1;
    }
    if (same) continue;
    std::printf("begin step, %zu groups: cpu and device differ\n", n);
    ++failures;
  }
}

}  // namespace

template <class T>
void optimizers() {
  beginnings();
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
        if (storage == Storage::bfloat16) {
          update<T>({rule, lists[3], storage, false, flag, rule % 2 == 0, Rounding::stochastic});
        }
      }
    }
  }
}

template void optimizers<float>();
template void optimizers<double>();

}  // namespace fusednn::kernel_check
