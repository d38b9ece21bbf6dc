// SPDX-License-Identifier: Apache-2.0
// The elementary functions of one instruction set, compared with libm in the next wider type (float
// with double, double with long double). FNN_SIMD_STEP=1 makes the sweep over the floats exhaustive
// (minutes), a larger number thins it; it also scales the number of doubles.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/kernels/simd_math.h"
#include "simd_check.h"

namespace {

template <class T>
struct Reference;
template <>
struct Reference<float> {
  using Type = double;
  using Word = uint32_t;
};
template <>
struct Reference<double> {
  using Type = long double;
  using Word = uint64_t;
};

template <class T>
struct Function {
  using Wide = typename Reference<T>::Type;
  const char* name;
  Vec<T> (*compute)(Vec<T>);
  Wide (*reference)(Wide);
  double bound;  // in units in the last place
};

template <class T>
const std::vector<Function<T>>& functions();

#define FUNCTION(name, bound) \
  {#name, [](V x) { return name(x); }, [](Wide x) -> Wide { return std::name(x); }, bound}

// What is asked of only between 0 and 1: everything else is brought there.
template <class T>
Function<T> log1p_unit_function(double bound) {
  using V = Vec<T>;
  using Wide = typename Reference<T>::Type;
  return {"log1p_unit", [](V x) { return log1p_unit(min(V(1), abs(x))); },
          [](Wide x) -> Wide { return std::log1p(std::fabs(x) > 1 ? Wide(1) : std::fabs(x)); },
          bound};
}

template <>
const std::vector<Function<float>>& functions<float>() {
  using V = Vec<float>;
  using Wide = double;
  static const std::vector<Function<float>> list{
      FUNCTION(exp, 1.1),        FUNCTION(expm1, 1.35),          FUNCTION(log, 0.9),
      FUNCTION(log1p, 1.65),     FUNCTION(tanh, 1.55),           FUNCTION(erf, 1.3),
      FUNCTION(sqrt, 0.5000001), log1p_unit_function<float>(1.6)};
  return list;
}

template <>
const std::vector<Function<double>>& functions<double>() {
  using V = Vec<double>;
  using Wide = long double;
  static const std::vector<Function<double>> list{
      FUNCTION(exp, 1.1),    FUNCTION(expm1, 1.6),
      FUNCTION(log, 0.9),    FUNCTION(log1p, 1.6),
      FUNCTION(tanh, 1.6),   FUNCTION(erf, 1.6),
      FUNCTION(sqrt, 0.501), log1p_unit_function<double>(1.45)};
  return list;
}

#undef FUNCTION

// |got - want| in units of the last place of want, where T rounds it. Infinite where no rounding
// explains the difference: NaN, sign of zero, infinity far from overflow.
template <class T>
double ulp_error(T got, typename Reference<T>::Type want) {
  using L = std::numeric_limits<T>;
  using Wide = typename Reference<T>::Type;
  constexpr double wrong = kInfinity<double>;
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : wrong;
  if (std::signbit(got) != std::signbit(want)) return wrong;
  if (std::isinf(want) || want == 0) return got == T(want) ? 0 : wrong;
  const Wide limit = 2 * Wide(L::max() / 2 + L::epsilon() * (L::max() / 4));  // 2^max_exponent
  const int exponent = std::max(std::ilogb(want), L::min_exponent - 1);
  if (exponent >= L::max_exponent) return std::isinf(got) ? 0 : wrong;
  const Wide value = std::isinf(got) ? std::copysign(limit, want) : Wide(got);
  return double(std::fabs(value - want) / std::ldexp(Wide(1), exponent + 1 - L::digits));
}

template <class T>
struct Worst {
  double ulp = 0;
  T x = 0;
};

// Evaluates n numbers, a multiple of the vector size, and repeats some in another lane.
template <class T>
void measure(const Function<T>& f, const T* x, int n, Worst<T>& worst) {
  using V = Vec<T>;
  std::vector<T> y(n);
  for (int i = 0; i < n; i += V::size) f.compute(V::load(x + i)).store(y.data() + i);
  for (int i = 0; i < n; ++i) {
    const double ulp = ulp_error(y[i], f.reference(x[i]));
    if (ulp > worst.ulp) worst = {ulp, x[i]};
  }
  for (int i = 1; i + V::size <= n; i += 7 * V::size + 1) {
    const V shifted = f.compute(V::load(x + i));
    for (int j = 0; j < V::size; ++j) CHECK(same_or_nan(shifted[j], y[i + j]));
  }
}

template <class T>
void report(const Function<T>& f, const Worst<T>& worst, double numbers) {
  const bool good = worst.ulp <= f.bound;
  failures += !good;
  std::printf("%-6s %-6s max %.3f ULP (bound %.2f) at %-24a %.0f arguments%s\n",
              sizeof(T) == 4 ? "float" : "double", f.name, worst.ulp, f.bound, double(worst.x),
              numbers, good ? "" : "  FAILED");
}

constexpr int kBlock = 4096;

void sweep_floats(uint64_t step) {
  for (const auto& f : functions<float>()) {
    Worst<float> worst;
    std::vector<float> x(kBlock);
    uint64_t bits = 0;
    double numbers = 0;
    while (bits < uint64_t(1) << 32) {
      for (float& number : x) {
        const uint32_t word = uint32_t(bits);  // the last block wraps around
        std::memcpy(&number, &word, sizeof(number));
        bits += step;
      }
      measure(f, x.data(), kBlock, worst);
      numbers += kBlock;
    }
    report(f, worst, numbers);
  }
}

// Zeros, infinities, powers of two, thresholds of the implementations, and their neighbours.
template <class T>
std::vector<T> edges() {
  using L = std::numeric_limits<T>;
  std::vector<T> centres = special_values<T>();
  for (int e = L::min_exponent - L::digits; e < L::max_exponent; ++e) {
    centres.push_back(std::ldexp(T(1), e));
    centres.push_back(std::ldexp(T(2) / 3, e));
    centres.push_back(std::ldexp(std::sqrt(T(0.5)), e));
  }
  for (int n = 1; n < 2200; ++n) centres.push_back(T(n * 0.34657359027997264));  // n / 2 ln 2
  for (double c : {0.875, 3.9, 4.0, 0.55, 5.8, 6.0, 9.01, 10.0, 17.3, 19.06, 20.0, 36.7, 88.72,
                   103.97, 709.78, 745.13}) {
    centres.push_back(T(c));
  }
  std::vector<T> list;
  for (T centre : centres) {
    for (T x : {centre, -centre, 1 + centre, centre - 1}) {
      list.push_back(x);
      T above = x, below = x;
      for (int i = 0; i < 3; ++i) {
        list.push_back(above = std::nextafter(above, kInfinity<T>));
        list.push_back(below = std::nextafter(below, -kInfinity<T>));
      }
    }
  }
  while (list.size() % kBlock != 0) list.push_back(0);
  return list;
}

void sweep_doubles(int blocks) {
  for (const auto& f : functions<double>()) {
    Worst<double> worst;
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> unit(-1, 1);
    std::vector<double> x = edges<double>();
    measure(f, x.data(), int(x.size()), worst);
    double numbers = double(x.size());
    x.resize(kBlock);
    for (int block = 0; block < blocks; ++block) {
      for (double& number : x) {
        const uint64_t word = random();
        switch (block % 8) {
          case 0:
            std::memcpy(&number, &word, sizeof(number));
            break;
          case 1:
            number = std::ldexp(unit(random), int(word % 64) - 53);
            break;
          case 2:
            number = 1 + std::ldexp(unit(random), -int(word % 53));
            break;
          case 3:
            number = 750 * unit(random);
            break;
          case 4:
            number = 20 * unit(random);
            break;
          default:
            number = (block % 8 - 4.5) * unit(random);
            break;  // 0.5, 1.5, 2.5
        }
      }
      measure(f, x.data(), kBlock, worst);
      numbers += kBlock;
    }
    report(f, worst, numbers);
  }
}

template <class T>
void test_edges() {
  const std::vector<T> x = edges<T>();
  for (const auto& f : functions<T>()) {
    Worst<T> worst;
    measure(f, x.data(), int(x.size()), worst);
    CHECK(worst.ulp <= f.bound);
  }
  const auto at = [](Vec<T> y) { return y[0]; };
  const Vec<T> zero(-0.0), infinity(kInfinity<T>), nan(kNan<T>);
  CHECK(same_bits(at(tanh(zero)), T(-0.0)) && same_bits(at(erf(zero)), T(-0.0)));
  CHECK(same_bits(at(expm1(zero)), T(-0.0)) && same_bits(at(log1p(zero)), T(-0.0)));
  CHECK(at(log(zero)) == -kInfinity<T> && at(log1p(Vec<T>(-1))) == -kInfinity<T>);
  CHECK(at(log(infinity)) == kInfinity<T> && at(log1p(infinity)) == kInfinity<T>);
  CHECK(at(exp(-infinity)) == 0 && at(expm1(-infinity)) == -1 && at(exp(infinity)) == kInfinity<T>);
  CHECK(at(tanh(-infinity)) == -1 && at(erf(infinity)) == 1);
  CHECK(std::isnan(at(log(Vec<T>(-1)))) && std::isnan(at(log1p(Vec<T>(-1.5)))));
  CHECK(std::isnan(at(log(-infinity))) && std::isnan(at(log1p(-infinity))));
  for (const auto& f : functions<T>()) CHECK(std::isnan(at(f.compute(nan))));
}

}  // namespace

int main() {
  if (!supported()) return 77;  // what ctest is told to call a skipped test
  const char* setting = std::getenv("FNN_SIMD_STEP");
  const uint64_t step = setting != nullptr ? std::strtoull(setting, nullptr, 10) : 97;
  if (step == 0) {
    std::printf("FNN_SIMD_STEP='%s', expected a positive integer\n", setting);
    return 2;
  }
  test_edges<float>();
  test_edges<double>();
  sweep_floats(step);
  sweep_doubles(int(std::min<uint64_t>(40000 / step, 3000)) + 16);
  return outcome();
}
