// SPDX-License-Identifier: Apache-2.0
// The optimizer step, and the norms that gradient clipping needs.
//
// Tensors are cut into pieces of fixed size, so sums over a tensor have the same order for any number
// of threads. What is optional in a step works on a piece that the update has just left in the cache,
// so memory is passed over once and the plain update stays plain.
#include "cpu/kernels/optimizer_parts.h"
#include "cpu/kernels/table.h"
#include "rules/optimizers.h"

namespace fusednn::FNN_ISA {
namespace {

using rules::Optimizers;

// ---- one step ----------------------------------------------------------------------------------

// What may change a gradient or a parameter before its rule sees it.
template <class T>
struct Decorations {
  using V = Vec<T>;
  V scale, limit, l2, l1, keep;
  bool limits, has_l2, has_l1, shrinks;

  FNN_HD Decorations(const UpdateGroup& g, double coefficient)
      : scale(g.gradient_scale * coefficient),
        limit(g.clip_value),
        l2(g.l2),
        l1(g.l1),
        keep(1 - g.shrink),
        limits(g.clip_value < kInfinity),
        has_l2(g.l2 != 0),
        has_l1(g.l1 != 0),
        shrinks(g.shrink != 0) {}

  FNN_HD bool only_scale() const { return !(limits | has_l2 | has_l1 | shrinks); }

  template <bool kAll>
  FNN_HD V gradient(V g, V p) const {
    g *= scale;
    if (kAll && limits) g = rules::clamp(g, -limit, limit);
    if (kAll && has_l2) g = rules::add_l2(g, p, l2);
    if (kAll && has_l1) g = rules::add_l1(g, p, l1);
    return g;
  }
  template <bool kAll>
  FNN_HD V parameter(V p) const {
    return kAll && shrinks ? rules::shrink(p, keep) : p;
  }
};

// Part of one tensor, ready for a rule.
template <class T, class Rule>
struct Work {
  using V = Vec<T>;
  using Constants = typename Rule::template Constants<V>;
  static_assert(sizeof(typename Rule::template Constants<double>) ==
                rules::n_constants<Rule> * sizeof(double));
  static_assert(rules::n_constants<Rule> <= kMaxConstants, "raise kMaxConstants");
  static_assert(Rule::n_states <= kMaxStates, "raise kMaxStates");

  const UpdateGroup& group;
  Constants constants;
  Decorations<T> decorations;
  T* parameter;
  T* gradient;
  T* state[kMaxStates];
  T* ema;
  Index n;

  FNN_HD Work(const OptimizerStep& op, const Piece& piece, const Part<T>& part)
      : Work(op, piece, part, op.groups[op.tensors[piece.tensor].group]) {}

  FNN_HD Work(const OptimizerStep& op, const Piece& piece, const Part<T>& part,
              const UpdateGroup& g)
      : group(g),
        constants(rules::constants_from<Rule, V>(g.constants)),
        decorations(
            g, op.coefficients ? op.coefficients[op.coefficient_per_tensor ? piece.tensor : 0] : 1),
        parameter(part.parameter),
        gradient(part.gradient),
        ema(part.ema),
        n(part.n) {
    for (int k = 0; k < Rule::n_states; ++k) state[k] = part.state[k];
  }

  // GCC warns of a loop that never runs, which a rule without state would have here.
  FNN_HD void load_states(Index i, int lanes, V* s) const {
    if constexpr (Rule::n_states > 0) {
      for (int k = 0; k < Rule::n_states; ++k) s[k] = V::load(state[k] + i, lanes);
    }
  }
  FNN_HD void store_states(Index i, int lanes, const V* s) const {
    if constexpr (Rule::n_states > 0) {
      for (int k = 0; k < Rule::n_states; ++k) s[k].store(state[k] + i, lanes);
    }
  }

  template <bool kAll>
  FNN_HD void update() const {
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE {
      V s[kMaxStates];
      load_states(i, lanes, s);
      V p = V::load(parameter + i, lanes);
      const V g = decorations.template gradient<kAll>(V::load(gradient + i, lanes), p);
      p = Rule::update(constants, decorations.template parameter<kAll>(p), g, s);
      store_states(i, lanes, s);
      p.store(parameter + i, lanes);
    });
  }

