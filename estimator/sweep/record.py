"""What a run records: the atoms that its numbers are made of, and the comparisons that were decided on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from operator import ge, le
from typing import Any

from estimator.records import NamedTuple
from estimator.sweep.number import AT_MOST, BELOW, EQUAL, Key, Number, Terms, int_of, key_of, terms_of

CORNERS = 6  # where sums are compared before their bounds are: more find little more


class Atom(NamedTuple):
    """What a polynomial is made of: ``op`` of polynomials (a name, for a swept size), within ``low`` and ``high``."""

    op: str
    args: tuple[Any, ...]
    low: int
    high: int


class Record:
    """One run: its atoms, each made of earlier ones, and its ``guards``, (comparison with zero, terms) -> answer.

    A record holds for the rows whose sizes lie within ``ranges`` and for which every guard comes out the same.
    """

    floats: Any = None  # what makes floats of its numbers: estimator.sweep.real
    worded = False  # texts are part of what is recorded

    def __init__(self, ranges: Mapping[str, tuple[int, int]]) -> None:
        self.atoms: list[Atom] = []
        self.numbers: list[int] = []  # what each atom is in this run
        self.guards: dict[tuple[str, Key], bool] = {}
        self.reals: list[tuple[str, Any, Any]] = []  # operations on floats, each on operands made before
        self.reals_met: dict[tuple[str, Any, Any], bool] = {}  # comparisons of floats -> answer
        self._known: dict[Any, int] = {}
        self._corners: dict[tuple[int, ...], list[int]] = {}
        self.ends: dict[tuple[int, ...], tuple[int, int]] = {}  # of the products met
        self.ranges = dict(ranges)

    def size(self, name: str, value: int) -> Any:
        """The number of a swept size, which is ``value`` in this run."""
        low, high = self.ranges[name]
        return value if low == high else self.atom("size", (name,), value, low, high)

    def atom(self, op: str, args: tuple[Any, ...], value: int, low: int, high: int) -> Any:
        """The number of an atom, the same one for the same operands."""
        if low == high:
            return low
        known = self._known.get((op, args))
        if known is None:
            known = self._known[op, args] = len(self.atoms)
            self.atoms.append(Atom(op, args, low, high))
            self.numbers.append(value)
        return Number(self, {(known,): 1}, value)

    def made(self, terms: Terms) -> Any:
        """The number of these terms, none of them zero; an int where they are constant."""
        if not terms:
            return 0
        if len(terms) == 1 and () in terms:
            return terms[()]
        return Number(self, terms)

    def value(self, terms: Terms) -> int:
        """What the terms come to in this run."""
        return sum([f * prod([self.numbers[i] for i in p]) for p, f in terms.items()])

    def bounds(self, terms: Terms) -> tuple[int, int]:
        """The least and the most that the terms can come to."""
        least = most = 0
        for product, factor in terms.items():
            low, high = self.ends.get(product) or self.end(product)
            if factor > 0:
                least, most = least + factor * low, most + factor * high
            else:
                least, most = least + factor * high, most + factor * low
        return least, most

    def end(self, product: tuple[int, ...]) -> tuple[int, int]:
        """The least and the most that a product of atoms can come to."""
        low = high = 1
        for index in product:
            a = self.atoms[index]
            if low >= 0 and a.low >= 0:
                low, high = low * a.low, high * a.high
            else:
                ends = (low * a.low, low * a.high, high * a.low, high * a.high)
                low, high = min(ends), max(ends)
        self.ends[product] = low, high
        return low, high

    def corners(self, terms: Terms) -> list[int]:
        """What the terms come to where each product is at one of its ends: a few of all such places."""
        sums = [0] * CORNERS
        for product, factor in terms.items():
            found = self._corners.get(product)
            if found is None:
                low, high = self.ends.get(product) or self.end(product)
                count = len(self._corners)  # told apart by the bits of its number
                found = self._corners[product] = [high if count >> i & 1 else low for i in range(CORNERS)]
            sums = [x + factor * y for x, y in zip(sums, found, strict=True)]
        return sums

    def holds(self, comparison: str, number: Any) -> bool:
        """Whether ``number`` is < 0, <= 0 or == 0: decided by its bounds, else in this run and kept as a guard."""
        if not isinstance(number, Number):
            return bool(number < 0 if comparison == BELOW else number <= 0 if comparison == AT_MOST else number == 0)
        low, high = self.bounds(number.terms)
        if comparison == EQUAL:
            if low > 0 or high < 0:
                return False
        elif high < 0 or (comparison == AT_MOST and high == 0):
            return True
        elif low > 0 or (comparison == BELOW and low == 0):
            return False
        v = number.number
        answer = v < 0 if comparison == BELOW else v <= 0 if comparison == AT_MOST else v == 0
        terms, sign = number.terms, 1
        if comparison == EQUAL and terms[min(terms)] < 0:
            sign = -1  # x == y and y == x are one guard
        self.guards[comparison, key_of({p: sign * f for p, f in terms.items()})] = answer
        return answer

    def extreme(self, values: Iterable[Any], most: bool) -> Any:
        """The largest of ``values`` (the smallest where not ``most``), whichever that is in each row."""
        left = widest(values, most)
        if len(left) == 1:
            return left[0]
        pairs = [self.bounds(terms_of(x)) for x in left]
        pick = max if most else min
        low, high = pick(p[0] for p in pairs), pick(p[1] for p in pairs)
        args = tuple(key_of(terms_of(x)) for x in left)
        return self.atom("max" if most else "min", args, pick(int_of(x) for x in left), low, high)

    def real(self, op: str, a: Any, b: Any) -> int:
        """The index of an operation on floats (``ratio``: the quotient of two ints), the same one for the same."""
        made = (op, self.operand(a), self.operand(b))
        if made not in self._known:
            self._known[made] = len(self.reals)
            self.reals.append(made)
        return self._known[made]

    def operand(self, x: Any) -> Any:
        """A number as its terms, a float of this record as ("real", index), any other as it is."""
        if isinstance(x, Number):
            return key_of(x.terms)
        return ("real", x.index) if hasattr(x, "index") else x if type(x) is int else float(x)

    def key(self, x: Any) -> Any:
        """What a size is told apart by in a dictionary: equal where the numbers are, by a guard where that depends."""
        return x if isinstance(x, Number) else Number(self, terms_of(x), x)


def widest(values: Iterable[Any], most: bool) -> list[Any]:
    """Those that are the first to be the largest (smallest) in some row, in order."""
    given = list(values)
    record = next((x.record for x in given if isinstance(x, Number)), None)
    if record is None:
        return [max(given) if most else min(given)]
    left: list[tuple[Any, list[int]]] = []
    for value in given:
        own = record.corners(terms_of(value))
        first, second = (ge, le) if most else (le, ge)
        # neighbours are alike; who is not ahead at every corner is not everywhere
        if any(all(map(first, at, own)) and least_gap(x, value, most) >= 0 for x, at in reversed(left)):
            continue
        left = [(x, at) for x, at in left if not (all(map(second, at, own)) and least_gap(value, x, most) > 0)]
        left.append((value, own))
    return [x for x, _ in left]


def least_gap(a: Any, b: Any, most: bool) -> int:
    """The least that a - b can come to whatever the sizes are; b - a where not ``most``."""
    if not most:
        a, b = b, a
    if not isinstance(a, Number) and not isinstance(b, Number):
        return int(a - b)
    record = a.record if isinstance(a, Number) else b.record
    left, right, ends, least = terms_of(a), terms_of(b), record.ends, 0
    for product, factor in left.items():
        if gap := factor - right.get(product, 0):
            low, high = ends.get(product) or record.end(product)
            least += gap * (low if gap > 0 else high)
    for product, factor in right.items():
        if product not in left:
            low, high = ends.get(product) or record.end(product)
            least -= factor * (high if factor > 0 else low)
    return least
