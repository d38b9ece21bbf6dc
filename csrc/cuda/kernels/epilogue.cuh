// SPDX-License-Identifier: Apache-2.0
// What becomes of a matrix product once it is summed up: bias and activation, or the derivative of an
// activation, or an addition to what is there. The same code ends a product kernel or follows one as a
// kernel of its own. Which rule is decided at run time, four elements at a time: a product kernel per
// rule would be too many.
#pragma once

#include "cuda/kernels/loops.cuh"
#include "rules/activations.h"

namespace fusednn::cuda {

constexpr int kLinear = PlaceIn<rules::Linear, rules::Activations>::value;

template <class T>
struct Finish {
  T* y = nullptr;
  Index y_row = 0;
  T* z = nullptr;  // where given: the sum with the bias, before the activation
  Index z_row = 0;
  const T* bias = nullptr;
  const T* saved =
      nullptr;  // where given: the derivative there multiplies, no activation is applied
  Index saved_row = 0;
  int rule = kLinear;
  bool accumulate = false;
  bool quads = false;  // every row of everything above begins where quads may be taken
  T parameters[kMaxParameters] = {};

  // Sets the rule, and once the rest is there, whether it lies well.
  FNN_HD void set(const ActivationSpec& activation) {
    rule = activation.rule;
    for (int i = 0; i < kMaxParameters; ++i) parameters[i] = T(activation.parameters[i]);
    quads = holds_packs(bias) && rows_hold_packs<T>({y, y_row}) && rows_hold_packs<T>({z, z_row}) &&
            rows_hold_packs<T>({saved, saved_row});
  }
};

// Four elements of a row, or fewer at its end.
struct Place {
  Index row, col;
  int count;
  bool whole;  // four, in one access
};

template <class T>
__device__ Quad<T> load(const T* row, const Place& place) {
  if (place.whole) return load_quad(row + place.col);
  Quad<T> quad = {};
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
    if (q < place.count) quad.lane[q] = row[place.col + q];
  }
  return quad;
}

template <class T>
__device__ void store(T* row, const Place& place, const Quad<T>& quad) {
  if (place.whole) return store_pack(row + place.col, quad);
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
    if (q < place.count) row[place.col + q] = quad.lane[q];
  }
}

// f(Rule) for the rule at a place of the list.
template <int kPlace, class F>
__device__ void with_rule(TypeList<>, int, F) {}
template <int kPlace = 0, class F, class Rule, class... Rest>
__device__ void with_rule(TypeList<Rule, Rest...>, int rule, F f) {
  if (rule == kPlace) {
    f(Rule{});
  } else {
    with_rule<kPlace + 1>(TypeList<Rest...>{}, rule, f);
  }
}

template <class T>
__device__ void activate(const Finish<T>& f, Quad<T>& v) {
  with_rule(rules::Activations{}, f.rule, [&](auto rule) {
#pragma unroll
    for (int q = 0; q < kQuad; ++q) {
      v.lane[q] = decltype(rule)::forward(v.lane[q], f.parameters);
    }
  });
}

template <class T>
__device__ void differentiate(const Finish<T>& f, const Quad<T>& saved, Quad<T>& v) {
  with_rule(rules::Activations{}, f.rule, [&](auto rule) {
#pragma unroll
    for (int q = 0; q < kQuad; ++q) {
      v.lane[q] = v.lane[q] * decltype(rule)::derivative(saved.lane[q], f.parameters);
    }
  });
}

// `part` is added to the place of the result. kRules: false where the product goes to its place as it
// is, as a gradient of weights does.
template <bool kRules, class T>
__device__ void finish_quad(const Finish<T>& f, Index part, Index row, Index col, int count,
                            Quad<T> v) {
  const Place place{row, col, count, f.quads && count == kQuad};
  T* y = f.y + part + row * f.y_row;
  if constexpr (kRules) {
    if (f.bias != nullptr) {
      const Quad<T> bias = load(f.bias, place);
#pragma unroll
      for (int q = 0; q < kQuad; ++q) v.lane[q] += bias.lane[q];
    }
    if (f.z != nullptr) store(f.z + row * f.z_row, place, v);
    if (f.saved != nullptr) {
      differentiate(f, load(f.saved + row * f.saved_row, place), v);
    } else if (f.rule != kLinear) {
      activate(f, v);
    }
  }
  if (f.accumulate) {
    const Quad<T> old = load(static_cast<const T*>(y), place);
#pragma unroll
    for (int q = 0; q < kQuad; ++q) v.lane[q] = old.lane[q] + v.lane[q];
  }
  store(y, place, v);
}

}  // namespace fusednn::cuda
