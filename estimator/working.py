"""Working: how a number comes about, in the steps that a grader wants to read.

A step says which rule it uses and shows an expression as it stands, nothing multiplied out: ``3*L*(r*d + d*r)``. What
is counted comes first, with names, shapes and how many; :mod:`estimator.steps` adds the common factor, the numbers
put in and the value, and has SymPy compare each step with the next before anything is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from estimator.records import NamedTuple
from estimator.trace import Traced, value_of
from estimator.units import BITS_PER_BYTE


class Form(NamedTuple):
    """An expression as it is written down. ``op``: + - * / **, () for brackets, ceiling, round or Sum; ``args``: Forms,
    numbers, traced or not, and texts, which are letters."""

    op: str
    args: tuple[Any, ...]


def stands(x: Any) -> bool:
    """Whether a term stands in a sum: a number that is not 0, or letters, whatever they come to here."""
    return bool(x.expr != 0) if isinstance(x, Traced) else bool(x)


def plus(*args: Any) -> Any:
    """A sum, as it stands."""
    return args[0] if len(args) == 1 else Form("+", args)


def minus(a: Any, b: Any) -> Form:
    """A difference, as it stands."""
    return Form("-", (a, b))


def times(*args: Any) -> Any:
    """A product, as it stands, without factors that are plainly 1."""
    kept = tuple(a for a in args if not (isinstance(a, int) and a == 1))
    return 1 if not kept else kept[0] if len(kept) == 1 else Form("*", kept)


def over(a: Any, b: Any) -> Form:
    """A quotient, as it stands."""
    return Form("/", (a, b))


def power(a: Any, b: Any) -> Form:
    """A power, as it stands."""
    return Form("**", (a, b))


def series(body: Any, index: str, low: Any, high: Any) -> Form:
    """The sum of ``body`` over ``index``, a letter that ``body`` names as a text, from ``low`` to ``high``."""
    return Form("Sum", (body, index, low, high))


def group(a: Any) -> Form:
    """What stands in brackets."""
    return Form("()", (a,))


def in_bytes(count: Any, bits: Any, form: Any = None) -> Any:
    """``count`` numbers (as ``form`` writes them) of ``bits`` bits each, in bytes; rounded up where they are not
    whole."""
    form = count if form is None else form
    if value_of(bits) % BITS_PER_BYTE == 0:
        return times(bits // BITS_PER_BYTE, form)
    whole = value_of(count * bits) % BITS_PER_BYTE == 0
    made = over(times(bits, form), BITS_PER_BYTE)
    return made if whole else Form("ceiling", (made,))


class Item(NamedTuple):
    """What is counted alike: ``names``, each with the same ``parts`` (a part's name and the sizes it multiplies).

    many   how many of each name there are (layers); each: what one element counts (2 FLOPs a multiply-add)
    """

    names: tuple[str, ...]
    parts: tuple[tuple[str, tuple[Any, ...]], ...]
    many: Any = 1
    each: Any = 1

    @property
    def term(self) -> Any:
        """Its share of the sum: each * how many * (the sum of its parts)."""
        sizes = plus(*(times(*shape) for _, shape in self.parts))
        return times(self.each, len(self.names), self.many, sizes)


class Step(NamedTuple):
    """One step: the rule it uses, in words, and the expression it comes to.

    given   what the letters of a formula stand for here: (letter, value)
    left    what stands left of the equals sign where it is not the quantity itself ("a", "sum of the series")
    chained whether it equals the quantity, and so the step before it; other steps name what is used later
    """

    rule: str
    form: Any = None
    items: tuple[Item, ...] = ()
    left: str = ""
    chained: bool = True
    given: tuple[tuple[str, Any], ...] = ()


Working = Callable[[], Sequence[Step]]


def alike(rows: Iterable[tuple[str, str, tuple[Any, ...], Any]], each: Any = 1) -> tuple[Item, ...]:
    """Items of ``(holder, part, shape, how many)``: parts of one holder together, holders with equal parts as one."""
    holders: dict[tuple[str, Any], tuple[Any, list[tuple[str, tuple[Any, ...]]]]] = {}
    for holder, part, shape, many in rows:
        holders.setdefault((holder, _key(many)), (many, []))[1].append((part, shape))
    found: dict[Any, tuple[list[str], tuple[tuple[str, tuple[Any, ...]], ...], Any]] = {}
    for (holder, how_many), (many, parts) in holders.items():
        same = (how_many, tuple((part, tuple(map(_key, shape))) for part, shape in parts))
        found.setdefault(same, ([], tuple(parts), many))[0].append(holder)
    return tuple(Item(tuple(names), parts, many, each) for names, parts, many in found.values())


def multiple(value: Any, of: Any, rule: Callable[[int], str]) -> Working:
    """The working of what is a whole number of times another quantity; none where it is not. ``rule``: of that number.

    Both are traced: they are compared as expressions.
    """

    def steps() -> list[Step]:
        if not value_of(of) or value_of(value) % value_of(of):
            return []
        count = int(value_of(value) // value_of(of))
        if count and _key(value - count * of) == "0":
            return [Step(rule(count), times(count, of))]
        return []

    return steps


WORKINGS: dict[str, Callable[..., Sequence[Step]]] = {}  # a formula's name -> its working, by its own parameters


def working(fn: Callable[..., Sequence[Step]]) -> Callable[..., Sequence[Step]]:
    """Register the working of the formula of the same name and parameters."""
    WORKINGS[fn.__name__] = fn
    return fn


def counted(rule: str, *items: Item) -> list[Step]:
    """Things counted, and their sum."""
    return [Step(rule, plus(*(i.term for i in items)), items)]


def part(name: str, *shape: Any, many: Any = 1) -> Item:
    """One thing of a shape."""
    return Item((name,), (("", shape),), many)


def _key(value: Any) -> str:
    return str(value.expr if isinstance(value, Traced) else value)
