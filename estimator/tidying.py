"""SymPy's value of what was counted, and the shorter of its forms.

:mod:`estimator.printing` writes them down; :func:`terms` tells beforehand what would take SymPy too long.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, prod
from typing import Any

import sympy

from estimator.trace import Traced, rounded_down
from estimator.working import Form

_TIDY_OPS = 80  # above this, looking for a shorter form costs more than it gives
_TIDY_TERMS = 1_000  # nor is one looked for where it might have so many terms when multiplied out
_TIDY_POWER = 16


def sympified(value: Any) -> Any:
    """SymPy's value of a number, traced or not, of an expression, or of what a Form comes to."""
    if isinstance(value, Form):
        args = [sympified(a) for a in value.args]
        match value.op:
            case "+":
                return sympy.Add(*args)
            case "-":
                return args[0] - args[1]
            case "*":
                return sympy.Mul(*args)
            case "/":
                return args[0] / args[1]
            case "**":
                return args[0] ** args[1]
            case "ceiling":
                return sympy.ceiling(args[0])
            case "floor":
                return rounded_down(args[0])
            case "round":
                return sympy.Function("round")(args[0])
            case "()":
                return args[0]
            case "Sum":
                index = sympy.Symbol(str(args[1]), integer=True)  # of any sign: a sum may be empty
                return sympy.Sum(args[0].subs(args[1], index), (index, args[2], args[3]))
        raise ValueError(value.op)
    if isinstance(value, str):
        return sympy.Symbol(value, positive=True, integer=True)
    return sympy.sympify(value.expr if isinstance(value, Traced) else value)


def terms(expr: Any) -> float:
    """About how many terms ``expr`` has when multiplied out; infinite where it is no polynomial of low powers.

    What SymPy does with others takes unbounded time: it reads exp(333/1000) as the 333rd power of exp(1/1000).
    """
    if expr.is_Atom:
        return 1.0
    if expr.is_Add:
        return float(sum(map(terms, expr.args)))
    if expr.is_Mul:
        return float(prod(map(terms, expr.args)))
    if expr.is_Pow and expr.exp.is_Rational and abs(expr.exp) <= _TIDY_POWER and expr.exp.q <= 2:
        return float(terms(expr.base) ** max(1, abs(int(expr.exp))))
    return inf


def tidy(expr: Any) -> Any:
    """The shorter of an expression and its factored form."""
    return _tidied(sympy.sympify(expr))


@lru_cache(maxsize=1024)
def _tidied(expr: Any) -> Any:
    if expr.has(sympy.floor):
        # ceil_div is spelled -((-a) // b); floor(-x) = -ceiling(x)
        expr = expr.replace(
            lambda e: isinstance(e, sympy.floor) and e.args[0].could_extract_minus_sign(),
            lambda e: -sympy.ceiling(-e.args[0]),
        )
    if expr.has(sympy.ceiling, sympy.floor, sympy.Max, sympy.Min):
        return expr
    if expr.count_ops() > _TIDY_OPS or terms(expr) > _TIDY_TERMS or _measured(expr):
        return expr
    try:
        factored = sympy.factor(expr)
    except (sympy.PolynomialError, NotImplementedError):
        return expr
    best = factored if factored.count_ops() < expr.count_ops() else expr
    constant = expr.as_coeff_Add()[0]
    apart = _tidied(expr - constant) + constant if constant else best  # a header beside what grows with the sizes
    return apart if apart.count_ops() < best.count_ops() else best


def _measured(expr: Any) -> bool:
    """Whether an expression is a sum of measured numbers times letters that share none: there is nothing to factor."""
    return expr.is_Add and expr.has(sympy.Float) and not set.intersection(*(set(t.free_symbols) for t in expr.args))


__all__ = ["sympified", "terms", "tidy"]
