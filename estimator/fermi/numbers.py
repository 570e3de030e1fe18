"""Exact numbers whose cost is bounded: Fractions while they are small, floats beyond, an error out of range.

A chain of formulas from a stranger's file must not be able to fill the memory: every result stays within 10**300
and every exact result within ``MAX_BITS`` bits.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from estimator.errors import InputError

Number = Fraction | float

MAX_LITERAL = 40  # characters of a number
MAX_POWER_OF_TEN = 300
MAX_EXPONENT = 1000
MAX_BITS = 4096
_LITERAL = re.compile(r"^[+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?$")
_HUGE = Fraction(10) ** MAX_POWER_OF_TEN


def shorten(text: str, limit: int = 40) -> str:
    """``text`` for an error message: one line, at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def parse_number(text: str, where: str = "") -> Fraction:
    """The exact value of ``1.98e15`` or ``1_000``; InputError for anything else, for a long or an extreme number."""
    prefix = f"{where}: " if where else ""
    plain = text.strip().replace(",", "")
    if len(plain) > MAX_LITERAL:
        raise InputError(f"{prefix}a number of {len(plain)} characters; at most {MAX_LITERAL} make sense: write 1.5e30")
    if not _LITERAL.match(plain):
        raise InputError(f"{prefix}{shorten(text)!r} is not a number")
    power = re.search(r"[eE]([+-]?\d+)$", plain)
    if power and abs(int(power.group(1))) > MAX_POWER_OF_TEN:
        raise InputError(f"{prefix}{shorten(text)!r} is out of range (10**{MAX_POWER_OF_TEN} at most)")
    return bounded(Fraction(plain.replace("_", "")))  # type: ignore[return-value]  # a literal is short, so exact


def bounded(x: Number) -> Number:
    """``x`` itself, as a float where it has grown long; InputError where it is out of range."""
    if isinstance(x, float):
        if not math.isfinite(x):
            raise InputError(f"a number beyond 10**{MAX_POWER_OF_TEN}")
        return x
    if x and not 1 / _HUGE <= abs(x) <= _HUGE:
        raise InputError(f"a number beyond 10**{MAX_POWER_OF_TEN}")
    return x if x.numerator.bit_length() + x.denominator.bit_length() <= MAX_BITS else float(x)


def power(base: Number, exponent: Number) -> Number:
    """base ** exponent, exact for small whole exponents and perfect squares; InputError where undefined or vast."""
    size = float(exponent)
    if abs(size) > MAX_EXPONENT:
        raise InputError(f"an exponent of {size:.3g}; at most {MAX_EXPONENT} is allowed")
    if not base:
        if exponent < 0:
            raise InputError("division by zero")
        return Fraction(0) if exponent else Fraction(1)
    if abs(_log10(base) * size) > MAX_POWER_OF_TEN:
        raise InputError(f"a number beyond 10**{MAX_POWER_OF_TEN}")
    if isinstance(base, Fraction) and exponent == int(exponent):
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        if bits * abs(size) <= MAX_BITS:
            return Fraction(base ** int(exponent))
    if exponent == Fraction(1, 2):
        return square_root(base)
    if base < 0 and exponent != int(exponent):
        raise InputError("a fractional power of a negative number")
    return bounded(float(base) ** (int(exponent) if exponent == int(exponent) else float(exponent)))


def _log10(x: Number) -> float:
    if isinstance(x, float):
        return math.log10(abs(x))
    return math.log10(abs(x.numerator)) - math.log10(x.denominator)


def square_root(x: Number) -> Number:
    """The root, exact where ``x`` is the square of a fraction."""
    if x < 0:
        raise InputError("the square root of a negative number")
    if isinstance(x, Fraction):
        top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
        if top * top == x.numerator and bottom * bottom == x.denominator:
            return Fraction(top, bottom)
    return math.sqrt(x)


def plain(x: Number) -> int | float:
    """The int where ``x`` is whole, else the float: what JSON gets."""
    if isinstance(x, Fraction):
        return int(x) if x.denominator == 1 else float(x)
    return x
