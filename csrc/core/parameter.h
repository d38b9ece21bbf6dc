// SPDX-License-Identifier: Apache-2.0
// How a rule names its hyper-parameters, so that Python learns names, defaults and domains from the
// rule itself and nothing is written twice.
#pragma once

namespace fusednn {

constexpr double kInfinity = __builtin_huge_val();

// One hyper-parameter of an activation or a loss: its default and the closed interval it may lie in.
struct Parameter {
  const char* name;
  double value;
  double low;
  double high;
};

constexpr int kMaxParameters = 4;

template <int N>
struct Parameters {
  static_assert(N <= kMaxParameters, "raise kMaxParameters");
  static constexpr int size = N;
  Parameter list[N];
};

template <>
struct Parameters<0> {
  static constexpr int size = 0;
  static constexpr Parameter* list = nullptr;
};

// One hyper-parameter of an optimizer: a named member of its Hyper struct, which holds the default.
template <class Hyper>
struct Field {
  const char* name;
  double Hyper::* member;
};

}  // namespace fusednn
