"""Fits the polynomials of native/simd/math.h and prints native/simd/math_coefficients.h. Needs mpmath.

    python tools/fit_coefficients.py > native/simd/math_coefficients.h

In 60 digits: e^r has the least possible error relative to e^r (Remez exchange); the others interpolate at Chebyshev
nodes, which is within a few per cent of that.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]


def fit(function: Function, low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Coefficients, lowest power first."""
    n = degree + 1
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
    powers, values = mp.matrix(n, n), mp.matrix(n, 1)
    for row, node in enumerate(nodes):
        values[row] = function(node)
        for column in range(n):
            powers[row, column] = node**column
    return list(mp.lu_solve(powers, values))


def fit_least(function: Function, weight: Function, low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Coefficients of the polynomial with the least maximal |error * weight|, lowest power first: Remez's exchange."""
    n = degree + 2
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * mp.cos(mp.pi * k / (n - 1)) for k in range(n)]
    grid = [low + 2 * half * k / 2000 for k in range(2001)]
    coefficients: list[mp.mpf] = []
    for _ in range(12):
        system = mp.matrix([[x**k for k in range(n - 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)])
        coefficients = list(mp.lu_solve(system, mp.matrix([function(x) for x in points])))[:-1]
        errors = [(mp.polyval(coefficients[::-1], x) - function(x)) * weight(x) for x in grid]
        runs: list[list[int]] = [[0]]  # of one sign
        for k in range(1, len(grid)):
            if errors[k] * errors[runs[-1][-1]] < 0:
                runs.append([])
            runs[-1].append(k)
        peaks = [max(run, key=lambda k, e=errors: abs(e[k])) for run in runs]  # type: ignore[misc]
        if len(peaks) != n:
            raise ValueError(f"{len(peaks)} extrema, expected {n}")
        points = [grid[k] for k in peaks]
    return coefficients


def worst(coefficients: list[mp.mpf], function: Function, low: mp.mpf, high: mp.mpf, scale: Function) -> mp.mpf:
    """The largest error on a fine grid, each point's times scale(point)."""
    points = (low + (high - low) * mp.mpf(k) / 2001 for k in range(2002))
    return max(abs(mp.polyval(coefficients[::-1], x) - function(x)) * scale(x) for x in points)


def expm1_tail(r: mp.mpf) -> mp.mpf:
    """q of e^r = 1 + r + r^2 q(r)."""
    return (mp.expm1(r) - r) / r**2 if abs(r) > mp.mpf(10) ** -15 else mp.mpf(1) / 2 + r / 6


def scaled_erfc(t: mp.mpf, k: int) -> mp.mpf:
    """(1 + 2z) e^(z^2) erfc(z), with t = (z - k) / (z + k)."""
    z = k * (1 + t) / (1 - t)
    return (1 + 2 * z) * mp.exp(z * z) * mp.erfc(z)


def coth_tail(s: mp.mpf) -> mp.mpf:
    """p of 3 (x coth x - 1) = s + s^2 p(s), with s = x^2."""
    x = mp.sqrt(s)
    return (3 * (x * mp.coth(x) - 1) - s) / s**2 if s > mp.mpf(10) ** -15 else -mp.mpf(1) / 15 + 2 * s / 315


def show(name: str, kind: str, coefficients: list[mp.mpf], error: mp.mpf) -> None:
    print(f"// relative error 2^{mp.nstr(mp.log(error, 2), 4)}")
    print(f"constexpr {kind} {name}[] = {{")
    for value in coefficients:
        print(f"    {mp.nstr(value, 20, min_fixed=0, max_fixed=0)}{'f' if kind == 'float' else ''},")
    print("};")


print("// Made by tools/fit_coefficients.py. Powers ascend.")
print("#pragma once")
print("namespace glasscell {")
edge = mp.log(2) / 2 * mp.mpf("1.0001")
for kind, degree in (("float", 4), ("double", 10)):
    q = fit_least(expm1_tail, lambda r: r * r / mp.exp(r), -edge, edge, degree)
    error = worst(q, expm1_tail, -edge, edge, lambda r: r * r / mp.exp(r))
    show(f"kExpTail{kind.capitalize()}", kind, q, error)
for kind, degree, centre, far in (("float", 11, 2, 10), ("double", 22, 4, 28)):
    low, high = mp.mpf(-1), mp.mpf(far - centre) / (far + centre)
    p = fit(lambda t, k=centre: scaled_erfc(t, k), low, high, degree)  # type: ignore[misc]
    error = worst(p, lambda t, k=centre: scaled_erfc(t, k), low, high, lambda t, k=centre: 1 / scaled_erfc(t, k))  # type: ignore[misc]
    show(f"kErfc{kind.capitalize()}", kind, p, error)
for kind, degree in (("float", 6), ("double", 14)):
    p = fit(coth_tail, mp.mpf(0), mp.mpf(4), degree)
    error = worst(p, coth_tail, mp.mpf(0), mp.mpf(4), lambda s: s / (1 + s * coth_tail(s)))  # of the whole
    show(f"kCothTail{kind.capitalize()}", kind, p, error)
print("}  // namespace glasscell")
