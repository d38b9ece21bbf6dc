// SPDX-License-Identifier: Apache-2.0
// The three products of a dense layer against sums in double, for every instruction set that runs
// here; the same bits for every team, batch and run; nothing written outside the matrices.
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

// got = sum (+ before); the error of a sum is measured against the sum of the magnitudes.
template <class T>
struct Sum {
  double value = 0, magnitude = 0;
  void add(double x) {
    value += x;
    magnitude += std::fabs(x);
  }
  bool matches(T got, Index terms) const {
    const double epsilon = std::numeric_limits<T>::epsilon();
    const double allowed = (4 + 2 * std::sqrt(double(terms))) * epsilon * (magnitude + 1e-30);
    return std::fabs(double(got) - value) <= allowed;
  }
};

std::string describe(const char* op, const Shape& s, const char* type) {
  char text[200];
  std::snprintf(text, sizeof text, "%s<%s> rows %lld in %lld out %lld gap %lld on %s", op, type,
                (long long)s.rows, (long long)s.in, (long long)s.out, (long long)s.gap,
                cpu::chosen_isa().c_str());
  return text;
}

template <class T>
const char* type_name() {
  return sizeof(T) == 4 ? "float" : "double";
}

template <class T>
void check_forward(const Shape& s, int rule, bool keep_z, bool with_bias) {
  const std::string what = describe("forward", s, type_name<T>());
  const Array<T> x(s.rows, s.in, s.gap), w(s.in, s.out, s.gap), bias(1, s.out, 0);
  std::vector<T> first;
  for (int threads = 1; threads <= 4; ++threads) {
    Array<T> y(s.rows, s.out, s.gap, false), z(s.rows, s.out, 2 * s.gap, false);
    DenseForward op;
    op.x = x;
    op.w = w;
    op.bias = with_bias ? bias.data.data() : nullptr;
    op.y = y;
    if (keep_z) op.z = z;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.activation.rule = rule;
    run<T>(op, threads);
    if (!y.gaps_are_whole() || !z.gaps_are_whole()) fail(what + ": wrote into a gap");
    if (threads > 1) {
      if (std::memcmp(first.data(), y.data.data(), first.size() * sizeof(T)) != 0) {
        fail(what + ": other bits with " + std::to_string(threads) + " threads");
      }
      continue;
    }
    first = y.data;
    for (Index i = 0; i < s.rows; ++i) {
      for (Index j = 0; j < s.out; ++j) {
        Sum<T> sum;
        for (Index k = 0; k < s.in; ++k) sum.add(double(x.at(i, k)) * double(w.at(k, j)));
        if (with_bias) sum.add(double(bias.at(0, j)));
        if (keep_z && !sum.matches(z.at(i, j), s.in)) fail(what + ": z");
        sum.value = activate(rule, sum.value);
        sum.magnitude += rule == kTanh ? 1 : 0;
        if (!sum.matches(y.at(i, j), s.in)) return fail(what + ": y");
      }
    }
    // A row alone is the same row.
    for (Index i : {Index(0), s.rows - 1}) {
      if (s.rows < 2) break;
      Array<T> alone(1, s.out, 0, false);
      op.x.data = &x.data[static_cast<size_t>(i * x.stride)];
      op.y = alone;
      op.z = {};
      op.rows = 1;
      run<T>(op, 1);
      if (std::memcmp(alone.data.data(), &y.at(i, 0), static_cast<size_t>(s.out) * sizeof(T)) !=
          0) {
        fail(what + ": a row alone has other bits");
      }
    }
  }
}

template <class T>
void check_backward_input(const Shape& s, int rule, bool accumulate) {
  const std::string what = describe("backward input", s, type_name<T>());
  const Array<T> dz(s.rows, s.out, s.gap), w(s.in, s.out, s.gap), saved(s.rows, s.in, s.gap);
  const Array<T> before(s.rows, s.in, s.gap);
  std::vector<T> first;
  for (int threads = 1; threads <= 4; ++threads) {
    Array<T> dx = before;
    DenseBackwardInput op;
    op.dz = dz;
    op.w = w;
    op.dx = dx;
    op.saved = saved;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.activation.rule = rule;
    op.accumulate = accumulate;
    run<T>(op, threads);
    if (!dx.gaps_are_whole()) fail(what + ": wrote into a gap");
    if (threads > 1) {
      if (std::memcmp(first.data(), dx.data.data(), first.size() * sizeof(T)) != 0) {
        fail(what + ": other bits with " + std::to_string(threads) + " threads");
      }
      continue;
    }
    first = dx.data;
    for (Index i = 0; i < s.rows; ++i) {
      for (Index j = 0; j < s.in; ++j) {
        const double factor = slope(rule, double(saved.at(i, j)));
        Sum<T> sum;
        for (Index k = 0; k < s.out; ++k) {
          sum.add(double(dz.at(i, k)) * double(w.at(j, k)) * factor);
        }
        // 1 - y^2 is rounded relative to 1, not to itself.
        if (rule == kTanh) sum.magnitude /= std::fmax(factor, 1e-9);
        if (accumulate) sum.add(double(before.at(i, j)));
        if (!sum.matches(dx.at(i, j), s.out)) return fail(what + ": dx");
      }
    }
  }
}

