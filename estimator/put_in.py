"""What an expression comes to with numbers put in, in Python's arithmetic: SymPy's own substitution is slow.

Whole numbers and fractions stay exact. What is not here (a Sum, a function of the user's scenario) is None: then SymPy
is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from operator import add, mul
from typing import Any

HIGHEST = 64  # of a power that is taken exactly: (1 + 1/100)**365 has thousands of digits

_CALLS: dict[str, Callable[..., Any]] = {"floor": math.floor, "ceiling": math.ceil, "Max": max, "Min": min}


def put_in(expr: Any, numbers: Mapping[Any, Any]) -> int | float | Fraction | None:
    """The value of a SymPy expression, ``numbers`` by symbol; exact unless a float; None where only SymPy can say."""
    try:
        made: int | float | Fraction = _value(expr, numbers, {})
        return made
    except (LookupError, ArithmeticError, AttributeError, TypeError, ValueError):
        return None


def _plain(x: Any) -> int | float | Fraction:
    """A number of Python's, whose own it is or SymPy's."""
    if type(x) in (int, float, Fraction):
        plain: int | float | Fraction = x
        return plain
    if x.is_Rational:
        return int(x.p) if x.q == 1 else Fraction(int(x.p), int(x.q))
    return float(x)


def _value(e: Any, numbers: Mapping[Any, Any], known: dict[Any, Any]) -> Any:
    if e.is_Symbol:
        return _plain(numbers[e])
    if e.is_Number:
        return _plain(e)
    if e in known:
        return known[e]
    if e.is_Pow:
        base, power = (_value(a, numbers, known) for a in e.args)
        if abs(power) > HIGHEST or (isinstance(power, Fraction) and power.denominator != 1):
            raise LookupError("**")
        made = Fraction(base) ** power if isinstance(base, int) and power < 0 else base**power
    else:
        args = [_value(a, numbers, known) for a in e.args]
        made = reduce(add, args) if e.is_Add else reduce(mul, args) if e.is_Mul else _CALLS[e.func.__name__](*args)
    known[e] = made
    return made
