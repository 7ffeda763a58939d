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
        case Activation::celu: return select<T>(x > zero, x, expm1_negative<T>(x));
        case Activation::relu6: return at_most<T>(at_least<T>(x, 0), 6);
        case Activation::hard_silu:  // x + 3 is exact near -3
            return x * (at_most<T>(at_least<T>(x + constant<T>(3), 0), 6) / constant<T>(6));
        case Activation::hard_tanh: return at_most<T>(at_least<T>(x, -1), 1);
        case Activation::hard_shrink: return select<T>(abs<T>(x) <= constant<T>(kShrink), zero, x);
        case Activation::soft_shrink: {
            const V<T> y = select<T>(abs<T>(x) <= constant<T>(kShrink), zero, x), shrink = constant<T>(kShrink);
            return select<T>(y > zero, y - shrink, select<T>(y < zero, y + shrink, y));
        }
        case Activation::log_sigmoid: return select<T>(x < zero, x, zero) - log1p_unit<T>(exp<T>(-abs<T>(x)));
        case Activation::mish: return x * tanh_of_softplus<T>(x).value;
        case Activation::sparse_plus: {
            const V<T> y = at_least<T>(x + one, 0);
            return select<T>(x >= one, x, y * y * constant<T>(0.25));
        }
        case Activation::sparse_sigmoid: return at_most<T>(at_least<T>(x + one, 0), 2) * constant<T>(0.5);
        case Activation::squareplus: return squareplus<T>(x);
        case Activation::tanh_shrink: return tanh_shrink<T>(x);
    }
    return x;
}

// The derivative of an activation at z, where its value is y. Only the activations of needs_raw read z.
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
        case Activation::celu: return select<T>(y > zero, one, y + one);
        case Activation::relu6: return select<T>((y > zero) & (y < constant<T>(6)), one, zero);
        case Activation::hard_silu: {
            const V<T> three = constant<T>(3), inside = z / three + constant<T>(0.5);
            return select<T>(z <= -three, zero, select<T>(z >= three, one, inside));
        }
        case Activation::hard_tanh: return select<T>(abs<T>(z) > one, zero, one);
        case Activation::hard_shrink: return select<T>(y == zero, zero, one);
        case Activation::soft_shrink: return select<T>(y == zero, zero, one);
        case Activation::log_sigmoid: return -expm1_negative<T>(y);
        case Activation::mish: {
            const TanhOfSoftplus<T> t = tanh_of_softplus<T>(z);
            return fma(z, t.slope, t.value);
        }
        case Activation::sparse_plus: return select<T>(y >= one, one, sqrt<T>(y));
        case Activation::sparse_sigmoid: {
            const V<T> a = abs<T>(z);
            return select<T>(a < one, constant<T>(0.5), select<T>(a == one, constant<T>(0.25), zero));
        }
        case Activation::squareplus: {
            const V<T> d = select<T>(y > one, one / y, y), square = d * d;
            return select<T>(y > one, one, square) / (one + square);
        }
        case Activation::tanh_shrink: {
            const V<T> t = tanh<T>(z);
            return t * t;
        }
    }
    return one;
}

}  // namespace glasscell::GLASSCELL_TARGET
