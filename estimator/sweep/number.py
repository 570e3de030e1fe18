"""Numbers that record: exact ints of one run, each with the polynomial that it is of the swept sizes."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import isqrt
from typing import Any

from estimator.trace import Recordable

Terms = dict[tuple[int, ...], int]  # product of atoms (their numbers, sorted) -> coefficient; (): the constant
Key = frozenset[tuple[tuple[int, ...], int]]
BELOW, AT_MOST, EQUAL = "< 0", "<= 0", "== 0"


class Unrecordable(Exception):
    """An operation that no record can say; the rows are then asked one by one."""


def terms_of(x: Any) -> Terms:
    """The terms of a number or of an int."""
    return x.terms if isinstance(x, Number) else {(): x} if x else {}


def key_of(terms: Terms) -> Key:
    """Terms as a key."""
    return frozenset(terms.items())


def int_of(x: Any) -> int:
    """What a number is in the run that records."""
    return x.number if isinstance(x, Number) else int(x)


class Number(Recordable):
    """An exact int of the run that records, and the polynomial that it is of the swept sizes."""

    __slots__ = ("_number", "record", "terms")

    def __init__(self, record: Any, terms: Terms, number: int | None = None) -> None:
        self.record, self.terms, self._number = record, terms, number

    @property
    def number(self) -> int:
        """What it is in the run that records; computed when somebody asks, as most numbers only go into others."""
        if self._number is None:
            self._number = self.record.value(self.terms)
        return self._number

    def _terms(self, other: Any) -> Terms:
        if isinstance(other, Number):
            if other.record is not self.record:
                raise Unrecordable("a number of another record")
            return other.terms
        if isinstance(other, int) or getattr(other, "denominator", None) == 1:
            return {(): int(other)} if other else {}
        raise Unrecordable(f"{type(other).__name__} beside a recorded number")

    def _plus(self, other: Any, sign: int) -> Any:
        if not isinstance(other, int | Number | Fraction):
            return self._real("+" if sign > 0 else "-", self, other)
        terms = dict(self.terms)
        for product, factor in self._terms(other).items():
            total = terms.get(product, 0) + sign * factor
            if total:
                terms[product] = total
            else:
                terms.pop(product, None)
        return self.record.made(terms)

    def __add__(self, other: Any) -> Any:
        return self._plus(other, 1)

    def __sub__(self, other: Any) -> Any:
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> Any:
        return (-self)._plus(other, 1) if isinstance(other, int | Fraction) else self._real("-", other, self)

    def _real(self, op: str, a: Any, b: Any) -> Any:
        """An operation with a float."""
        return NotImplemented if hasattr(b, "index") else self.record.floats.made(self.record, op, a, b)

    def __neg__(self) -> Any:
        return Number(self.record, {p: -f for p, f in self.terms.items()})

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int | Number | Fraction):
            return self._real("*", self, other)
        factors = self._terms(other)
        terms: Terms = {}
        for p, f in self.terms.items():
            for q, g in factors.items():
                product = tuple(sorted(p + q)) if p and q else p or q
                terms[product] = terms.get(product, 0) + f * g
        return self.record.made({p: f for p, f in terms.items() if f})

    __radd__ = __add__
    __rmul__ = __mul__

    def __pow__(self, power: Any) -> Any:
        if type(power) is not int or not 0 <= power <= 4:
            raise Unrecordable(f"the power {power!r}")
        out: Any = 1
        for _ in range(power):
            out = self * out
        return out

    def __floordiv__(self, other: Any) -> Any:
        return quotient(self.record, self, self.record.key(other) if type(other) is not int else other)

    def __rfloordiv__(self, other: Any) -> Any:
        return quotient(self.record, other, self)

    def __mod__(self, other: Any) -> Any:
        if type(other) is int and other > 0:
            rest = {p: f % other for p, f in self.terms.items() if f % other}
            inner = self.record.made(rest)
            if type(inner) is int:
                return inner % other
            low, high = self.record.bounds(rest)
            if low >= 0 and high < other:
                return inner
            args = (key_of(rest), other)
            return self.record.atom("mod", args, self.number % other, 0, other - 1)
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        return other - (other // self) * self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def blocks(self) -> Any:
        """The bytes that the caching allocator counts for a request of this many, more than 0."""
        from estimator.stack.blocks import block_bytes

        low, high = self.record.bounds(self.terms)
        args = (key_of(self.terms),)
        # blocks do not shrink as requests grow
        return self.record.atom("block", args, block_bytes(self.number), block_bytes(max(low, 1)), block_bytes(high))

    def digits(self) -> Any:
        """How many decimal digits it has."""
        low, high = self.record.bounds(self.terms)
        least, most = len(str(max(low, 0))), len(str(high))
        if least == most:
            return least
        return self.record.atom("digits", (key_of(self.terms),), len(str(self.number)), least, most)

    def square_root(self) -> Any:
        """The whole number whose square this is."""
        if len(self.terms) == 1:
            ((product, factor),) = self.terms.items()
            half = product[::2]
            if half == product[1::2] and isqrt(factor) ** 2 == factor:
                return self.record.made({half: isqrt(factor)})
        return isqrt(int(self))

    def extreme(self, values: Iterable[Any], most: bool) -> Any:
        """:meth:`Record.extreme`."""
        return self.record.extreme(values, most)

    def __truediv__(self, other: Any) -> Any:
        return self.record.floats.quotient(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.record.floats.quotient(other, self)

    def __float__(self) -> float:
        raise Unrecordable("a float of a recorded number")

    def __int__(self) -> int:
        """The number itself: the record then holds for rows with the same one."""
        self.record.holds(EQUAL, self - self.number)
        return self.number

    __index__ = __int__

    def __bool__(self) -> bool:
        return not self.record.holds(EQUAL, self)

    def __hash__(self) -> int:
        return 0  # so that every look-up compares, and every comparison is kept

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Number) and other.record is not self.record:
            return False
        if type(other) is not int and not isinstance(other, Number):
            return False
        return bool(self.record.holds(EQUAL, self - other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.record.holds(BELOW, self - other))

    def __le__(self, other: Any) -> bool:
        return bool(self.record.holds(AT_MOST, self - other))

    def __gt__(self, other: Any) -> bool:
        return not self.record.holds(AT_MOST, self - other)

    def __ge__(self, other: Any) -> bool:
        return not self.record.holds(BELOW, self - other)

    def __format__(self, spec: str) -> str:
        """Texts say the number of this run; they are no part of a row, where the record does not want them."""
        if self.record.worded:
            raise Unrecordable("a text that says a recorded number")
        return format(self.number, spec)

    def __repr__(self) -> str:
        return repr(self.number)


def shared_factor(terms: Terms, divisor: Terms) -> Terms | None:
    """``terms`` / ``divisor`` where that is one product which goes into every term, or all terms are a multiple of it;
    else None."""
    if len(divisor) != 1:
        some = next(iter(divisor))
        times = terms.get(some, 0) // divisor[some]
        return {(): times} if times and terms == {p: times * f for p, f in divisor.items()} else None
    ((product, factor),) = divisor.items()
    out: Terms = {}
    for p, f in terms.items():
        rest = list(p)
        for index in product:
            if index not in rest:
                return None
            rest.remove(index)
        if f % factor:
            return None
        out[tuple(rest)] = f // factor
    return out


def quotient(record: Any, a: Any, b: Any) -> Any:
    """a // b; what divides without a rest is divided, the rest is an atom."""
    divisor = terms_of(b)
    if set(divisor) == {()} and divisor[()] > 0:
        n = divisor[()]
        parts = {p: divmod(f, n) if f > 0 else (-(-f // n), -(-f % n)) for p, f in terms_of(a).items()}
        whole: Terms = {p: x[0] for p, x in parts.items() if x[0]}
        rest: Terms = {p: x[1] for p, x in parts.items() if x[1]}
        first, inner = record.made(whole), record.made(rest)
        if type(inner) is int:
            return first + inner // n
        low, high = record.bounds(rest)
        args = (key_of(rest), key_of({(): n}))
        return first + record.atom("floor", args, int_of(inner) // n, low // n, high // n)
    if not isinstance(b, Number):
        raise Unrecordable("a division by what is not positive")
    exact = shared_factor(terms_of(a), divisor)
    if exact is not None:
        return record.made(exact)
    low, high = record.bounds(divisor)
    if low <= 0:
        raise Unrecordable("a division by what may be zero")
    top = record.bounds(terms_of(a))
    ends = [x // y for x in top for y in (low, high)]
    args = (key_of(terms_of(a)), key_of(divisor))
    return record.atom("floor", args, int_of(a) // int_of(b), min(ends), max(ends))
