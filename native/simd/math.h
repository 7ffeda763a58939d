// Elementwise functions on vectors: exp, tanh, sigmoid, and the parts of other activations. They use only correctly
// rounded operations in one written order, so every instruction set gives the same bits. NaN gives NaN; infinities give
// limits.
#pragma once

#include "simd/math_coefficients.h"
#include "simd/vector.h"

namespace glasscell::GLASSCELL_TARGET {

// The constants of a precision. kRound is 1.5 * 2^mantissa: adding it rounds to an integer. Below kExpLow e^x is 0, and
// above kExpHigh it is infinity. From kOne on tanh rounds to 1, and from 2 * kOne on the sigmoid does.
template <class T> struct Format;
template <> struct Format<float> {
    static constexpr double kRound = 12582912;
    static constexpr double kLn2High = 0.693147182464599609375, kLn2Low = -1.90465421e-9;
    static constexpr double kExpLow = -104, kExpHigh = 89, kOne = 10;
    static constexpr int kMantissa = 23, kBias = 127;
    static constexpr int kExpTerms = 5, kErfcTerms = 12, kLog1pTerms = 9, kCothTerms = 7;
    static constexpr double kErfcCentre = 2;
    static constexpr const float* exp_tail() { return kExpTailFloat; }
    static constexpr const float* erfc() { return kErfcFloat; }
    static constexpr const float* coth_tail() { return kCothTailFloat; }
};
template <> struct Format<double> {
    static constexpr double kRound = 6755399441055744;
    static constexpr double kLn2High = 0.69314718055994529, kLn2Low = 2.3190468138462996e-17;
    static constexpr double kExpLow = -746, kExpHigh = 710, kOne = 20;
    static constexpr int kMantissa = 52, kBias = 1023;
    static constexpr int kExpTerms = 11, kErfcTerms = 23, kLog1pTerms = 18, kCothTerms = 15;
    static constexpr double kErfcCentre = 4;
    static constexpr const double* exp_tail() { return kExpTailDouble; }
    static constexpr const double* erfc() { return kErfcDouble; }
    static constexpr const double* coth_tail() { return kCothTailDouble; }
};

template <class T> GLASSCELL_INLINE V<T> constant(double value) { return broadcast<T>(T(value)); }

template <class T> GLASSCELL_INLINE V<T> abs(V<T> x) {
    const Bits<T> sign = as_bits<T>(constant<T>(-0.0));
    return as_float<T>(as_bits<T>(x) & ~sign);
}

template <class T> GLASSCELL_INLINE V<T> polynomial(V<T> x, const T* coefficients, int terms) {
    V<T> sum = broadcast<T>(coefficients[terms - 1]);
    GLASSCELL_UNROLL
    for (int k = terms - 2; k >= 0; --k) sum = fma(sum, x, broadcast<T>(coefficients[k]));
    return sum;
}

// Computes scale * p(step * x), where the polynomial p(r) approximates (e^r - 1 - r) / r^2 and step is a power of two.
// The coefficients take the factors, so that this costs no more than p.
template <class T> GLASSCELL_INLINE V<T> exp_tail(V<T> x, T scale, T step) {
    constexpr int terms = Format<T>::kExpTerms;
    T coefficients[terms];
    GLASSCELL_UNROLL
    for (int k = 0; k < terms; ++k, scale *= step) coefficients[k] = Format<T>::exp_tail()[k] * scale;
    return polynomial<T>(x, coefficients, terms);
}

// The integer n nearest to x * factor, and the power 2^(n + offset), if that is a normal number. The sum that rounds to
// n holds the exponent of the power in its low bits; a shift puts it in its place.
template <class T> struct Power {
    V<T> n, value;
};

template <class T> GLASSCELL_INLINE Power<T> nearest_power(V<T> x, double factor, int offset) {
    using F = Format<T>;
    const V<T> round = constant<T>(F::kRound + F::kBias + offset);
    const V<T> sum = fma(x, constant<T>(factor), round);
    return {sum - round, as_float<T>(as_bits<T>(sum) << F::kMantissa)};
}

constexpr double kLog2e = 1.4426950408889634;

// x = n ln2 + r with |r| <= ln2 / 2.
template <class T> struct Reduced {
    Power<T> power;
    V<T> r;
};

template <class T> GLASSCELL_INLINE Reduced<T> reduce(V<T> x) {
    const Power<T> power = nearest_power<T>(x, kLog2e, 0);
    const V<T> r = fma(power.n, constant<T>(-Format<T>::kLn2High), x);
    return {power, fma(power.n, constant<T>(-Format<T>::kLn2Low), r)};
}

// e^x. Accuracy: 1 ulp over all of float, subnormal results included.
template <class T> GLASSCELL_INLINE V<T> exp(V<T> x) {
    x = at_most<T>(at_least<T>(x, Format<T>::kExpLow), Format<T>::kExpHigh);
    const Reduced<T> e = reduce<T>(x);
    const V<T> one = constant<T>(1), slope = fma(exp_tail<T>(e.r, 1, 1), e.r, one);  // (e^r - 1) / r
    const V<T> n = e.power.n;  // 2^n may be beyond the normal numbers, so it is split into two factors
    const Power<T> half = nearest_power<T>(n, 0.5, 0);
    return fma(slope, e.r, one) * half.value * nearest_power<T>(n - half.n, 1, 0).value;
}

// s(x) = 2^n / (2^n + e^r) with r = n ln2 - x. Numerator and denominator are multiplied by 2^(mantissa + 2), which
// makes 2^n a normal number wherever s(x) is not zero. Accuracy: 2 ulp over all of float, subnormal results included.
template <class T> GLASSCELL_INLINE V<T> sigmoid(V<T> x) {
    using F = Format<T>;
    constexpr int offset = F::kMantissa + 2;
    constexpr T scale = T(int64_t(1) << offset);
    x = at_most<T>(at_least<T>(x, F::kExpLow), 2 * F::kOne);
    const Power<T> power = nearest_power<T>(x, kLog2e, offset);
    V<T> r = fma(power.n, constant<T>(F::kLn2High), -x);
    r = fma(power.n, constant<T>(F::kLn2Low), r);
    const V<T> one = broadcast<T>(scale), slope = fma(exp_tail<T>(r, scale, 1), r, one);
    return power.value / (fma(slope, r, power.value) + one);  // the order that costs the least accuracy
}

// tanh |x| = (s - 1 - E) / (s + 1 + E), with -2|x| = 2r - n ln2, s = 2^n and E = e^2r - 1. Numerator and denominator
// are halved, and the sign is put back. The lower digits of ln2 do not matter: where n is not zero, tanh is flat.
// Accuracy: 2 ulp over all of float.
template <class T> GLASSCELL_INLINE V<T> tanh(V<T> x) {
    using F = Format<T>;
    const Bits<T> sign = as_bits<T>(constant<T>(-0.0));
    const V<T> half = constant<T>(0.5);
    const V<T> y = at_least<T>(as_float<T>(as_bits<T>(x) | sign), -F::kOne);
    const Power<T> power = nearest_power<T>(y, -2 * kLog2e, -1);
    const V<T> r = fma(power.n, constant<T>(F::kLn2High / 2), y);
    const V<T> e = fma(r * r, exp_tail<T>(r, 2, 2), r);
    const V<T> magnitude = ((power.value - half) - e) / ((power.value + half) + e);
    return as_float<T>(as_bits<T>(magnitude) | (as_bits<T>(x) & sign));
}

// e^x - 1 for x <= 0; other lanes are undefined. Accuracy: 2 ulp.
template <class T> GLASSCELL_INLINE V<T> expm1_negative(V<T> x) {
    const Reduced<T> e = reduce<T>(at_least<T>(x, -4 * Format<T>::kOne));
    const V<T> expm1_r = fma(e.r * e.r, exp_tail<T>(e.r, 1, 1), e.r);
    return fma(e.power.value, expm1_r, e.power.value - constant<T>(1));
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

// tanh(log(1 + e^x)) = n / d with n = (1 + e^x)^2 - 1 and d = n + 2, both divided by e^2x where x is positive; and its
// derivative, 4 e^x (1 + e^x) / d^2. Nothing cancels or overflows.
template <class T> struct TanhOfSoftplus {
    V<T> value, slope;
};

template <class T> GLASSCELL_INLINE TanhOfSoftplus<T> tanh_of_softplus(V<T> x) {
    const V<T> one = constant<T>(1), two = constant<T>(2), e = exp<T>(-abs<T>(x));  // e^-x where x is positive
    const Bits<T> negative = x < constant<T>(0);
    const V<T> n = select<T>(negative, fma(e, e, e + e), fma(two, e, one));
    const V<T> d = n + select<T>(negative, two, two * e * e);
    const V<T> slope = constant<T>(4) * e * (one + e) * select<T>(negative, one, e) / (d * d);
    return {n / d, slope};
}

// (x + sqrt(x^2 + 4)) / 2. This is the positive root q of q (q - |x|) = 1, or 1 / q where x is negative. Accuracy: 3
// ulp.
template <class T> GLASSCELL_INLINE V<T> squareplus(V<T> x) {
    const V<T> a = abs<T>(x), half = constant<T>(0.5), large = constant<T>(1.0 * (int64_t(1) << 60));
    const V<T> root = select<T>(a < large, sqrt<T>(fma(a, a, constant<T>(4))), a);  // the square may overflow
    const V<T> q = fma(half, a, half * root);
    return select<T>(x < constant<T>(0), constant<T>(1) / q, q);
}

// x - tanh x. Up to 2 it is computed as x v / (3 + v) with v = 3 (x coth x - 1) = x^2 + x^4 p(x^2), because the
// difference would lose its digits. Accuracy: 4 ulp.
template <class T> GLASSCELL_INLINE V<T> tanh_shrink(V<T> x) {
    const V<T> near = at_most<T>(at_least<T>(x, -2), 2), square = near * near;
    const V<T> v = fma(square * square, polynomial<T>(square, Format<T>::coth_tail(), Format<T>::kCothTerms), square);
    return select<T>(abs<T>(x) < constant<T>(2), near * (v / (constant<T>(3) + v)), x - tanh<T>(x));
}

// The normal distribution: its density times sqrt(2 pi), e^(-x^2/2), and its cumulative function, erfc(-x/sqrt2)/2.
template <class T> struct Normal {
    V<T> bell, cumulative;
};

template <class T> GLASSCELL_INLINE Normal<T> normal(V<T> x) {
    using F = Format<T>;
    V<T> a = abs<T>(x);
    a = at_most<T>(a, 40);  // beyond 40 the results are constant, in double too
    const V<T> square = a * a;
    const V<T> lost = fma(a, a, -square);  // x^2 to twice the precision, so that its exponential keeps its digits
    const V<T> bell = exp<T>(square * constant<T>(-0.5)) * fma(lost, constant<T>(-0.5), constant<T>(1));
    const V<T> z = a * constant<T>(0.70710678118654752440);
    const V<T> centre = constant<T>(F::kErfcCentre), half = constant<T>(0.5);
    const V<T> scaled = polynomial<T>((z - centre) / (z + centre), F::erfc(), F::kErfcTerms);
    const V<T> tail = half * bell * (scaled / fma(constant<T>(2), z, constant<T>(1)));
    return {bell, select<T>(x > constant<T>(0), constant<T>(1) - tail, tail)};
}

}  // namespace glasscell::GLASSCELL_TARGET
