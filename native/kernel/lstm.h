// The LSTM cell: its equations and their gradients on vectors of units. The equations also stand in
// src/glasscell/_cells/lstm.py, with the same names, and nowhere else. A multiply-add is fused only where `fma` is
// written.
#pragma once

#include "kernel/activations.h"

namespace glasscell::GLASSCELL_TARGET {

// The four gates of some units, raw (before the activation) or activated.
template <class T> struct Gates {
    V<T> i, f, g, o;
};

// i = s(z_i), f = s(z_f), g = a(z_g), o = s(z_o).
template <class T> GLASSCELL_INLINE Gates<T> activate_gates(const Gates<T>& z, Activation a, Activation s) {
    return {activate<T>(s, z.i), activate<T>(s, z.f), activate<T>(a, z.g), activate<T>(s, z.o)};
}

// c' = f * c + i * g.
template <class T> GLASSCELL_INLINE V<T> cell_state(const Gates<T>& gates, V<T> c) {
    return fma(gates.f, c, gates.i * gates.g);
}

// h' = o * a(c').
template <class T> GLASSCELL_INLINE V<T> hidden_state(V<T> o, V<T> c, Activation a) { return o * activate<T>(a, c); }

template <class T> struct StepGradient {
    Gates<T> dz;
    V<T> dc;
};

// Computes the gradients of the raw gates and of c from the gradients dh and dc of h' and c'. Only the activations of
// needs_raw read `z`.
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

}  // namespace glasscell::GLASSCELL_TARGET