  // First pass of a layerwise rule: the moments, and the squared norms of parameter and direction.
  // With `directions` the latter are kept there.
  template <bool kAll>
  FNN_HD void update_moments(double* squares, T* directions) const {
    V square_p(0), square_u(0);
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE {
      V s[kMaxStates];
      load_states(i, lanes, s);
      V p = V::load(parameter + i, lanes);
      const V g = decorations.template gradient<kAll>(V::load(gradient + i, lanes), p);
      Rule::moments(constants, g, s);
      store_states(i, lanes, s);
      p = decorations.template parameter<kAll>(p);
      const V u = first(lanes, Rule::direction(constants, p, s), V(0));
      if (directions != nullptr) u.store(directions + i, lanes);
      square_p = fma(p, p, square_p);
      square_u = fma(u, u, square_u);
    });
    squares[0] += double(sum(square_p));
    squares[1] += double(sum(square_u));
  }

  // The norms alone, of moments that are there.
  FNN_HD void norms(double* squares) const {
    V square_p(0), square_u(0);
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE {
      V s[kMaxStates];
      load_states(i, lanes, s);
      const V p = decorations.template parameter<true>(V::load(parameter + i, lanes));
      const V u = first(lanes, Rule::direction(constants, p, s), V(0));
      square_p = fma(p, p, square_p);
      square_u = fma(u, u, square_u);
    });
    squares[0] += double(sum(square_p));
    squares[1] += double(sum(square_u));
  }

  // Second pass of a layerwise rule.
  FNN_HD void apply(double ratio, const T* directions) const {
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE {
      const V p = decorations.template parameter<true>(V::load(parameter + i, lanes));
      V u;
      if (directions != nullptr) {
        u = V::load(directions + i, lanes);
      } else {
        V s[kMaxStates];
        load_states(i, lanes, s);
        u = Rule::direction(constants, p, s);
      }
      Rule::apply(constants, p, u, V(ratio)).store(parameter + i, lanes);
    });
  }

  FNN_HD void average() const {
    const V weight(1 - group.ema_decay);
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE {
      rules::lerp(V::load(ema + i, lanes), V::load(parameter + i, lanes), weight)
          .store(ema + i, lanes);
    });
  }

  FNN_HD void clear_gradient() const {
    for_lanes<V>(0, n, [&](Index i, int lanes) FNN_INLINE { V(0).store(gradient + i, lanes); });
  }
};

template <class T, class Rule>
void step_elementwise(const OptimizerStep& op, const Context& context) {
  for_pieces(op.tensors, op.n_tensors, context, [&](const Piece& piece) FNN_INLINE {
    for_parts<T>(op, piece, Rule::n_states, [&](const Part<T>& part) FNN_INLINE {
      const Work<T, Rule> work(op, piece, part);
      if (work.decorations.only_scale()) {
        work.template update<false>();
      } else {
        work.template update<true>();
      }
      if (work.ema) work.average();
      if (op.clear_gradient) work.clear_gradient();
    });
  });
}

// Whether the directions of a layerwise rule are kept from one pass to the next: as long as they stay in
// the cache, that is cheaper than the roots and divisions they are made of. Where tensors
// are stored in a narrower type, the moments they belong to are rounded only after the first pass.
FNN_HD bool keeps_directions(const OptimizerStep& op, Index pieces) {
  constexpr Index most = 128;
  return op.storage == Storage::native && pieces <= most;
}

template <class T, class Rule>
void step_layerwise(const OptimizerStep& op, const Context& context) {
  double* squares = reinterpret_cast<double*>(context.workspace);  // two per piece
  const Index pieces = count_pieces(op.tensors, op.n_tensors);
  T* kept = keeps_directions(op, pieces) ? reinterpret_cast<T*>(squares + 2 * pieces) : nullptr;
  const auto directions = [&](const Piece& piece) FNN_INLINE {
    return kept == nullptr ? nullptr : kept + piece.number * kPiece;
  };
  for_pieces(op.tensors, op.n_tensors, context, [&](const Piece& piece) FNN_INLINE {
    double* square = squares + 2 * piece.number;
    square[0] = square[1] = 0;
    double unrounded[2] = {};
    const bool rounds = op.storage != Storage::native;
    for_parts<T>(op, piece, Rule::n_states, [&](const Part<T>& part) FNN_INLINE {
      const Work<T, Rule> work(op, piece, part);
      work.template update_moments<true>(rounds ? unrounded : square, directions(piece));
      if (op.clear_gradient) work.clear_gradient();
    });
    if (!rounds) return;
    // The second pass sees moments as they were stored, perhaps rounded to zero: so must the norms.
    for_parts<T>(op, piece, Rule::n_states, [&](const Part<T>& part) FNN_INLINE {
      Work<T, Rule>(op, piece, part).norms(square);
    });
  });
  context.sync();

  // Each thread adds up the norms of the tensors it has pieces of: cheaper than to wait once more.
  Index tensor = -1;
  double ratio = 1;
  for_pieces(op.tensors, op.n_tensors, context, [&](const Piece& piece) FNN_INLINE {
    if (piece.tensor != tensor) {
      tensor = piece.tensor;
      double square_p = 0, square_u = 0;
      for (Index k = piece.first; k < piece.first + piece.n; ++k) {
        square_p += squares[2 * k];
        square_u += squares[2 * k + 1];
      }
      ratio = Rule::trust_ratio(__builtin_sqrt(square_p), __builtin_sqrt(square_u));
    }
    for_parts<T>(op, piece, Rule::n_states, [&](const Part<T>& part) FNN_INLINE {
      const Work<T, Rule> work(op, piece, part);
      work.apply(ratio, directions(piece));
      if (work.ema) work.average();
    });
  });
}

