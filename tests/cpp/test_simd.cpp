// SPDX-License-Identifier: Apache-2.0
// Vec, VecU32 and the elementary functions of one instruction set: compile with the flags of the
// kernels and -DFNN_ISA=<name>. Without them it tests what the compiler's default target gets.
//
// The elementary functions are compared with libm in the next wider type (float with double, double
// with long double). FNN_SIMD_STEP=1 makes the sweep over the floats exhaustive (minutes), a larger
// number thins it; it also scales the number of doubles.
#ifndef FNN_ISA
#define FNN_ISA generic
#endif

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/philox.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/simd_math.h"

namespace {

namespace simd = fusednn::FNN_ISA;
using simd::Vec;
using simd::VecU32;

int failures = 0;

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      ++failures;                                                         \
      std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                     \
  } while (false)

template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
template <class T>
bool same_or_nan(T a, T b) {
  return same_bits(a, b) || (std::isnan(a) && std::isnan(b));
}

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T kNan = std::numeric_limits<T>::quiet_NaN();

template <class T>
std::vector<T> special_values() {
  using L = std::numeric_limits<T>;
  std::vector<T> values{0,
                        T(-0.0),
                        1,
                        -1,
                        T(0.5),
                        T(-2.5),
                        T(1.5),
                        T(2.5),
                        T(3.49),
                        -T(3.5),
                        L::max(),
                        L::lowest(),
                        L::min(),
                        -L::min(),
                        L::denorm_min(),
                        -L::denorm_min(),
                        kInfinity<T>,
                        -kInfinity<T>,
                        kNan<T>};
  return values;
}

// ---- Vec ---------------------------------------------------------------------------------------

template <class T>
void test_pairs() {
  using V = Vec<T>;
  for (T a : special_values<T>()) {
    for (T b : special_values<T>()) {
      const V x(a), y(b);
      const int last = V::size - 1;
      CHECK(same_or_nan((x + y)[last], a + b));
      CHECK(same_or_nan((x - y)[last], a - b));
      CHECK(same_or_nan((x * y)[last], a * b));
      CHECK(same_or_nan((x / y)[last], a / b));
      CHECK(same_bits(min(x, y)[last], a < b ? a : b));
      CHECK(same_bits(max(x, y)[last], a > b ? a : b));
      CHECK(same_bits(copysign(x, y)[last], std::copysign(a, b)));
      const auto chosen = [&](typename V::Mask m) { return select(m, V(1), V(2))[last] == T(1); };
      CHECK(chosen(x < y) == (a < b));
      CHECK(chosen(x <= y) == (a <= b));
      CHECK(chosen(x > y) == (a > b));
      CHECK(chosen(x >= y) == (a >= b));
      CHECK(chosen(x == y) == (a == b));
      CHECK(chosen(x != y) == (a != b));
      CHECK(chosen(~(x < y)) == !(a < b));
      CHECK(chosen(!(x < y)) == !(a < b));
      CHECK(chosen((x < y) & (x == x)) == (a < b && a == a));
      CHECK(chosen((x < y) | (x == y)) == (a < b || a == b));
      CHECK(chosen((x < y) ^ (x != y)) == ((a < b) != (a != b)));
    }
    const V x(a);
    CHECK(same_bits(x[0], a));
    CHECK(same_bits((-x)[0], -a));
    CHECK(same_bits(abs(x)[0], std::fabs(a)));
    CHECK(same_or_nan(sqrt(x)[0], std::sqrt(a)));
    CHECK(same_or_nan(floor(x)[0], std::floor(a)));
    CHECK(same_or_nan(round_even(x)[0], std::nearbyint(a)));
  }
  CHECK(V(0)[0] == T(0) && V(1.5f)[V::size - 1] == T(1.5) && V(0.5)[0] == T(0.5));
  CHECK(std::signbit(V(-0.0)[0]));
}

template <class T>
void test_lanes() {
  using V = Vec<T>;
  T numbers[V::size], tree[V::size];
  T largest = -kInfinity<T>;
  for (int i = 0; i < V::size; ++i) {
    CHECK(simd::iota<V>()[i] == T(i));
    // Powers of ten apart: another order of the additions gives another sum.
    tree[i] = numbers[i] = T(std::pow(-9.7, (i * 5) % V::size) / 7);
    largest = std::fmax(largest, numbers[i]);
  }
  for (int half = V::size / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) tree[i] += tree[i + half];
  }
  const V v = V::load(numbers);
  CHECK(same_bits(sum(v), tree[0]));
  CHECK(max_of(v) == largest);
  for (int i = 0; i < V::size; ++i) {
    CHECK(v[i] == numbers[i]);
    const V chosen = select(simd::iota<V>() < V(i), v, -v);
    for (int j = 0; j < V::size; ++j) CHECK(chosen[j] == (j < i ? numbers[j] : -numbers[j]));
  }
  V w = v;
  w += V(1);
  w *= V(2);
  w -= V(3);
  w /= V(4);
  for (int i = 0; i < V::size; ++i) CHECK(w[i] == ((numbers[i] + 1) * 2 - 3) / 4);
}

