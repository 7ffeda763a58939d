// exp, tanh, sigmoid and what the other activations need, on vectors. Only correctly rounded operations in one written
// order, so every instruction set gives the same bits. NaN gives NaN; infinities and both ends give their limits.
#pragma once

#include "coefficients.h"
#include "simd.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// What differs between the two precisions. kRound is 1.5 * 2^mantissa: adding it rounds to an integer, and the sum's
// low bits hold that integer. Beyond kExpLow and kExpHigh e^x is 0 and infinity; from kTanhOne on tanh rounds to 1.
template <class T> struct Format;
template <> struct Format<float> {
    static constexpr float kRound = 12582912.0f, kLog2e = 1.44269504f;
    static constexpr float kLn2High = 0.693147182f, kLn2Low = -1.90465421e-9f;
    static constexpr float kExpLow = -104.0f, kExpHigh = 89.0f, kTanhOne = 10.0f;
    static constexpr int kMantissa = 23, kBias = 127;
    static constexpr int kExpTerms = 6, kErfcTerms = 12, kLog1pTerms = 9;
    static constexpr float kErfcCentre = 2.0f;
    static constexpr const float* exp_tail() { return kExpTailFloat; }
    static constexpr const float* erfc() { return kErfcFloat; }
};
template <> struct Format<double> {
    static constexpr double kRound = 6755399441055744.0, kLog2e = 1.4426950408889634;
    static constexpr double kLn2High = 0.69314718055994529, kLn2Low = 2.3190468138462996e-17;
    static constexpr double kExpLow = -746.0, kExpHigh = 710.0, kTanhOne = 20.0;
    static constexpr int kMantissa = 52, kBias = 1023;
    static constexpr int kExpTerms = 11, kErfcTerms = 23, kLog1pTerms = 18;
    static constexpr double kErfcCentre = 4.0;
    static constexpr const double* exp_tail() { return kExpTailDouble; }
    static constexpr const double* erfc() { return kErfcDouble; }
};

template <class T> using V = typename Vec<T>::type;
template <class T> using Bits = typename Vec<T>::bits;

template <class T> GLASSCELL_INLINE V<T> constant(double value) { return broadcast<T>(T(value)); }

template <class T> GLASSCELL_INLINE V<T> abs(V<T> x) {
    const Bits<T> sign = as_bits<T>(constant<T>(-0.0));
    return as_float<T>(as_bits<T>(x) & ~sign);
}

template <class T> GLASSCELL_INLINE V<T> copysign(V<T> magnitude, V<T> from) {
    const Bits<T> sign = as_bits<T>(constant<T>(-0.0));
    return as_float<T>((as_bits<T>(magnitude) & ~sign) | (as_bits<T>(from) & sign));
}

template <class T> GLASSCELL_INLINE V<T> polynomial(V<T> x, const T* coefficients, int terms) {
    V<T> sum = broadcast<T>(coefficients[terms - 1]);
    GLASSCELL_UNROLL
    for (int k = terms - 2; k >= 0; --k) sum = fma(sum, x, broadcast<T>(coefficients[k]));
    return sum;
}

// x = n ln2 + r with |r| <= ln2 / 2; expm1_r = e^r - 1.
template <class T> struct Reduced {
    Bits<T> n;
    V<T> expm1_r;
};

template <class T> GLASSCELL_INLINE Reduced<T> reduce(V<T> x) {
    using F = Format<T>;
    const V<T> round = constant<T>(F::kRound);
    const V<T> shifted = fma(x, constant<T>(F::kLog2e), round);
    const V<T> n = shifted - round;
    V<T> r = fma(n, constant<T>(-F::kLn2High), x);
    r = fma(n, constant<T>(-F::kLn2Low), r);
    const V<T> tail = polynomial<T>(r, F::exp_tail(), F::kExpTerms);
    return {as_bits<T>(shifted) - as_bits<T>(round), fma(r * r, tail, r)};
}

// 2^n for an n whose power is a normal number.
template <class T> GLASSCELL_INLINE V<T> power_of_two(Bits<T> n) {
    return as_float<T>((n + Format<T>::kBias) << Format<T>::kMantissa);
}

