// SPDX-License-Identifier: Apache-2.0
// Vec and VecU32 of one instruction set.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>

#include "core/philox.h"
#include "simd_check.h"

namespace {

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

template <class T>
void test_type() {
  test_pairs<T>();
  test_lanes<T>();
  test_fma<T>();
  test_partial_access<Vec<T>, T>();
}

}  // namespace

int main() {
  if (!supported()) return 77;  // what ctest is told to call a skipped test
  test_type<float>();
  test_type<double>();
  test_partial_access<VecU32, uint32_t>();
  test_words();
  return outcome();
}
