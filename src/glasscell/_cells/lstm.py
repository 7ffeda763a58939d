"""Defines the equations of the LSTM cell and their gradients, over any array namespace. The file to read first.

Source: `keras.layers.LSTMCell` (Keras 3); Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000.
`native/kernel/lstm.h` has the same equations in C++, with the same names.

Symbols: B batch, I input features, H units. Gate order is i, f, g, o everywhere (Keras calls g "c").
`x: (B, I)`, `h, c: (B, H)`, `kernel: (I, 4H)`, `recurrent_kernel: (H, 4H)`, `bias: (4H,)`, all of one float dtype.
`xp` is the arrays' namespace: `numpy`, `jax.numpy`, `torch` or `keras.ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from glasscell._cells.activations import Activation, Function

Array = Any


@dataclass(frozen=True)
class Options:
    """Holds the options of the equations, as one value that goes from the layer to the kernel unchanged.

    `activation` is a(.), applied to the candidate, and to the cell state for the output. `recurrent_activation` is
    s(.), applied to the three gates. `go_backwards` runs time from the last step to the first.
    """

    activation: Activation
    recurrent_activation: Activation
    go_backwards: bool = False

    def derivatives(self) -> tuple[Function, Function]:
        """Returns a' and s'. Raises: ValueError for a callable that has no attribute `derivative`."""

        def derivative(name: str, activation: Activation) -> Function:
            if activation.derivative is None:
                raise ValueError(f"{name}: {activation.name!r} has no derivative; give it an attribute `derivative`")
            return activation.derivative

        a, s = self.activation, self.recurrent_activation
        return derivative("activation", a), derivative("recurrent_activation", s)


class Gates(NamedTuple):
    """Holds the four gates, each (B, H): raw, that is before the activation, or activated, as the context says."""

    i: Array
    f: Array
    g: Array
    o: Array


def raw_gates(
    x: Sequence[Array], h: Sequence[Array], kernel: Array, recurrent_kernel: Array, bias: Array, xp: Any
) -> Gates:
    """Computes the pre-activations `z_k = x_k W_k + h_k R_k + b_k` of the gates k = i, f, g, o.

    `x`, `h`: one array for each gate, because each gate may have its own dropout mask; without dropout all four are
    the same array. Returns the raw gates.
    """
    units = recurrent_kernel.shape[0]
    columns = [slice(k * units, (k + 1) * units) for k in range(4)]
    return Gates(
        *(
            xp.matmul(x_k, kernel[:, k]) + xp.matmul(h_k, recurrent_kernel[:, k]) + bias[k]
            for x_k, h_k, k in zip(x, h, columns, strict=True)
        )
    )


def step(z: Gates, c: Array, options: Options, xp: Any) -> tuple[Gates, Array, Array]:
    """Computes one step of the cell state and the output from the raw gates.

    i = s(z_i), f = s(z_f), g = a(z_g), o = s(z_o);  c' = f * c + i * g;  h' = o * a(c').

    `c`: (B, H), the cell state before the step. Returns the activated gates, h' and c'.
    """
    a, s = options.activation.function, options.recurrent_activation.function
    i = s(z.i, xp)
    f = s(z.f, xp)
    g = a(z.g, xp)
    o = s(z.o, xp)
    c_next = f * c + i * g
    h_next = o * a(c_next, xp)
    return Gates(i, f, g, o), h_next, c_next


def step_gradient(
    z: Gates, gates: Gates, c: Array, c_next: Array, dh: Array, dc: Array, options: Options, xp: Any
) -> tuple[Gates, Array]:
    """Computes the gradient of `step`: the gradients of the raw gates and of c, from those of h' and c'.

    `z`: the raw gates; `gates`: the activated gates; `c`, `c_next`: the cell state before and after the step;
    `dh`, `dc`: (B, H), the gradients of h' and c'. Returns the gradients of the raw gates, and of c.
    """
    i, f, g, o = gates
    a_prime, s_prime = options.derivatives()
    do = dh * options.activation.function(c_next, xp)
    dc = dc + dh * o * a_prime(c_next, xp)
    dz = Gates(
        i=dc * g * s_prime(z.i, xp),
        f=dc * c * s_prime(z.f, xp),
        g=dc * i * a_prime(z.g, xp),
        o=do * s_prime(z.o, xp),
    )
    return dz, dc * f


def raw_gates_gradient(
    dz: Gates, x: Sequence[Array], h: Sequence[Array], kernel: Array, recurrent_kernel: Array, xp: Any
) -> tuple[list[Array], list[Array], Array, Array, Array]:
    """Computes the gradient of `raw_gates`.

    dx_k = dz_k W_k^T, dh_k = dz_k R_k^T, dW_k = x_k^T dz_k, dR_k = h_k^T dz_k, and db_k is dz_k summed over the rows.

    Returns `dx` and `dh`, one array for each gate, and the gradients of the kernel, the recurrent kernel and the bias.
    """
    units = recurrent_kernel.shape[0]
    columns = [slice(k * units, (k + 1) * units) for k in range(4)]
    dx = [xp.matmul(dz_k, kernel[:, k].T) for dz_k, k in zip(dz, columns, strict=True)]
    dh = [xp.matmul(dz_k, recurrent_kernel[:, k].T) for dz_k, k in zip(dz, columns, strict=True)]
    d_kernel = xp.concatenate([xp.matmul(x_k.T, dz_k) for x_k, dz_k in zip(x, dz, strict=True)], 1)
    d_recurrent = xp.concatenate([xp.matmul(h_k.T, dz_k) for h_k, dz_k in zip(h, dz, strict=True)], 1)
    d_bias = xp.concatenate([xp.sum(dz_k, 0) for dz_k in dz], 0)
    return dx, dh, d_kernel, d_recurrent, d_bias