// e^x. Accuracy: 1 ulp over all of float, subnormal results included.
template <class T> GLASSCELL_INLINE V<T> exp(V<T> x) {
    const V<T> low = constant<T>(Format<T>::kExpLow), high = constant<T>(Format<T>::kExpHigh);
    x = select<T>(x < low, low, x);
    x = select<T>(x > high, high, x);
    const Reduced<T> e = reduce<T>(x);
    const Bits<T> half = e.n >> 1;  // two factors: 2^n itself may be beyond the normal numbers
    return (constant<T>(1) + e.expm1_r) * power_of_two<T>(half) * power_of_two<T>(e.n - half);
}

// s(x) = 1 / (1 + e^-x): q = e^-|x| / (1 + e^-|x|) left of zero, 1 - q right of it. Accuracy: 2.5 ulp over all of float.
template <class T> GLASSCELL_INLINE V<T> sigmoid(V<T> x) {
    const V<T> one = constant<T>(1);
    const V<T> e = exp<T>(-abs<T>(x));
    const V<T> q = ratio<T>(e, one + e);
    return select<T>(x < constant<T>(0), q, one - q);
}

// tanh |x| = E / (E + 2) with E = e^2|x| - 1, the sign put back. Accuracy: 2.5 ulp over all of float.
template <class T> GLASSCELL_INLINE V<T> tanh(V<T> x) {
    const V<T> limit = constant<T>(2 * double(Format<T>::kTanhOne)), two = constant<T>(2);
    V<T> twice = abs<T>(x) * two;
    twice = select<T>(twice > limit, limit, twice);
    const Reduced<T> e = reduce<T>(twice);
    const V<T> scale = power_of_two<T>(e.n);
    const V<T> expm1 = fma(scale, e.expm1_r, scale - constant<T>(1));
    return copysign<T>(ratio<T>(expm1, expm1 + two), x);
}

// e^x - 1 for x <= 0; other lanes are undefined. Accuracy: 2 ulp.
template <class T> GLASSCELL_INLINE V<T> expm1_negative(V<T> x) {
    const V<T> low = constant<T>(-2 * double(Format<T>::kTanhOne) * 2);
    x = select<T>(x < low, low, x);
    const Reduced<T> e = reduce<T>(x);
    const V<T> scale = power_of_two<T>(e.n);
    return fma(scale, e.expm1_r, scale - constant<T>(1));
}

// log(1 + u) for 0 <= u <= 1: twice the series of artanh(u / (2 + u)).
template <class T> GLASSCELL_INLINE V<T> log1p_unit(V<T> u) {
    const V<T> s = u / (u + constant<T>(2));
    const V<T> s2 = s * s;
    V<T> sum = constant<T>(1.0 / (2 * Format<T>::kLog1pTerms + 1));
    GLASSCELL_UNROLL
    for (int k = Format<T>::kLog1pTerms - 1; k >= 1; --k) sum = fma(sum, s2, constant<T>(1.0 / (2 * k + 1)));
    const V<T> twice = s + s;
    return fma(twice * s2, sum, twice);
}

// The normal distribution: its density times sqrt(2 pi), e^(-x^2/2), and its cumulative function, erfc(-x/sqrt2)/2.
template <class T> struct Normal {
    V<T> bell, cumulative;
};

template <class T> GLASSCELL_INLINE Normal<T> normal(V<T> x) {
    using F = Format<T>;
    V<T> a = abs<T>(x);
    a = select<T>(a > constant<T>(40), constant<T>(40), a);  // all is over by then, in double too
    const V<T> square = a * a;
    const V<T> lost = fma(a, a, -square);  // x^2 to twice the precision, so that its exponential keeps its digits
    const V<T> bell = exp<T>(square * constant<T>(-0.5)) * fma(lost, constant<T>(-0.5), constant<T>(1));
    const V<T> z = a * constant<T>(0.70710678118654752440);
    const V<T> centre = constant<T>(F::kErfcCentre), half = constant<T>(0.5);
    const V<T> scaled = polynomial<T>((z - centre) / (z + centre), F::erfc(), F::kErfcTerms);
    const V<T> tail = half * bell * (scaled / fma(constant<T>(2), z, constant<T>(1)));
    return {bell, select<T>(x > constant<T>(0), constant<T>(1) - tail, tail)};
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
