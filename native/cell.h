// The LSTM cell: its equations and their gradients on vectors of units. The other place where they stand is
// src/glasscell/cell.py, with the same names. Sums of products are fused multiply-adds as written.
#pragma once

#include "activations.h"

namespace glasscell {
namespace GLASSCELL_TARGET {

// The four gates of the same units: raw (before the activation) or activated, as the context says.
template <class T> struct Gates {
    V<T> i, f, g, o;
};

template <class T> struct Step {
    Gates<T> gates;
    V<T> h, c;
};

// i = s(z_i), f = s(z_f), g = a(z_g), o = s(z_o);  c' = f * c + i * g;  h' = o * a(c').
template <class T> GLASSCELL_INLINE Step<T> step(const Gates<T>& z, V<T> c, Activation a, Activation s) {
    const V<T> i = activate<T>(s, z.i);
    const V<T> f = activate<T>(s, z.f);
    const V<T> g = activate<T>(a, z.g);
    const V<T> o = activate<T>(s, z.o);
    const V<T> c_next = fma(f, c, i * g);
    const V<T> h_next = o * activate<T>(a, c_next);
    return {{i, f, g, o}, h_next, c_next};
}

template <class T> struct StepGradient {
    Gates<T> dz;
    V<T> dc;
};

// From the gradients dh, dc of h', c' to those of the raw gates and of c. `z` is looked at by silu and gelu only.
template <class T>
GLASSCELL_INLINE StepGradient<T> step_gradient(const Gates<T>& z, const Gates<T>& gates, V<T> c, V<T> c_next, V<T> dh,
                                               V<T> dc, Activation a, Activation s) {
    const V<T> output = activate<T>(a, c_next);
    const V<T> d_o = dh * output;
    dc = fma(dh * gates.o, derivative<T>(a, output, c_next), dc);
    const Gates<T> dz = {dc * gates.g * derivative<T>(s, gates.i, z.i), dc * c * derivative<T>(s, gates.f, z.f),
                         dc * gates.i * derivative<T>(a, gates.g, z.g), d_o * derivative<T>(s, gates.o, z.o)};
    return {dz, dc * gates.f};
}

}  // namespace GLASSCELL_TARGET
}  // namespace glasscell
