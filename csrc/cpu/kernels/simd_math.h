// SPDX-License-Identifier: Apache-2.0
// Elementary functions of Vec<float> and Vec<double>: exp, expm1, log, log1p, tanh, erf, and log1p_unit
// for what lies between 0 and 1.
//
// Largest errors seen, in units in the last place, over the whole domain, with and without fused
// multiply-add: every 13th float and all with 1/8 <= |x| < 32; 1.2e7 doubles, random and at edges.
// tests/cpp/test_simd_math.cpp fails just above them.
//
//                 exp    expm1  log    log1p  log1p_unit  tanh   erf
//   float   fma   1.04   1.30   0.85   1.59   1.56        1.52   1.14
//           none  1.01   1.30   0.87   1.60   1.57        1.53   1.25
//   double  fma   0.98   1.46   0.82   1.28   1.36        1.50   1.22
//           none  0.94   1.47   0.82   1.28   1.40        1.50   1.46
//
// NaN gives NaN, infinities and zeros give what the mathematical limit is, odd functions (expm1 and
// log1p too) keep the sign of zero, and subnormal arguments and results are as exact as others.
// There is no branch: every lane costs the same.
//
// The polynomials are minimax fits of their own: weighted least squares on Chebyshev nodes in 50
// digits, reweighted by the error until it is level (Lawson), in the weight that makes the error
// relative to the function's value. Then the coefficients are rounded to the lanes' type one by one,
// lowest degree first, and the others are fitted again after each. The text next to each polynomial
// gives its interval and the error that is left.
#pragma once

#include "core/hd.h"
#include "cpu/kernels/simd.h"