template <class T>
void check_backward_weights(const Shape& s, bool with_bias, bool accumulate) {
  const std::string what = describe("backward weights", s, type_name<T>());
  const Array<T> x(s.rows, s.in, s.gap), dz(s.rows, s.out, s.gap);
  const Array<T> before(s.in, s.out, s.gap), bias_before(1, s.out, 3);
  std::vector<T> first, first_bias;
  for (int threads = 1; threads <= 4; ++threads) {
    Array<T> dw = before, dbias = bias_before;
    DenseBackwardWeights op;
    op.x = x;
    op.dz = dz;
    op.dw = dw;
    op.dbias = with_bias ? dbias.data.data() : nullptr;
    op.rows = s.rows;
    op.in = s.in;
    op.out = s.out;
    op.accumulate = accumulate;
    run<T>(op, threads);
    if (!dw.gaps_are_whole() || !dbias.gaps_are_whole()) fail(what + ": wrote into a gap");
    if (threads > 1) {
      if (std::memcmp(first.data(), dw.data.data(), first.size() * sizeof(T)) != 0 ||
          std::memcmp(first_bias.data(), dbias.data.data(), first_bias.size() * sizeof(T)) != 0) {
        fail(what + ": other bits with " + std::to_string(threads) + " threads");
      }
      continue;
    }
    first = dw.data;
    first_bias = dbias.data;
    for (Index j = 0; j < s.out; ++j) {
      for (Index i = 0; i < s.in; ++i) {
        Sum<T> sum;
        for (Index k = 0; k < s.rows; ++k) sum.add(double(x.at(k, i)) * double(dz.at(k, j)));
        if (accumulate) sum.add(double(before.at(i, j)));
        if (!sum.matches(dw.at(i, j), s.rows)) return fail(what + ": dw");
      }
      if (!with_bias || s.in == 0) continue;
      Sum<T> sum;
      for (Index k = 0; k < s.rows; ++k) sum.add(double(dz.at(k, j)));
      if (accumulate) sum.add(double(bias_before.at(0, j)));
      if (!sum.matches(dbias.at(0, j), s.rows)) return fail(what + ": dbias");
    }
  }
}

template <class T>
void check_all(const Shape& s, int variant) {
  const int rules[] = {kLinear, kRelu, kTanh};
  const int rule = rules[variant % 3];
  const bool odd = variant / 3 % 2 == 1;
  check_forward<T>(s, rule, odd, variant % 5 != 0);
  check_backward_input<T>(s, rule, odd);
  check_backward_weights<T>(s, variant % 5 != 1, odd);
}

// Every path through the loops: packed or not, one chunk of k or many, one block of rows or many.
const Shape kShapes[] = {
    {0,    3,    4,    0},
    {3,    0,    4,    0},
    {3,    4,    0,    0},
    {1,    1,    1,    0},
    {1,    1,    1,    5},
    {32,   8,    32,   0},
    {32,   32,   1,    0},
    {64,   64,   64,   0},
    {64,   64,   64,   1},
    {100,  100,  100,  7},
    {1,    257,  300,  0},
    {2,    257,  129,  3},
    {3,    64,   257,  0},
    {4,    300,  127,  1},
    {5,    127,  65,   0},
    {257,  257,  257,  0},
    {128,  1500, 40,   3},
    {31,   40,   1500, 0},
    {1500, 33,   17,   0},
    {9000, 5,    3,    1},
    {5000, 40,   33,   0},
    {700,  20,   900,  0},
    {15,   2500, 33,   0},
    {33,   15,   2500, 0},
    {300,  300,  31,   0},
    // a and b that are far away, packed at first use
    {260,  1100, 270,  0},
    {150,  520,  530,  2},
    // b that is not packed, walked in steps
    {20,   700,  1040, 0},
    // few k: c written in the order of memory, in several runs of columns
    {8,    9,    2100, 3},
    {5,    14,   3300, 0},
    // beside a layer with fewer outputs, or inputs, than a vector has lanes
    {203,  100,  10,   1},
    {150,  129,  12,   2},
    {130,  7,    200,  3},
    // b read as a stream
    {1,    700,  300,  0},
    {2,    1500, 530,  1},
};

}  // namespace

int main() {
  for (const std::string& isa : cpu::supported_isas()) {
    cpu::set_isa(isa);
    int variant = 0;
    for (const Shape& shape : kShapes) {
      for (int i = 0; i < 2; ++i, ++variant) {
        check_all<float>(shape, variant);
        check_all<double>(shape, variant + 1);
      }
    }
    std::uniform_int_distribution<Index> size(1, 40), gap(0, 3);
    for (int i = 0; i < 150; ++i) {
      const Shape shape{size(generator), size(generator), size(generator), gap(generator)};
      check_all<float>(shape, i);
      check_all<double>(shape, i + 2);
    }
    std::printf("dense: %s done\n", isa.c_str());
  }
  return failures == 0 ? 0 : 1;
}
