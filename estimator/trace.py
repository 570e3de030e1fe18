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
from operator import add, mul, sub, truediv
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
numbers_alone: ContextVar[bool] = ContextVar("numbers_alone", default=False)  # estimator.report.numbers_of


def wordless() -> bool:
    """Whether an answer's results are asked for alone: it needs no words, tables, pictures or advice."""
    return numbers_alone.get() or recording.get() is not None


class Traced:
    """An exact number with the SymPy expression that yields it; compares and hashes by its number.

    ``made``: the formula that gave it and its arguments, where one did (:class:`estimator.formula.Formula`).
    """

    __slots__ = ("_expr", "_steps", "made", "value")

    def __init__(self, value: Any, expr: Any, made: tuple[Any, tuple[Any, ...]] | None = None) -> None:
        self.value, self._expr, self.made = value, expr, made
        self._steps: tuple[Any, Any, Any] | None = None  # the operation and operands of an expression not built yet

    @property
    def expr(self) -> Any:
        """The SymPy expression; built when it is first asked for, as most numbers of a run are never printed."""
        if self._steps is not None:
            self._build()
        return self._expr

    def by(self, formula: Any, args: tuple[Any, ...]) -> Traced:
        """The same number, given by ``formula`` of ``args``."""
        out = _later(self.value, _same, self, None)
        out.made = formula, args
        return out

    def _build(self) -> None:
        left = [self]
        while left:
            x = left[-1]
            if x._steps is None:
                left.pop()
                continue
            how, a, b = x._steps
            open_ = [y for y in (a, b) if isinstance(y, Traced) and y._steps is not None]
            if open_:
                left += open_
                continue
            x._expr = how(_expression(a), _expression(b))
            x._steps = None

    def __add__(self, other: Any) -> Any:
        if other.__class__ is int and other == 0:
            return self  # the start of a sum
        return _later(self.value + value_of(other), add, self, other)

    def __sub__(self, other: Any) -> Any:
        return _later(self.value - value_of(other), sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _later(other - self.value, sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return _later(self.value * value_of(other), mul, self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return _floor(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _floor(other, self)

    def __truediv__(self, other: Any) -> Any:
        return _later(self.value / value_of(other), truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _later(other / self.value, truediv, other, self)

    def __mod__(self, other: Any) -> Any:
        return self.value % value_of(other)

    def __rmod__(self, other: Any) -> Any:
        return other % self.value

    def __pow__(self, other: Any) -> Any:
        return _later(self.value ** value_of(other), pow, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _later(other**self.value, pow, other, self)

    def __neg__(self) -> Any:
        return _later(-self.value, _negative, self, None)

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
        return bool(self.value == value_of(other))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < value_of(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= value_of(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > value_of(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= value_of(other))

    def __repr__(self) -> str:
        return f"Traced({self.value!r}, {self.expr})"


def _later(value: Any, how: Any, a: Any, b: Any) -> Traced:
    """``how(a, b)``, whose value is ``value`` and whose expression is built when it is asked for."""
    out = Traced(value, None)
    out._steps = how, a, b
    return out


def _expression(x: Any) -> Any:
    """What SymPy is given for an operand."""
    if isinstance(x, Traced):
        return x._expr
    if isinstance(x, Fraction):
        from sympy import Rational

        return Rational(x.numerator, x.denominator)
    return x


def _negative(x: Any, _: Any) -> Any:
    return -x


def _same(x: Any, _: Any) -> Any:
    return x


def _floor(a: Any, b: Any) -> Traced:
    """a // b; a plain quotient where the division is exact, a floor otherwise.

    ``-((-a) // b)``, which is how ceil_div spells it, then reads as ceiling(a/b).
    """
    va, vb = value_of(a), value_of(b)
    return _later(va // vb, _quotient if va % vb == 0 else _floored, a, b)


def _quotient(a: Any, b: Any) -> Any:
    from sympy import Rational

    return a * Rational(1, b) if isinstance(b, int) else a / b


def _floored(a: Any, b: Any) -> Any:
    return rounded_down(_quotient(a, b))


def rounded_down(quotient: Any) -> Any:
    """The floor of an expression."""
    from sympy import ceiling, expand_mul, floor

    # SymPy takes 59*L*(32*d + 4*h)/50 for an integer and pulls it out of a floor; multiplied out, it does not
    quotient = expand_mul(quotient)
    negative = getattr(quotient, "could_extract_minus_sign", lambda: False)()
    return -_rounded(ceiling, -quotient) if negative else _rounded(floor, quotient)


def _rounded(how: Any, x: Any) -> Any:
    """``how(x)`` as SymPy gives it, which asks for the signs of all terms first; a sum of whole letters needs none."""
    from sympy import Add, Mul

    if x.is_number:
        return how(x)
    whole: list[Any] = []
    rest: list[Any] = []
    for term in Add.make_args(x):
        number, letters = term.as_coeff_Mul()
        powers = [f.as_base_exp() for f in Mul.make_args(letters) if f != 1]
        if not (number.is_Rational and all(f.is_Symbol and f.is_integer and n.is_Integer and n > 0 for f, n in powers)):
            return how(x)
        (whole if number.is_Integer else rest).append(term)
    return Add(*whole, how(Add(*rest), evaluate=False)) if rest else x


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