// All that happens in a step that is left out.
template <class T>
void clear_gradients(const OptimizerStep& op, const Context& context) {
  const Index bytes = op.storage == Storage::native ? sizeof(T) : sizeof(uint16_t);
  for_pieces(op.tensors, op.n_tensors, context, [&](const Piece& piece) FNN_INLINE {
    char* gradient = static_cast<char*>(op.tensors[piece.tensor].gradient);
    __builtin_memset(gradient + piece.begin * bytes, 0, size_t((piece.end - piece.begin) * bytes));
  });
}

template <class T, class Rule>
void step(const OptimizerStep& op, const Context& context) {
  if constexpr (Rule::layerwise) {
    step_layerwise<T, Rule>(op, context);
  } else {
    step_elementwise<T, Rule>(op, context);
  }
}

template <class T, class... Rules>
constexpr RuleTable<OptimizerStep, sizeof...(Rules)> step_kernels(TypeList<Rules...>) {
  return {{&step<T, Rules>...}};
}

template <class Rule>
void prepare(const PrepareUpdate& op, const Context&) {
  for (Index i = 0; i < op.n; ++i) op.prepare<Rule>(i);
}

template <class... Rules>
constexpr RuleTable<PrepareUpdate, sizeof...(Rules)> prepare_kernels(TypeList<Rules...>) {
  return {{&prepare<Rules>...}};
}

struct Traits {
  int n_states;
  bool layerwise;
};

template <class... Rules>
Traits traits_of(int32_t rule, TypeList<Rules...>) {
  constexpr Traits list[] = {
      {Rules::n_states, Rules::layerwise}
      ...
  };
  return list[rule];
}

Index count_elements(const UpdateTensor* tensors, Index n_tensors) {
  Index n = 0;
  for (Index i = 0; i < n_tensors; ++i) n += tensors[i].n;
  return n;
}

// ---- the norm of the gradients -------------------------------------------------------------------

// Elements as lanes of double.
FNN_HD Vec<double> load_double(const double* p, int lanes) { return Vec<double>::load(p, lanes); }
FNN_HD Vec<double> load_double(const float* p, int lanes) {
  typedef float Half __attribute__((vector_size(vector_bytes / 2)));
  Half half{};
  if (lanes == Vec<double>::size) {
    __builtin_memcpy(&half, p, sizeof(Half));
  } else {
    for (int i = 0; i < lanes; ++i) half[i] = p[i];
  }
  return Vec<double>(__builtin_convertvector(half, F64));
}

// In double, where the square of any float fits and is exact. A second pass with a common scale, the
// other way to survive large gradients, would read them twice.
template <class T>
FNN_HD double sum_of_squares(const T* x, Index n) {
  using V = Vec<double>;
  V total[4] = {V(0), V(0), V(0), V(0)};
  Index i = 0;
  for (; i + 4 * V::size <= n; i += 4 * V::size) {
    for (int k = 0; k < 4; ++k) {
      const V v = load_double(x + i + k * V::size, V::size);
      total[k] = fma(v, v, total[k]);
    }
  }
  for_lanes<V>(i, n, [&](Index j, int lanes) FNN_INLINE {
    const V v = load_double(x + j, lanes);
    total[0] = fma(v, v, total[0]);
  });
  return sum((total[0] + total[1]) + (total[2] + total[3]));
}

