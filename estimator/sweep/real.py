"""Floats of a recorded run: the same operations in the same order, which IEEE 754 makes the same numbers."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

from estimator.sweep.number import Number, Unrecordable
from estimator.sweep.record import Record
from estimator.trace import Recordable

COMPENSATED = sys.version_info >= (3, 12)  # sum() of floats carries its rounding along, which no record can say


def quotient(a: Any, b: Any) -> Any:
    """a / b of ints, of which one is recorded."""
    record = a.record if isinstance(a, Number) else b.record
    if b == 0:
        raise ZeroDivisionError("division by zero")
    if not isinstance(a, int | Number) or not isinstance(b, int | Number):
        return made(record, "/", a, b)
    x, y = (v.number if isinstance(v, Number) else v for v in (a, b))
    return Real(record, record.real("ratio", a, b), x / y)


def made(record: Record, op: str, a: Any, b: Any) -> Any:
    """``a op b`` as floats."""
    x, y = (_float(v) for v in (a, b))
    if op == "/" and b == 0:
        raise ZeroDivisionError("division by zero")
    value = x + y if op == "+" else x - y if op == "-" else x * y if op == "*" else x / y
    return Real(record, record.real(op, a, b), value)


def _float(x: Any) -> float:
    if isinstance(x, Real | Number):
        return float(x.number)
    if isinstance(x, int | float | Fraction):
        return float(x)
    raise Unrecordable(f"{type(x).__name__} beside a recorded float")


class Real(Recordable):
    """A float of the run that records: the ``index``-th of the record's."""

    __slots__ = ("index", "number", "record")

    def __init__(self, record: Record, index: int, number: float) -> None:
        self.record, self.index, self.number = record, index, number

    def __add__(self, other: Any) -> Any:
        return made(self.record, "+", self, other)

    def __radd__(self, other: Any) -> Any:
        if COMPENSATED:
            raise Unrecordable("a sum of floats")
        return made(self.record, "+", other, self)

    def __sub__(self, other: Any) -> Any:
        return made(self.record, "-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return made(self.record, "-", other, self)

    def __mul__(self, other: Any) -> Any:
        return made(self.record, "*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return made(self.record, "*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return made(self.record, "/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return made(self.record, "/", other, self)

    def _met(self, how: str, other: Any, answer: bool) -> bool:
        self.record.reals_met[how, self.record.operand(self), self.record.operand(other)] = answer
        return answer

    def __lt__(self, other: Any) -> bool:
        return self._met("<", other, self.number < _float(other))

    def __le__(self, other: Any) -> bool:
        return self._met("<=", other, self.number <= _float(other))

    def __gt__(self, other: Any) -> bool:
        return not self._met("<=", other, self.number <= _float(other))

    def __ge__(self, other: Any) -> bool:
        return not self._met("<", other, self.number < _float(other))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Real) and other.record is not self.record:
            return False
        if not isinstance(other, int | float | Number | Real):
            return False
        return self._met("==", other, self.number == _float(other))

    def __bool__(self) -> bool:
        return self != 0

    def __hash__(self) -> int:
        return 0

    def __float__(self) -> float:
        raise Unrecordable("a float of a recorded number")

    def __format__(self, spec: str) -> str:
        """Texts say the number of this run; they are no part of a row."""
        return format(self.number, spec)

    def __repr__(self) -> str:
        return repr(self.number)