namespace fusednn::FNN_ISA {

// Constants of the reductions by powers of two.
template <class T>
struct Binary;

// ln 2 is split so that its product with an exponent is exact, with or without fma.
template <>
struct Binary<float> {
  static constexpr double ln2_high = 0.693359375;
  static constexpr double ln2_low = -0x1.bd0106p-13;
  static constexpr double integer = 0x1p23;    // its last place is 1
  static constexpr double rounder = 0x1.8p23;  // adding it rounds to an integer
  static constexpr double smallest_normal = 0x1p-126;
  static constexpr double exp_max = 89, exp_min = -104;  // beyond: infinity, zero
  static constexpr double expm1_min = -18;               // below: -1
  static constexpr double tanh_max = 10, erf_max = 4;    // above: 1
  static constexpr double log1p_upper = 0x1.555554p-2;   // above, 1 + x counts as 2 (1 + f)
};

template <>
struct Binary<double> {
  static constexpr double ln2_high = 0x1.62e42feep-1;
  static constexpr double ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double integer = 0x1p52;
  static constexpr double rounder = 0x1.8p52;
  static constexpr double smallest_normal = 0x1p-1022;
  static constexpr double exp_max = 710, exp_min = -746;
  static constexpr double expm1_min = -38;
  static constexpr double tanh_max = 20, erf_max = 6;
  static constexpr double log1p_upper = 0x1.a827999fcef32p-2;
};

// Horner's rule, highest degree first.
template <class T, class... Lower>
FNN_HD Vec<T> polynomial(Vec<T> x, double highest, Lower... lower) {
  Vec<T> value(highest);
  ((value = fma(value, x, Vec<T>(lower))), ...);
  return value;
}

// x = n ln 2 + r with |r| <= ln 2 / 2 and shifted = n + rounder, for |x| < 2^(mantissa - 2).
template <class T>
struct ReducedByLn2 {
  Vec<T> n, r, shifted;
};
template <class T>
FNN_HD ReducedByLn2<T> reduce_by_ln2(Vec<T> x) {
  using V = Vec<T>;
  const V shifted = fma(x, V(1.4426950408889634), V(Binary<T>::rounder));
  const V n = shifted - V(Binary<T>::rounder);
  const V high = fma(n, V(-Binary<T>::ln2_high), x);  // exact
  return {n, fma(n, V(-Binary<T>::ln2_low), high), shifted};
}

// 2^(n + offset), where that is a normal number.
template <class T>
FNN_HD Vec<T> power_of_two(const ReducedByLn2<T>& x, int offset = 0) {
  using Word = typename Lanes<T>::Word;
  const Word one = Word(Lanes<T>::bias + offset) << Lanes<T>::mantissa;
  return Vec<T>::from_bits((x.shifted.bits() << Lanes<T>::mantissa) + one);
}

// exp(r) - 1 = r + r^2 q(r) for |r| <= ln 2 / 2.
FNN_HD Vec<float> exp_quadratic(Vec<float> r) {  // relative to exp(r) - 1: 2^-26.1
  return polynomial(r, 0.0013864526f, 0.008366534f, 0.041667502f, 0.16666543f, 0.49999997f);
}
FNN_HD Vec<double> exp_quadratic(Vec<double> r) {  // 2^-61.5
  return polynomial(r, 2.088940472598567e-09, 2.5109126127668337e-08, 2.7557353079748715e-07,
                    2.7557243915546526e-06, 2.4801587237427148e-05, 0.0001984126988646915,
                    0.0013888888888923818, 0.008333333333321466, 0.04166666666666661,
                    0.16666666666666677, 0.5);
}
template <class T>
FNN_HD Vec<T> expm1_of_reduced(Vec<T> r) {
  return fma(r * r, exp_quadratic(r), r);
}

template <class T>
FNN_HD Vec<T> exp(Vec<T> x) {
  using V = Vec<T>;
  x = max(V(Binary<T>::exp_min), min(V(Binary<T>::exp_max), x));
  const auto reduced = reduce_by_ln2(x);
  const V fraction = V(1) + expm1_of_reduced(reduced.r);
  return V(native::scale(fraction.raw, reduced.shifted.raw));
}

// exp(x) where the result is a normal number.
template <class T>
FNN_HD Vec<T> exp_normal(Vec<T> x) {
  const auto reduced = reduce_by_ln2(x);
  const Vec<T> power = power_of_two(reduced);
  return fma(power, expm1_of_reduced(reduced.r), power);
}

// exp(x) - 1 = 2^n r + (2^n - 1) + 2^n (exp(r) - 1 - r), computed at half its size lest 2^n overflow.
// The large terms come first: for n = 1, where they cancel most, their sum is exact.
template <class T>
FNN_HD Vec<T> expm1(Vec<T> x) {
  using V = Vec<T>;
  const auto reduced = reduce_by_ln2(max(V(Binary<T>::expm1_min), min(V(Binary<T>::exp_max), x)));
  const V r = reduced.r;
  const V curve = r * r * exp_quadratic(r);
  const V half_power = power_of_two(reduced, -1);
  const V half = fma(half_power, curve, fma(half_power, r, half_power - V(0.5)));
  return copysign(select(reduced.n == V(0), r + curve, half + half), x);
}

// x = 2^k (1 + f) for positive normal x, with 1 + f in [2/3, 4/3) (float) or [sqrt 1/2, sqrt 2)
// (double). exponent = k shifted into the place of the exponent.
template <class T>
struct Decomposed {
  Vec<T> k, f;
  typename Vec<T>::Bits exponent;
};
template <class T>
FNN_HD Decomposed<T> decompose(Vec<T> x) {
  using V = Vec<T>;
  using Word = typename Lanes<T>::Word;
  constexpr int mantissa = Lanes<T>::mantissa;
  constexpr Word low = sizeof(T) == 4 ? Word(0x3f2aaaab) : Word(0x3fe6a09e667f3bcd);
  constexpr Word excess = Lanes<T>::bias + 1;  // keeps k + excess positive, the shift is unsigned
  const typename V::Bits k_excess = (x.bits() - (low - (excess << mantissa))) >> Word(mantissa);
  const V k = V::from_bits(k_excess | V(Binary<T>::integer).bits()) -
              V(Binary<T>::integer + Lanes<T>::bias + 1);
  const typename V::Bits exponent = (k_excess - excess) << Word(mantissa);
  return {k, V::from_bits(x.bits() - exponent) - V(1), exponent};
}

// k ln 2 + log(1 + f). float: f - f^2 / 2 + f^3 p(f).
FNN_HD Vec<float> log_of_decomposed(Vec<float> k, Vec<float> f) {
  using V = Vec<float>;
  const V square = f * f;
  // Relative error of log(1 + f): 2^-27.7.
  const V cubic = polynomial(f, -0.1288548f, 0.13986884f, -0.121857464f, 0.14005308f, -0.16680375f,
                             0.20010446f, -0.249998f, 0.33333215f);
  const V tail = fma(square * f, cubic, fma(k, V(Binary<float>::ln2_low), V(-0.5) * square));
  return fma(k, V(Binary<float>::ln2_high), f + tail);
}

// double: with s = f / (2 + f), log(1 + f) = 2 atanh(s) = 2 s + s z p(z), z = s^2, and 2 s = f - s f.
FNN_HD Vec<double> log_of_decomposed(Vec<double> k, Vec<double> f) {
  using V = Vec<double>;
  const V s = f / (V(2) + f);
  const V z = s * s;
  // Relative error of log(1 + f): 2^-59.5.
  const V series = z * polynomial(z, 0.14795338040103337, 0.15314113434619864, 0.18183561790735603,
                                  0.22222198623700892, 0.2857142874187498, 0.399999999994171,
                                  0.6666666666666734);
  const V half_square = V(0.5) * f * f;
  const V tail = half_square - fma(s, half_square + series, k * V(Binary<double>::ln2_low));
  return fma(k, V(Binary<double>::ln2_high), f - tail);
}

// What log does outside of (0, infinity), given its distance from the pole.
template <class T>
FNN_HD Vec<T> log_edges(Vec<T> distance, Vec<T> value) {
  using V = Vec<T>;
  const double infinity = __builtin_inf();
  value = select(distance < V(infinity), value, distance);  // infinity and NaN give themselves
  value = select(distance < V(0), V(__builtin_nan("")), value);
  return select(distance == V(0), V(-infinity), value);
}

template <class T>
FNN_HD Vec<T> log(Vec<T> x) {
  using V = Vec<T>;
  constexpr double shift = Lanes<T>::mantissa + 1;
  const auto subnormal = x < V(Binary<T>::smallest_normal);
  const auto parts = decompose(select(subnormal, x * V(2 * Binary<T>::integer), x));
  const V k = select(subnormal, parts.k - V(shift), parts.k);
  return log_edges(x, log_of_decomposed(k, parts.f));
}

// The exponent k is that of u = 1 + x, rounded. The fraction comes from x itself, so that nothing of
// it is lost: 2^-k (1 + x) - 1 = 2^-k x + (2^-k - 1), where only the addition rounds. Large x have
// no 2^-k and no need of it, u is x.
template <class T>
FNN_HD Vec<T> log1p(Vec<T> x) {
  using V = Vec<T>;
  const V u = V(1) + x;
  const auto parts = decompose(u);
  const V inverse_power = V::from_bits(V(1).bits() - parts.exponent);
  const V f = fma(x, inverse_power, inverse_power - V(1));
  const V y = log_of_decomposed(parts.k, select(x < V(0x1p60), f, parts.f));
  return copysign(log_edges(u, y), x);
}

// log(1 + x) for 0 <= x <= 1, where a look at x tells the exponent of 1 + x and nothing special can
// happen: a third of the work.
template <class T>
FNN_HD Vec<T> log1p_unit(Vec<T> x) {
  using V = Vec<T>;
  const auto upper = x > V(Binary<T>::log1p_upper);
  const V f = select(upper, fma(V(0.5), x, V(-0.5)), x);
  return log_of_decomposed(select(upper, V(1), V(0)), f);
}

// (tanh(x) - x) / x^3 as a polynomial in x^2, for |x| <= 0.55.
FNN_HD Vec<float> tanh_near(Vec<float> square) {  // relative to tanh(x): 2^-29.7
  return polynomial(square, -0.0062618963f, 0.02106201f, -0.053849645f, 0.13332556f, -0.33333316f);
}
FNN_HD Vec<double> tanh_near(Vec<double> square) {  // 2^-55.5
  return polynomial(square, 5.102324439854448e-05, -0.00021030515935062573, 0.0005791388562993337,
                    -0.0014532174396630975, 0.0035917198515489934, -0.008863194525755088,
                    0.02186948597667371, -0.053968253876173024, 0.13333333333168948,
                    -0.33333333333332316);
}

// Beyond 0.55, where tanh is about a half, tanh |x| = 1 - 2 E / (1 + E) with E = exp(-2 |x|).
template <class T>
FNN_HD Vec<T> tanh(Vec<T> x) {
  using V = Vec<T>;
  const V a = min(V(Binary<T>::tanh_max), abs(x));
  const V square = a * a;
  const V near = fma(a * square, tanh_near(square), a);
  const V e = exp_normal(V(-2) * a);
  const V far = V(1) - (e + e) / (V(1) + e);
  return copysign(select(a < V(0.55), near, far), x);
}

// erf(x) / x - 1 as a polynomial in x^2, for |x| <= 7/8.
FNN_HD Vec<float> erf_near(Vec<float> square) {  // relative to erf(x): 2^-26.1
  return polynomial(square, -0.0006180184f, 0.0050273174f, -0.026787737f, 0.11282331f, -0.37612534f,
                    0.12837915f);
}
FNN_HD Vec<double> erf_near(Vec<double> square) {  // 2^-55.3
  return polynomial(square, 1.0463317717442817e-08, -1.5621891682640226e-07, 1.6387830154037927e-06,
                    -1.4920986119080903e-05, 0.00012055143697768028, -0.000854832207558816,
                    0.005223977544749713, -0.026866170637469513, 0.11283791670918118,
                    -0.37612638903183077, 0.12837916709551256);
}

// log(1 - erf(x)) for 7/8 <= x <= erf_max.
FNN_HD Vec<float> log_erfc(Vec<float> x) {  // error of 1 - exp of it, relative to erf(x): 2^-29.0
  return polynomial(x, 0.00020100607f, -0.0030923758f, 0.022420503f, -0.10432801f, -0.63673675f,
                    -1.1279364f, -0.0001335279f);
}
FNN_HD Vec<double> log_erfc(Vec<double> x) {  // 2^-55.4
  return polynomial(x, -7.537385402964481e-12, 3.039415656448462e-10, -5.6912194728492125e-09,
                    6.552923824333285e-08, -5.165315300828796e-07, 2.9211200126574213e-06,
                    -1.192989879222261e-05, 3.3309459972314234e-05, -4.6671830421066514e-05,
                    -8.266542174510569e-05, 0.0006887504767434672, -0.0018156237340346039,
                    0.0003154921431400797, 0.0190585683646659, -0.10273943606935784,
                    -0.6366305528241756, -1.1283770166572198, -1.986649292154957e-07);
}

template <class T>
FNN_HD Vec<T> erf(Vec<T> x) {
  using V = Vec<T>;
  const V a = min(V(Binary<T>::erf_max), abs(x));
  const V near = fma(a, erf_near(a * a), a);
  const V far = V(1) - exp_normal(log_erfc(a));
  return copysign(select(a < V(0.875), near, far), x);
}

}  // namespace fusednn::FNN_ISA