template <class T>
double sum_of_squares(Storage storage, const void* data, Index begin, Index end) {
  if (storage == Storage::native) {
    return sum_of_squares(static_cast<const T*>(data) + begin, end - begin);
  }
  float wide[WidePart::kLength];
  double total = 0;
  for (Index i = begin; i < end; i += WidePart::kLength) {
    const Index n = end - i < WidePart::kLength ? end - i : WidePart::kLength;
    widen(storage, static_cast<const uint16_t*>(data) + i, wide, n);
    total += sum_of_squares(wide, n);
  }
  return total;
}

}  // namespace

template <class T>
void run(const ClipCoefficient& op, const Context& context) {
  double* partial = reinterpret_cast<double*>(context.workspace);  // one per piece
  for_pieces(op.tensors, op.n_tensors, context, [&](const Piece& piece) FNN_INLINE {
    partial[piece.number] =
        sum_of_squares<T>(op.storage, op.tensors[piece.tensor].gradient, piece.begin, piece.end);
  });
  context.sync();
  if (context.rank != 0) return;

  double all = 0;
  for (Index i = 0; i < op.n_tensors; ++i) {
    double square = 0;
    for (Index left = pieces_of(op.tensors[i]); left > 0; --left) square += *partial++;
    const double scale = op.groups[op.tensors[i].group].gradient_scale;
    square *= scale * scale;
    all += square;
    if (!op.global)
      op.coefficients[i] = rules::clip_coefficient(__builtin_sqrt(square), op.max_norm);
  }
  const double norm = __builtin_sqrt(all);
  if (op.global) op.coefficients[0] = rules::clip_coefficient(norm, op.max_norm);
  if (op.norm) *op.norm = norm;
}

template <class T>
Demand demand(const ClipCoefficient& op, int) {
  const double bytes = sizeof(T) * double(count_elements(op.tensors, op.n_tensors));
  return {100 + 20.0 * double(op.n_tensors) + 0.02 * bytes,
          sizeof(double) * size_t(count_pieces(op.tensors, op.n_tensors))};
}

template <class T>
void run(const PrepareUpdate& op, const Context& context) {
  constexpr auto kernels = prepare_kernels(Optimizers{});
  if (context.rank == 0) kernels.run[op.rule](op, context);
}

template <class T>
Demand demand(const PrepareUpdate& op, int) {
  return {100.0 * double(op.n), 0};
}

template <class T>
void run(const OptimizerStep& op, const Context& context) {
  if (op.found_inf != nullptr && *op.found_inf != 0) {
    if (op.clear_gradient) clear_gradients<T>(op, context);
    return;
  }
  constexpr auto kernels = step_kernels<T>(Optimizers{});
  kernels.run[op.rule](op, context);
}

template <class T>
Demand demand(const OptimizerStep& op, int) {
  const Traits traits = traits_of(op.rule, Optimizers{});
  const int streams = 3 + 2 * traits.n_states + (traits.layerwise ? 3 : 0);
  const double bytes = streams * sizeof(T) * double(count_elements(op.tensors, op.n_tensors));
  const Index pieces = traits.layerwise ? count_pieces(op.tensors, op.n_tensors) : 0;
  // The caches deliver four times as fast as memory.
  constexpr double cached = 6e6;
  const double far = bytes > cached ? bytes - cached : 0;
  const size_t kept = keeps_directions(op, pieces) ? size_t(pieces * kPiece) * sizeof(T) : 0;
  return {60 + 20.0 * double(op.n_tensors) + 0.005 * bytes + 0.015 * far,
          2 * sizeof(double) * size_t(pieces) + kept};
}

template void run<float>(const ClipCoefficient&, const Context&);
template void run<double>(const ClipCoefficient&, const Context&);
template void run<float>(const PrepareUpdate&, const Context&);
template void run<double>(const PrepareUpdate&, const Context&);
template void run<float>(const OptimizerStep&, const Context&);
template void run<double>(const OptimizerStep&, const Context&);
template Demand demand<float>(const ClipCoefficient&, int);
template Demand demand<double>(const ClipCoefficient&, int);
template Demand demand<float>(const PrepareUpdate&, int);
template Demand demand<double>(const PrepareUpdate&, int);
template Demand demand<float>(const OptimizerStep&, int);
template Demand demand<double>(const OptimizerStep&, int);

}  // namespace fusednn::FNN_ISA
