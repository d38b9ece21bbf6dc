// SPDX-License-Identifier: Apache-2.0
// The products of a dense layer whose weights lie as (out, in): against sums in double, for every
// instruction set that runs here, with the same bits for every team.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "dense_testing.h"

using namespace fusednn;
using namespace fusednn::testing;

namespace {

struct Case {
  std::string what;
  Shape shape;
  int rule;
  bool accumulate, with_bias;
};

// Runs `op` on teams of 1 to 4 threads, each time from the same `before`, and returns what it left.
template <class T, class Op, class Bind>
std::vector<Array<T>> run_on_teams(const Case& c, Op op, const std::vector<Array<T>>& before,
                                   Bind bind) {
  std::vector<Array<T>> first;
  for (int threads = 1; threads <= 4; ++threads) {
    std::vector<Array<T>> results = before;
    bind(op, results);
    run<T>(op, threads);
    if (threads == 1) first = results;
    for (size_t i = 0; i < results.size(); ++i) {
      const bool same = std::memcmp(first[i].data.data(), results[i].data.data(),
                                    first[i].data.size() * sizeof(T)) == 0;
      if (!same || !results[i].gaps_are_whole()) {
        fail(c.what + ": other bits on " + std::to_string(threads) + " threads, or a gap written");
      }
    }
  }
  return first;
}

// got[i, j] = finish(sum over k of term(i, j, k)) (+ before); the error is measured against the sum
// of the magnitudes.
template <class T, class Term, class Finish>
void expect(const Case& c, const char* name, const Array<T>& got, const Array<T>& before,
            Index depth, Term term, Finish finish) {
  for (Index i = 0; i < got.rows; ++i) {
    for (Index j = 0; j < got.cols; ++j) {
      double sum = 0, magnitude = 1e-30;
      for (Index k = 0; k < depth; ++k) {
        sum += term(i, j, k);
        magnitude += std::fabs(term(i, j, k));
      }
      double value = finish(i, j, sum);
      if (c.accumulate) {
        value += before.value(i, j);
        magnitude += std::fabs(before.value(i, j));
      }
      const double epsilon = double(std::numeric_limits<T>::epsilon());
      const double allowed = (6 + 2 * std::sqrt(double(depth))) * epsilon * (magnitude + 1);
      if (!(std::fabs(got.value(i, j) - value) <= allowed)) {
        char text[100];
        std::snprintf(text, sizeof text, "%s(%d, %d) = %g, expected %g", name, int(i), int(j),
                      got.value(i, j), value);
        fail(c.what + ": " + text);
        return;
      }
    }
  }
}

template <class T>
void check(const Case& c) {
  const Shape& s = c.shape;
  const Array<T> x(s.rows, s.in, s.gap), w(s.out, s.in, s.gap), bias(1, s.out, 0);
  const Array<T> dz(s.rows, s.out, s.gap), saved(s.rows, s.in, s.gap);
  const auto plain = [](Index, Index, double sum) { return sum; };

  if (!c.accumulate) {
    DenseForward op;
    op.x = x;
    op.w = w;
    op.bias = c.with_bias ? bias.data.data() : nullptr;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.activation.rule = c.rule;
    op.transposed = true;
    const std::vector<Array<T>> before{Array<T>(s.rows, s.out, s.gap)};
    const auto y = run_on_teams<T>(c, op, before, [](auto& o, auto& r) { o.y = r[0]; });
    expect(
        c, "y", y[0], before[0], s.in,
        [&](Index i, Index j, Index k) { return x.value(i, k) * w.value(j, k); },
        [&](Index, Index j, double sum) {
          return activate(c.rule, sum + (c.with_bias ? bias.value(0, j) : 0));
        });
  }
  {
    DenseBackwardInput op;
    op.dz = dz;
    op.w = w;
    op.saved = saved;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.activation.rule = c.rule;
    op.transposed = true;
    op.accumulate = c.accumulate;
    const std::vector<Array<T>> before{Array<T>(s.rows, s.in, s.gap)};
    const auto dx = run_on_teams<T>(c, op, before, [](auto& o, auto& r) { o.dx = r[0]; });
    expect(
        c, "dx", dx[0], before[0], s.out,
        [&](Index i, Index j, Index k) { return dz.value(i, k) * w.value(k, j); },
        [&](Index i, Index j, double sum) { return sum * slope(c.rule, saved.value(i, j)); });
  }
  {
    DenseBackwardWeights op;
    op.x = x;
    op.dz = dz;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.transposed = true;
    op.accumulate = c.accumulate;
    const std::vector<Array<T>> before{Array<T>(s.out, s.in, s.gap), Array<T>(1, s.out, 0)};
    const auto result = run_on_teams<T>(c, op, before, [&](auto& o, auto& r) {
      o.dw = r[0];
      o.dbias = c.with_bias ? r[1].data.data() : nullptr;
    });
    expect(
        c, "dw", result[0], before[0], s.rows,
        [&](Index i, Index j, Index k) { return dz.value(k, i) * x.value(k, j); }, plain);
    if (c.with_bias) {
      expect(
          c, "dbias", result[1], before[1], s.rows,
          [&](Index, Index j, Index k) { return dz.value(k, j); }, plain);
    }
  }
}

void check_both(const Shape& shape, int variant) {
  const int rules[] = {kLinear, kRelu, kTanh};
  Case c{"", shape, rules[variant % 3], variant / 3 % 2 == 1, variant % 5 != 1};
  for (const char* type : {"float", "double"}) {
    c.what = cpu::chosen_isa() + " " + type + " rows=" + std::to_string(shape.rows) +
             " in=" + std::to_string(shape.in) + " out=" + std::to_string(shape.out) +
             " gap=" + std::to_string(shape.gap) + " rule=" + std::to_string(c.rule);
    type[0] == 'f' ? check<float>(c) : check<double>(c);
  }
}

const Shape kShapes[] = {
    {0,   3,   4,   0},
    {1,   1,   1,   5},
    {1,   257, 300, 0},
    {2,   129, 257, 3},
    {4,   300, 127, 1},
    {32,  8,   1,   0},
    {1,   8,   32,  2},
    {64,  64,  64,  0},
    {100, 100, 100, 7},
    {129, 800, 33,  1},
    {700, 20,  90,  0},
    {900, 5,   3,   1},
    {15,  900, 33,  0},
    {33,  15,  900, 0},
};

}  // namespace

int main() {
  for (const std::string& isa : cpu::supported_isas()) {
    cpu::set_isa(isa);
    int variant = 0;
    for (const Shape& shape : kShapes) {
      for (int i = 0; i < 6; ++i) check_both(shape, variant++);
    }
    std::uniform_int_distribution<Index> size(1, 40), gap(0, 3);
    for (int i = 0; i < 100; ++i) {
      check_both({size(generator), size(generator), size(generator), gap(generator)}, variant++);
    }
    std::printf("dense, (out, in): %s done\n", isa.c_str());
  }
  return failures == 0 ? 0 : 1;
}
