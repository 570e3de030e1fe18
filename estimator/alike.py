"""Sums, logarithms and exponentials of floats whose last bit is the same wherever Python runs.

IEEE 754 rounds +, -, * and / alike everywhere. It leaves ``log``, ``exp`` and powers to each C library, which differ in
the last bit (as do those that fuse a product with a sum), and Python 3.12 changed how ``sum`` rounds. The live page
runs in another library and another Python than the command line; both must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from math import floor, frexp, ldexp
from operator import add
from typing import Any

# ln 2 in two parts: multiples of the first up to 2**20 are exact
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
_SQRT_HALF = 0.7071067811865476
_HALF_LOG_2PI = 0.9189385332046727
_ODD = tuple(1 / (2 * k + 1) for k in range(10, -1, -1))
_LEAST, _MOST = -745.2, 709.79  # of an exponent, beyond which a float is 0 or too large
_LARGE = 16.0  # from here Stirling's series is exact to the last bits
_STIRLING = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


def add_up(values: Iterable[Any], start: Any = 0) -> Any:
    """The values added up from the left, each sum rounded: floats, ints, traced numbers."""
    return reduce(add, values, start)


def power(x: Any, n: Any) -> Any:
    """x to the power of a whole n by products, each rounded; of anything else as Python has it."""
    if not isinstance(n, int):
        return x**n
    out = 1.0
    while n > 0:
        out = out * x if n & 1 else out
        x, n = x * x, n >> 1
    return out


def log(x: float) -> float:
    """The natural logarithm of a positive float, to about the last bit. ValueError for others."""
    if not 0 < x < float("inf"):
        raise ValueError(f"no logarithm of {x}")
    m, e = frexp(x)
    if m < _SQRT_HALF:
        m, e = 2 * m, e - 1
    s = (m - 1) / (m + 1)
    z, p = s * s, 0.0
    for c in _ODD:  # artanh: ln m = 2 (s + s^3/3 + s^5/5 ...)
        p = p * z + c
    return e * _LN2_HIGH + (e * _LN2_LOW + 2 * s * p)


def exp(x: float) -> float:
    """e to the x, to about the last bit. OverflowError where it is no float."""
    if x > _MOST:
        raise OverflowError(f"e to the {x} is too large")
    if x < _LEAST:
        return 0.0
    k = floor(x / _LN2_HIGH + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.0
    for n in range(15, 0, -1):
        p = 1 + r * p / n
    return ldexp(p, k)


def lgamma(x: float) -> float:
    """The logarithm of the gamma function of a positive float (Stirling's series)."""
    below = 1.0
    while x < _LARGE:
        below *= x
        x += 1
    z, p = 1 / (x * x), 0.0
    for c in _STIRLING:
        p = p * z + c
    return (x - 0.5) * log(x) - x + _HALF_LOG_2PI + p / x - log(below)
