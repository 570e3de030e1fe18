"""Numbers that remember how they were computed from a config's fields, for ``record_counts.py``."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

NOTED: dict[int, set[Any]] = defaultdict(set)


def note(value: int, expr: Any) -> None:
    if size(expr) <= 24:
        NOTED[int(value)].add(expr)


def size(expr: Any) -> int:
    return 1 + sum(size(x) for x in expr[1:]) if isinstance(expr, tuple) and expr[0] not in ("f", "at") else 1


class _Arithmetic:
    """The operators that both kinds of number have; ``_with`` carries one out and remembers it."""

    def _with(self, other: Any, op: str, swap: bool = False) -> Any:
        raise NotImplementedError

    def __add__(self, o: Any) -> Any:
        return self._with(o, "+")

    def __radd__(self, o: Any) -> Any:
        return self._with(o, "+", True)

    def __sub__(self, o: Any) -> Any:
        return self._with(o, "-")

    def __rsub__(self, o: Any) -> Any:
        return self._with(o, "-", True)

    def __mul__(self, o: Any) -> Any:
        return self._with(o, "*")

    def __rmul__(self, o: Any) -> Any:
        return self._with(o, "*", True)

    def __floordiv__(self, o: Any) -> Any:
        return self._with(o, "//")

    def __truediv__(self, o: Any) -> Any:
        return self._with(o, "/")

    def __rtruediv__(self, o: Any) -> Any:
        return self._with(o, "/", True)


class Remembered(_Arithmetic, int):
    """A whole number that remembers how it was computed, as a prefix tuple over fields and numbers."""

    e: Any

    def __new__(cls, value: int, expr: Any) -> Remembered:
        self = super().__new__(cls, value)
        self.e = expr
        note(value, expr)
        return self

    def __reduce__(self) -> Any:
        return (Remembered, (int(self), self.e))

    def __deepcopy__(self, memo: Any) -> Remembered:
        return self

    def __copy__(self) -> Remembered:
        return self

    def _with(self, other: Any, op: str, swap: bool = False) -> Any:
        if isinstance(other, bool) or not isinstance(other, int):
            if isinstance(other, float):
                return Real(float(self), self.e)._with(other, op, swap)
            return NotImplemented
        a, b = (other, self) if swap else (self, other)
        x, y = int(a), int(b)
        ea, eb = getattr(a, "e", x), getattr(b, "e", y)
        if op == "+":
            return Remembered(x + y, ("+", *sorted((ea, eb), key=repr)))
        if op == "-":
            return Remembered(x - y, ("-", ea, eb))
        if op == "*":
            return Remembered(x * y, ("*", *sorted((ea, eb), key=repr)))
        if op == "//":
            return Remembered(x // y, ("//", ea, eb))
        if op == "%":
            return Remembered(x % y, ("%", ea, eb))
        if op == "**":
            return Remembered(x**y, ("**", ea, eb)) if y >= 0 else float(x) ** y
        return Real(x / y, ("/", ea, eb))

    def __rfloordiv__(self, o: Any) -> Any:
        return self._with(o, "//", True)

    def __mod__(self, o: Any) -> Any:
        return self._with(o, "%")

    def __pow__(self, o: Any, m: Any = None) -> Any:
        return self._with(o, "**")

    def __neg__(self) -> Any:
        return Remembered(-int(self), ("-", 0, self.e))

    def __int__(self) -> int:
        return int.__int__(self)

    def __index__(self) -> int:
        return int.__index__(self)

    def __hash__(self) -> int:
        return int.__hash__(self)


class Real(_Arithmetic, float):
    """A real number that remembers; it becomes whole again by int() or floor division by one."""

    e: Any

    def __new__(cls, value: float, expr: Any) -> Real:
        self = super().__new__(cls, value)
        self.e = expr
        if value == value and abs(value) < 1e12:
            note(int(value), ("int", expr))
            note(-int(-value // 1), ("ceil", expr))
            note(round(value), ("round", expr))
        return self

    def __deepcopy__(self, memo: Any) -> Real:
        return self

    def _with(self, other: Any, op: str, swap: bool = False) -> Any:
        if isinstance(other, bool) or not isinstance(other, int | float):
            return NotImplemented
        a, b = (other, self) if swap else (self, other)
        ea, eb = getattr(a, "e", a), getattr(b, "e", b)
        x, y = float(a), float(b)
        value = {"+": x + y, "-": x - y, "*": x * y}.get(op)
        if value is None:
            value = x / y if op == "/" else x // y if op == "//" else x**y
        if op in "+*":
            ea, eb = sorted((ea, eb), key=repr)
        return Real(value, (op, ea, eb))

    def __hash__(self) -> int:
        return float.__hash__(self)


class _Whole(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, int)


class Whole(metaclass=_Whole):
    """Stands for ``int`` in the modules of a model: what it makes whole still remembers."""

    def __new__(cls, value: Any = 0, *args: Any) -> Any:  # type: ignore[misc]
        made = int(value, *args) if args else int(value)
        if isinstance(value, Remembered):
            return value
        return Remembered(made, ("int", value.e)) if isinstance(value, Real) else made


def remember_in(*found: Any) -> None:
    """Let the modules of these classes keep what ``int`` would forget."""
    for cls in found:
        vars(sys.modules[cls.__module__]).setdefault("int", Whole)


def value_of(expr: Any, fields: Any) -> Any:
    """The value of a prefix expression. ``fields``: name -> value."""
    if not isinstance(expr, tuple | list):
        return expr
    op = expr[0]
    if op == "f":
        return fields[expr[1]]
    if op == "at":
        return fields[expr[1]][expr[2]]
    if op == "below":
        return len({x for x in fields[expr[1]] if x < value_of(expr[2], fields)})
    if op == "count":
        return sum(1 for x in fields[expr[1]] if x == expr[2])
    args = [value_of(x, fields) for x in expr[1:]]
    if op in ("int", "ceil", "round"):
        x = args[0]
        return int(x) if op == "int" else -int(-x // 1) if op == "ceil" else round(x)
    a, b = args
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "//": lambda: a // b, "%": lambda: a % b,
            "**": lambda: a**b, "/": lambda: a / b, "==": lambda: int(a == b),
            "!=": lambda: int(a != b)}[op]()  # fmt: skip
