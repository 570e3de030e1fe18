"""What a formula's syntax tree is run on: exact numbers, dimensions, samples, SymPy expressions, text.

Each algebra says what ``+ - * / **`` and the functions mean for its kind of value; ``run`` walks the tree. One formula,
five readings, no second copy of it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

from estimator.errors import InputError
from estimator.fermi.numbers import Number, bounded, power, square_root
from estimator.fermi.parser import Expr, Name, Neg, Num, Op
from estimator.fermi.units import PLAIN, Dim, dim_text, raised, times


class Algebra(Protocol):
    """The meaning of a formula's operations for one kind of value."""

    def number(self, n: Num) -> Any: ...
    def negate(self, x: Any) -> Any: ...
    def binary(self, op: str, a: Any, b: Any) -> Any: ...
    def call(self, func: str, args: Sequence[Any]) -> Any: ...


def run(expr: Expr, values: Mapping[str, Any], algebra: Algebra) -> Any:
    """The value of ``expr`` where ``values`` gives its names theirs."""
    if isinstance(expr, Num):
        return algebra.number(expr)
    if isinstance(expr, Name):
        return values[expr.name]
    if isinstance(expr, Neg):
        return algebra.negate(run(expr.arg, values, algebra))
    if isinstance(expr, Op):
        return algebra.binary(expr.op, run(expr.left, values, algebra), run(expr.right, values, algebra))
    return algebra.call(expr.func, [run(a, values, algebra) for a in expr.args])


class Exact:
    """Fractions (floats where a root, logarithm or size forces it), within the bounds of ``numbers``."""

    def number(self, n: Num) -> Number:
        return n.value

    def negate(self, x: Number) -> Number:
        return -x

    def binary(self, op: str, a: Number, b: Number) -> Number:
        if op == "**":
            return power(a, b)
        if op == "/" and not b:
            raise InputError("division by zero")
        if isinstance(a, float) or isinstance(b, float):
            a, b = float(a), float(b)
        result = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
        return bounded(result)

    def call(self, func: str, args: Sequence[Number]) -> Number:
        if func in ("min", "max"):
            return min(args) if func == "min" else max(args)
        if func == "sqrt":
            return square_root(args[0])
        if func == "log":
            if args[0] <= 0:
                raise InputError("the logarithm of a number that is not positive")
            return math.log(args[0])
        if float(args[0]) > 690:
            raise InputError("exp of a number above 690")
        return math.exp(args[0])


Known = tuple[Dim, Number | None, str]  # a dimension; its constant where the formula spells one; what it is called


class Dimensions:
    """Dimensions; the constants are there because a power needs its exponent."""

    def number(self, n: Num) -> Known:
        return PLAIN, n.value, n.text

    def negate(self, x: Known) -> Known:
        return x[0], None if x[1] is None else -x[1], x[2]

    def binary(self, op: str, a: Known, b: Known) -> Known:
        text = f"({a[2]} {op} {b[2]})" if len(a[2]) + len(b[2]) < 60 else "(...)"
        if op == "**":
            return self._power(a, b), None, text
        constant = Exact().binary(op, a[1], b[1]) if a[1] is not None and b[1] is not None else None
        if op in "*/":
            return times(a[0], b[0], 1 if op == "*" else -1), constant, text
        if a[0] != b[0]:
            verb, join = ("add", "to") if op == "+" else ("subtract", "from")
            first, second = (a, b) if op == "+" else (b, a)
            raise InputError(
                f"cannot {verb} {dim_text(first[0])} ({first[2]}) {join} {dim_text(second[0])} ({second[2]})"
            )
        return a[0], constant, text

    def _power(self, a: Known, b: Known) -> Dim:
        if b[0]:
            raise InputError(f"an exponent must be a plain number, got {dim_text(b[0])} ({b[2]})")
        if not a[0]:
            return PLAIN
        if b[1] is None or abs(float(b[1])) > 10:
            raise InputError(
                f"{a[2]} is in {dim_text(a[0])}: its exponent must be a number written in the formula, 10 at most"
            )
        return raised(a[0], Fraction(b[1]))

    def call(self, func: str, args: Sequence[Known]) -> Known:
        text = f"{func}({args[0][2]})"
        if func == "sqrt":
            return raised(args[0][0], Fraction(1, 2)), None, text
        for other in args[1:]:
            if other[0] != args[0][0]:
                raise InputError(
                    f"{func} compares {dim_text(args[0][0])} ({args[0][2]}) with {dim_text(other[0])} ({other[2]})"
                )
        if func in ("log", "exp") and args[0][0]:
            raise InputError(f"{func} takes a plain number, got {dim_text(args[0][0])} ({args[0][2]})")
        return args[0][0], None, text


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
}  # fmt: skip


