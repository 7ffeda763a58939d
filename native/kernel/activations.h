// The built-in activations and their derivatives, in the order of glasscell/_cells/activations.py.
#pragma once

#include "interface/call.h"
#include "simd/math.h"

namespace glasscell::GLASSCELL_TARGET {

template <class T> GLASSCELL_INLINE V<T> activate(Activation which, V<T> x) {
    const V<T> zero = constant<T>(0), one = constant<T>(1);
    switch (which) {
        case Activation::tanh: return tanh<T>(x);
        case Activation::sigmoid: return sigmoid<T>(x);
        case Activation::linear: return x;
        case Activation::relu: return select<T>(x < zero, zero, x);
        case Activation::hard_sigmoid: {
            const V<T> y = x / constant<T>(6) + constant<T>(0.5);
            return select<T>(y < zero, zero, select<T>(y > one, one, y));
        }
        case Activation::leaky_relu: return select<T>(x < zero, x * constant<T>(kLeakySlope), x);
        case Activation::elu: return select<T>(x > zero, x, expm1_negative<T>(x));
        case Activation::selu:
            return constant<T>(kSeluScale) * select<T>(x > zero, x, constant<T>(kSeluAlpha) * expm1_negative<T>(x));
        case Activation::exponential: return exp<T>(x);
        case Activation::softplus: return select<T>(x < zero, zero, x) + log1p_unit<T>(exp<T>(-abs<T>(x)));
        case Activation::softsign: return x / (one + abs<T>(x));
        case Activation::silu: return x * sigmoid<T>(x);
        case Activation::gelu: return x * normal<T>(x).cumulative;
    }
    return x;
}

// The derivative at z, where the activation gave y. Only silu and gelu read z (needs_raw).
template <class T> GLASSCELL_INLINE V<T> derivative(Activation which, V<T> y, V<T> z) {
    const V<T> zero = constant<T>(0), one = constant<T>(1);
    switch (which) {
        case Activation::tanh: return (one - y) * (one + y);
        case Activation::sigmoid: return y * (one - y);
        case Activation::linear: return one;
        case Activation::relu: return select<T>(y > zero, one, zero);
        case Activation::hard_sigmoid: return select<T>((y > zero) & (y < one), constant<T>(1.0 / 6), zero);
        case Activation::leaky_relu: return select<T>(y < zero, constant<T>(kLeakySlope), one);
        case Activation::elu: return select<T>(y > zero, one, y + one);
        case Activation::selu:
            return select<T>(y > zero, constant<T>(kSeluScale), y + constant<T>(kSeluScale * kSeluAlpha));
        case Activation::exponential: return y;
        case Activation::softplus: return one - exp<T>(-y);
        case Activation::softsign: {
            const V<T> d = one - abs<T>(y);
            return d * d;
        }
        case Activation::silu: {
            const V<T> s = sigmoid<T>(z);
            return fma(z * s, one - s, s);
        }
        case Activation::gelu: {
            const Normal<T> n = normal<T>(z);
            return fma(z * n.bell, constant<T>(0.39894228040143267794), n.cumulative);
        }
    }
    return one;
}

}  // namespace glasscell::GLASSCELL_TARGET
