// SPDX-License-Identifier: Apache-2.0
// What the tests of the dense products share: matrices with watched gaps, and running one operation on
// a team.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu/backend.h"

namespace fusednn::testing {

inline int failures = 0;

inline void fail(const std::string& what) {
  std::printf("FAILED %s\n", what.c_str());
  if (++failures > 20) std::exit(1);
}

constexpr double kSentinel = 777;                  // in gaps between rows: neither used nor changed
enum Rule { kLinear = 0, kRelu = 1, kTanh = 10 };  // places in rules::Activations

struct Shape {
  Index rows, in, out, gap;
};

inline std::mt19937 generator(1);

template <class T>
struct Array {
  Index rows, cols, stride;
  std::vector<T> data;

  Array(Index r, Index c, Index gap, bool random = true)
      : rows(r),
        cols(c),
        stride(c + gap),
        data(static_cast<size_t>(r * (c + gap)) + 1, T(kSentinel)) {
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (Index i = 0; i < r && random; ++i) {
      for (Index j = 0; j < c; ++j) at(i, j) = T(uniform(generator));
    }
  }
  T& at(Index i, Index j) { return data[static_cast<size_t>(i * stride + j)]; }
  T at(Index i, Index j) const { return data[static_cast<size_t>(i * stride + j)]; }
  double value(Index i, Index j) const { return double(at(i, j)); }
  operator Matrix() { return {data.data(), stride}; }
  operator ConstMatrix() const { return {data.data(), stride}; }

  bool gaps_are_whole() const {
    if (data.back() != T(kSentinel)) return false;
    for (Index i = 0; i < rows; ++i) {
      for (Index j = cols; j < stride; ++j) {
        if (at(i, j) != T(kSentinel)) return false;
      }
    }
    return true;
  }
};

// Runs one operation on a team of a given size.
template <class T, class Op>
void run(const Op& op, int threads) {
  const Command command(op, dtype_of<T>());
  const Schedule schedule = cpu::prepare_for_team(&command, 1, threads);
  const Backend& backend = cpu::backend();
  void* workspace = backend.allocate(schedule.workspace_bytes);
  std::memset(workspace, 0xff, schedule.workspace_bytes);  // NaN: nothing may count on zeros
  backend.execute(&command, 1, schedule, workspace, 1);
  backend.release(workspace);
}

inline double activate(int rule, double z) {
  return rule == kRelu ? std::fmax(z, 0.0) : rule == kTanh ? std::tanh(z) : z;
}
inline double slope(int rule, double y) {
  return rule == kRelu ? double(y > 0) : rule == kTanh ? 1 - y * y : 1;
}

}  // namespace fusednn::testing
