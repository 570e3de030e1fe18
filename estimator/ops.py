"""Arithmetic that means the same on ints, traced numbers, SymPy expressions and numpy arrays.

Formulas use ``+ - * // **`` and these; they never branch on a value and never use ``/`` on a count.
A value that knows better (:class:`estimator.trace.Traced`) answers through the method of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from types import MappingProxyType
from typing import Any

from estimator.errors import InputError
from estimator.trace import Recordable

NUMBERS = frozenset((int, float))  # that Python compares by itself
NOTHING: Mapping[str, Any] = MappingProxyType({})  # the empty default of a field that holds a mapping


def ceil_div(a: Any, b: Any) -> Any:
    """The least whole number >= a / b."""
    return -((-a) // b)


def exact_div(a: Any, b: Any, what: str = "") -> Any:
    """a / b, which must be whole; InputError naming ``what`` otherwise."""
    if a % b != 0:
        raise InputError(f"{what or 'division'}: {a} is not a multiple of {b}")
    return a // b


def digits(n: Any) -> Any:
    """How many decimal digits a whole number >= 0 has."""
    return n.digits() if isinstance(n, Recordable) else len(str(int(n)))


def root(square: Any) -> Any:
    """The whole number whose square is ``square``."""
    if isinstance(square, Recordable):
        return square.square_root()
    if hasattr(square, "expr"):
        from sympy import sqrt

        return type(square)(isqrt(square.value), sqrt(square.expr))
    return isqrt(square)


def round_up(a: Any, multiple: Any) -> Any:
    """The least multiple of ``multiple`` that is >= a."""
    return ceil_div(a, multiple) * multiple


def maximum(*values: Any) -> Any:
    """The largest; on numpy arrays elementwise, on traced numbers the one whose value is largest."""
    for v in values:
        if type(v) not in NUMBERS:
            return _extreme(values, "maximum", max)
    return max(values)


def minimum(*values: Any) -> Any:
    """The smallest; see :func:`maximum`."""
    for v in values:
        if type(v) not in NUMBERS:
            return _extreme(values, "minimum", min)
    return min(values)


def _extreme(values: tuple[Any, ...], name: str, plain: Any) -> Any:
    recorded = next((v for v in values if isinstance(v, Recordable)), None)
    if recorded is not None:
        return recorded.extreme(values, name == "maximum")
    for kind in (type(v) for v in values):
        if kind.__module__ == "numpy":
            import numpy

            out = values[0]
            for v in values[1:]:
                out = getattr(numpy, name)(out, v)
            return out
    return plain(values)


def numpy_there() -> bool:
    """Whether numpy can be imported (the extra ``fit``)."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True
