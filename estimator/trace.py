"""Numbers that remember how they came about.

``Traced(value, expr)`` carries an exact number and a SymPy expression side by side. Code written for ints runs on
it unchanged, the very same path with the very same branches, and what comes out is the number and its derivation.
A run with ``--derive`` feeds traced sizes in; a run without feeds ints, and SymPy is never imported.

``trace(field, value)`` makes one for a field of :mod:`estimator.symbols`. A model given in letters (``--model
symbolic``) uses traced numbers too, whose values are only stand-ins that decide which branch is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from fractions import Fraction
from threading import local
from typing import Any

from estimator.errors import InputError


class Recordable:
    """A number that a sweep records: :class:`estimator.sweep.number.Number`, beside which sizes are ints."""

    __slots__ = ()

    def __lt__(self, other: Any) -> bool:
        raise NotImplementedError

    def __gt__(self, other: Any) -> bool:
        raise NotImplementedError

    def blocks(self) -> Any:
        """What the caching allocator counts for a request of this many bytes."""
        raise NotImplementedError

    def square_root(self) -> Any:
        """The whole number whose square this is."""
        raise NotImplementedError

    def digits(self) -> Any:
        """How many decimal digits it has."""
        raise NotImplementedError

    def extreme(self, values: Any, most: bool) -> Any:
        """The largest of ``values``, or the smallest."""
        raise NotImplementedError


# what a sweep records into (estimator.sweep.fold.Recording), or None in a run on ints or traced numbers
recording: ContextVar[Any] = ContextVar("recording", default=None)


class Traced:
    """An exact number with the SymPy expression that yields it; compares and hashes by its number.

    ``made``: the formula that gave it and its arguments, where one did (:class:`estimator.formula.Formula`).
    """

    __slots__ = ("expr", "made", "value")

    def __init__(self, value: Any, expr: Any, made: tuple[Any, tuple[Any, ...]] | None = None) -> None:
        self.value, self.expr, self.made = value, expr, made

    def _pair(self, other: Any) -> tuple[Any, Any]:
        if isinstance(other, Traced):
            return other.value, other.expr
        if isinstance(other, Fraction):
            from sympy import Rational

            return other, Rational(other.numerator, other.denominator)
        return other, other

    def __add__(self, other: Any) -> Any:
        if other.__class__ is int and other == 0:
            return self  # the start of a sum
        v, e = self._pair(other)
        return Traced(self.value + v, self.expr + e)

    def __sub__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(self.value - v, self.expr - e)

    def __rsub__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(v - self.value, e - self.expr)

    def __mul__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(self.value * v, self.expr * e)

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return _floor(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _floor(other, self)

    def __truediv__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(self.value / v, self.expr / e)

    def __rtruediv__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(v / self.value, e / self.expr)

    def __mod__(self, other: Any) -> Any:
        return self.value % self._pair(other)[0]

    def __rmod__(self, other: Any) -> Any:
        return self._pair(other)[0] % self.value

    def __pow__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(self.value**v, self.expr**e)

    def __rpow__(self, other: Any) -> Any:
        v, e = self._pair(other)
        return Traced(v**self.value, e**self.expr)

    def __neg__(self) -> Any:
        return Traced(-self.value, -self.expr)

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == self._pair(other)[0])

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < self._pair(other)[0])

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= self._pair(other)[0])

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > self._pair(other)[0])

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= self._pair(other)[0])

    def __repr__(self) -> str:
        return f"Traced({self.value!r}, {self.expr})"


def _floor(a: Any, b: Any) -> Traced:
    """a // b; a plain quotient where the division is exact, a floor otherwise.

    ``-((-a) // b)``, which is how ceil_div spells it, then reads as ceiling(a/b).
    """
    from sympy import Rational, ceiling, expand_mul, floor

    va, ea = (a.value, a.expr) if isinstance(a, Traced) else (a, a)
    vb, eb = (b.value, b.expr) if isinstance(b, Traced) else (b, b)
    quotient = ea * Rational(1, eb) if isinstance(eb, int) else ea / eb
    if va % vb == 0:
        return Traced(va // vb, quotient)
    # SymPy takes 59*L*(32*d + 4*h)/50 for an integer and pulls it out of a floor; multiplied out, it does not
    quotient = expand_mul(quotient)
    negative = getattr(quotient, "could_extract_minus_sign", lambda: False)()
    return Traced(va // vb, -ceiling(-quotient) if negative else floor(quotient))


def value_of(x: Any) -> Any:
    """The plain number of ``x``, traced or not."""
    return x.value if isinstance(x, Traced) else x


def letter(name: str, integer: bool = True) -> Any:
    """The SymPy symbol of that name: positive, and an integer unless what it stands for is not counted."""
    from sympy import Symbol

    return Symbol(name, positive=True, integer=True) if integer else Symbol(name, positive=True)


class _Letters(local):
    """The letters of this thread: letter -> (number, field). Threads that derive at once do not see each other's."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[Any, str]] = {}
        self.own: set[str] = set()  # those that the user chose


_LETTERS = _Letters()


def bindings() -> dict[str, Any]:
    """The letters traced so far in this thread and their numbers, by letter."""
    return {name: number for name, (number, _) in _LETTERS.of.items()}


def field_of(name: str) -> str:
    """The field that a letter was traced for, or ""."""
    return _LETTERS.of.get(name, (None, ""))[1]


def forget() -> None:
    """Drop this thread's letters; a program that derives several reports calls it between them."""
    _LETTERS.of.clear()
    _LETTERS.own.clear()


def known() -> dict[str, tuple[Any, str]]:
    """This thread's letters, for :func:`adopt` in another."""
    return dict(_LETTERS.of)


def adopt(letters: Mapping[str, tuple[Any, str]]) -> None:
    """Take letters of a model that was loaded in another thread, or before :func:`forget`; those here stay."""
    _LETTERS.of = {**letters, **_LETTERS.of}


def trace(field: str, value: Any, name: str | None = None, integer: bool = True) -> Traced:
    """``value`` of the config field or option ``field``, as a traced number under its registered letter.

    ``name`` is a letter of the user's own (``--rank R``); given twice it is one number. A registered letter that is
    bound to another number gets a suffix. ``integer`` is False for what is measured or fitted, not counted.
    InputError where the user's letter already stands for something else.
    """
    from estimator.symbols import BY_FIELD

    if name is not None and name in _LETTERS.of:
        bound, of = _LETTERS.of[name]
        if name not in _LETTERS.own:
            said = BY_FIELD[of].meaning if of in BY_FIELD else of.replace("_", " ")
            raise InputError(f"the letter {name!r} stands for {said} here already: take another")
        return Traced(bound, letter(name, integer))
    if name is not None:
        _LETTERS.own.add(name)
    base = made = name or (BY_FIELD[field].name if field in BY_FIELD else field)
    count = 1
    while _LETTERS.of.setdefault(made, (value, field))[0] != value:
        count += 1
        made = f"{base}_{count}"
    return Traced(value, letter(made, integer))