template <class T>
void test_fma() {
  const T e = std::numeric_limits<T>::epsilon();
  const T a = 1 + e, b = 1 - e;  // a b = 1 - e^2, which rounds to 1
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  const T expected = -e * e;
#else
  const T expected = 0;
#endif
  CHECK(fma(Vec<T>(a), Vec<T>(b), Vec<T>(-1))[0] == expected);
}

// The memory after the last element must not be readable.
template <class V, class T>
void test_partial_access() {
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  char* memory = static_cast<char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  CHECK(memory != MAP_FAILED && mprotect(memory + page, page, PROT_NONE) == 0);
  T* const end = reinterpret_cast<T*>(memory + page);
  T numbers[V::size + 1];
  for (int i = 0; i <= V::size; ++i) numbers[i] = T(i + 1);
  for (int lanes = 0; lanes <= V::size; ++lanes) {
    std::memset(memory, 0, page);
    V::load(numbers).store(end - lanes, lanes);
    for (int i = 0; i < lanes; ++i) CHECK(end[i - lanes] == T(i + 1));
    CHECK(end[-lanes - 1] == T(0));
    const V v = V::load(end - lanes, lanes);
    for (int i = 0; i < V::size; ++i) CHECK(v[i] == T(i < lanes ? i + 1 : 0));

    T roomy[V::size + 1];
    for (T& x : roomy) x = T(77);
    V::load(numbers + 1).store(roomy, lanes);
    for (int i = 0; i <= V::size; ++i) CHECK(roomy[i] == T(i < lanes ? i + 2 : 77));
  }
  munmap(memory, 2 * page);
}

// ---- VecU32 ------------------------------------------------------------------------------------

template <class V>
void test_words_below(const uint32_t* words, uint32_t threshold) {
  const V v = select(simd::words_below<V>(words, threshold), V(1), V(0));
  for (int i = 0; i < V::size; ++i) CHECK((v[i] == 1) == (words[i] < threshold));
}

void test_words() {
  constexpr int size = VecU32::size;
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 1000; ++repeat) {
    uint32_t a[size], b[size];
    for (int i = 0; i < size; ++i) {
      a[i] = uint32_t(random());
      b[i] = repeat % 3 == 0 ? a[i] : uint32_t(random());
    }
    const uint32_t factor = uint32_t(random());
    const VecU32 x = VecU32::load(a), y = VecU32::load(b);
    VecU32 high, low;
    mulhilo(x, factor, high, low);
    const Vec<float> below = select(x < y, Vec<float>(1), Vec<float>(0));
    for (int i = 0; i < size; ++i) {
      uint32_t scalar_high, scalar_low;
      fusednn::mulhilo(a[i], factor, scalar_high, scalar_low);
      CHECK(high[i] == scalar_high && low[i] == scalar_low);
      CHECK((x + y)[i] == a[i] + b[i] && (x ^ y)[i] == (a[i] ^ b[i]));
      CHECK((x & y)[i] == (a[i] & b[i]) && (x | y)[i] == (a[i] | b[i]));
      CHECK((x << 9)[i] == a[i] << 9 && (x >> 9)[i] == a[i] >> 9);
      CHECK((below[i] == 1) == (a[i] < b[i]));
      CHECK(as_u32(as_float(x))[i] == a[i]);
      CHECK(VecU32(factor)[i] == factor);
      CHECK(simd::iota<VecU32>()[i] == uint32_t(i));
    }
    for (uint32_t threshold : {0u, a[0], a[0] + 1, 0x80000000u, 0xffffffffu}) {
      test_words_below<Vec<float>>(a, threshold);
      test_words_below<Vec<double>>(a, threshold);
    }
    const auto block = fusednn::philox<VecU32>(
        {
            {x, y, x ^ y, VecU32(factor)}
    },
        a[0], b[0]);
    for (int i = 0; i < size; ++i) {
      const auto scalar = fusednn::philox<uint32_t>(
          {
              {a[i], b[i], a[i] ^ b[i], factor}
      },
          a[0], b[0]);
      for (int word = 0; word < 4; ++word) CHECK(block.word[word][i] == scalar.word[word]);
    }
  }
}

// ---- elementary functions ----------------------------------------------------------------------

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

template <class T>
void test_type() {
  test_pairs<T>();
  test_lanes<T>();
  test_fma<T>();
  test_partial_access<Vec<T>, T>();
  test_edges<T>();
}

// Whether this processor has the instructions the file is compiled for.
bool supported() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
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
  test_type<float>();
  test_type<double>();
  test_partial_access<VecU32, uint32_t>();
  test_words();
  sweep_floats(step);
  sweep_doubles(int(std::min<uint64_t>(40000 / step, 3000)) + 16);
  std::printf(failures == 0 ? "passed\n" : "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