class Samples:
    """Floats and lists of floats of one length, element by element."""

    def number(self, n: Num) -> float:
        return float(n.value)

    def negate(self, x: Any) -> Any:
        return [-v for v in x] if isinstance(x, list) else -x

    def binary(self, op: str, a: Any, b: Any) -> Any:
        f = _OPERATORS[op]
        if isinstance(a, list) and isinstance(b, list):
            return list(map(f, a, b))
        if isinstance(a, list):
            return [f(v, b) for v in a]
        return [f(a, v) for v in b] if isinstance(b, list) else f(a, b)

    def call(self, func: str, args: Sequence[Any]) -> Any:
        if func in ("min", "max"):
            pick = min if func == "min" else max
            count = max((len(a) for a in args if isinstance(a, list)), default=0)
            if not count:
                return pick(args)
            return [pick(row) for row in zip(*(a if isinstance(a, list) else [a] * count for a in args), strict=True)]
        f = {"sqrt": math.sqrt, "log": math.log, "exp": math.exp}[func]
        return [f(v) for v in args[0]] if isinstance(args[0], list) else f(args[0])


class Symbolic:
    """SymPy expressions. Only ever built from a checked tree, never from text."""

    def __init__(self) -> None:
        import sympy

        self.sympy = sympy

    def number(self, n: Num) -> Any:
        return self.sympy.Rational(n.value.numerator, n.value.denominator)

    def negate(self, x: Any) -> Any:
        return -x

    def binary(self, op: str, a: Any, b: Any) -> Any:
        if op == "**" and a.is_Rational and b.is_Rational:
            made = power(Fraction(int(a.p), int(a.q)), Fraction(int(b.p), int(b.q)))  # bounded, as the value is
            return self.sympy.Rational(made.numerator, made.denominator) if isinstance(made, Fraction) else (
                self.sympy.Float(made))  # fmt: skip
        return _OPERATORS[op](a, b)

    def call(self, func: str, args: Sequence[Any]) -> Any:
        s = self.sympy
        return {"min": s.Min, "max": s.Max, "sqrt": s.sqrt, "log": s.log, "exp": s.exp}[func](*args)


_LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}
_ATOM = 9


class Plain:
    """Readable text, with the parentheses that are needed; a value is (text, how tightly it binds)."""

    def number(self, n: Num) -> tuple[str, int]:
        return n.text, _ATOM

    def negate(self, x: tuple[str, int]) -> tuple[str, int]:
        return "-" + _wrap(x, 3), 3

    def binary(self, op: str, a: tuple[str, int], b: tuple[str, int]) -> tuple[str, int]:
        level = _LEVEL[op]
        left = _wrap(a, level if op != "**" else _ATOM)
        right = _wrap(b, level + (op in "-/"))
        return (f"{left}**{right}" if op == "**" else f"{left} {op} {right}"), level

    def call(self, func: str, args: Sequence[tuple[str, int]]) -> tuple[str, int]:
        return f"{func}({', '.join(a[0] for a in args)})", _ATOM


class Latex(Plain):
    """The same in LaTeX, a fraction for a quotient."""

    def number(self, n: Num) -> tuple[str, int]:
        return latex_number(n.text), _ATOM if "e" not in n.text.lower() else 2

    def binary(self, op: str, a: tuple[str, int], b: tuple[str, int]) -> tuple[str, int]:
        if op == "/":
            return f"\\frac{{{a[0]}}}{{{b[0]}}}", _ATOM - 1
        if op == "**":
            return f"{_wrap(a, _ATOM, True)}^{{{b[0]}}}", 4
        level = _LEVEL[op]
        sign = {"*": "\\cdot"}.get(op, op)
        return f"{_wrap(a, level, True)} {sign} {_wrap(b, level + (op == '-'), True)}", level

    def call(self, func: str, args: Sequence[tuple[str, int]]) -> tuple[str, int]:
        if func == "sqrt":
            return f"\\sqrt{{{args[0][0]}}}", _ATOM
        return f"\\{'ln' if func == 'log' else func}\\left({', '.join(a[0] for a in args)}\\right)", _ATOM


def latex_number(text: str) -> str:
    """``1.98e15`` as ``1.98 \\cdot 10^{15}``."""
    head, e, tail = text.lower().replace("_", "").partition("e")
    if not e:
        return head.replace(",", "{,}")
    power_of_ten = f"10^{{{int(tail)}}}"
    return power_of_ten if head in ("1", "1.0") else f"{head} \\cdot {power_of_ten}"


def _wrap(x: tuple[str, int], level: int, latex: bool = False) -> str:
    if x[1] >= level:
        return x[0]
    return f"\\left({x[0]}\\right)" if latex else f"({x[0]})"
