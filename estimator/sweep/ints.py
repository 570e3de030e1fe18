"""A record evaluated for one row, in Python's ints: a few dozen sums of products in place of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from estimator.stack.blocks import block_bytes
from estimator.sweep.number import AT_MOST, BELOW, Terms, Unrecordable, terms_of
from estimator.sweep.record import Record

Sum = tuple[tuple[int, int], ...]  # (factor, slot) of each term
PRODUCT, SIZE, BLOCK, FLOOR, MOD, DIGITS, MOST, LEAST = range(8)
EXTREMES = {"max": MOST, "min": LEAST}


class Single:
    """The numbers of one record as functions of its sizes.

    A slot holds a size, an atom or a product of several; slot 0 is 1. :meth:`at` fills them in order, and is None where
    the record does not hold. All sums are asked for before the first row; :meth:`close` then lets go of the record.
    """

    def __init__(self, record: Record) -> None:
        if record.reals or record.reals_met:
            raise Unrecordable("floats")
        self.atoms = record.atoms
        self.steps: list[tuple[int, Any, Any]] = []
        self._slots: dict[tuple[int, ...], int] = {(): 0}
        self.ranges = [(name, low, high) for name, (low, high) in record.ranges.items()]
        self.guards = []  # each with how many steps there are when it can be asked
        for (how, key), answer in record.guards.items():
            terms = self.sum(dict(key))
            self.guards.append((len(self.steps), how, terms, answer))

    def _atom(self, op: str, args: tuple[Any, ...]) -> tuple[int, Any, Any]:
        """The step that makes an atom, after those that make what it is made of."""
        if op == "size":
            return SIZE, args[0], None
        if op in EXTREMES:
            return EXTREMES[op], self.chain([dict(key) for key in args]), None
        inner = self.sum(dict(args[0]))
        if op == "floor":
            return FLOOR, inner, self.sum(dict(args[1]))
        return (MOD, inner, args[1]) if op == "mod" else (BLOCK if op == "block" else DIGITS, inner, None)

    def _slot(self, product: tuple[int, ...]) -> int:
        found = self._slots.get(product)
        if found is None:
            if len(product) == 1:
                atom = self.atoms[product[0]]
                step = self._atom(atom.op, atom.args)
            else:
                step = PRODUCT, self._slot(product[:-1]), self._slot(product[-1:])
            self.steps.append(step)
            found = self._slots[product] = len(self.steps)
        return found

    def sum(self, terms: Terms) -> Sum:
        """Terms by the slots of their products."""
        return tuple([(factor, self._slot(product)) for product, factor in terms.items()])

    def of(self, x: Any) -> Sum:
        """A number of the record, or an int."""
        return self.sum(terms_of(x))

    def chain(self, terms: Sequence[Terms]) -> list[Sum]:
        """Sums of which each is what is added to the one before: levels differ by little."""
        out: list[Sum] = []
        before: Terms = {}
        for now in terms:
            step = {p: now.get(p, 0) - before.get(p, 0) for p in (*before, *now)}
            out.append(self.sum({p: f for p, f in step.items() if f}))
            before = now
        return out

    def close(self) -> None:
        """Nothing more is asked for: forget what only made the steps."""
        self.atoms, self._slots = [], {}

    def at(self, sizes: Mapping[str, int]) -> list[int] | None:
        """All slots for these sizes."""
        for name, low, high in self.ranges:
            if not low <= sizes[name] <= high:
                return None
        v, done = [1], 0
        for ready, how, terms, answer in self.guards:
            if done < ready:
                self._fill(v, self.steps[done:ready], sizes)
                done = ready
            x = total(terms, v)
            if (x < 0 if how == BELOW else x <= 0 if how == AT_MOST else x == 0) != answer:
                return None
        self._fill(v, self.steps[done:], sizes)
        return v

    def _fill(self, v: list[int], steps: Sequence[tuple[int, Any, Any]], sizes: Mapping[str, int]) -> None:
        """Put what these steps make behind what is there."""
        put = v.append
        for how, a, b in steps:
            if how == BLOCK:
                put(block_bytes(total(a, v)))
            elif how == PRODUCT:
                put(v[a] * v[b])
            elif how == SIZE:
                put(sizes[a])
            elif how == MOST:
                put(max(levels(a, v)))
            elif how == FLOOR:
                put(total(a, v) // (total(b, v) or 1))  # a row of another record may divide by nothing
            elif how == MOD:
                put(total(a, v) % b)
            elif how == LEAST:
                put(min(levels(a, v)))
            else:
                put(len(str(total(a, v))))


def total(terms: Sum, v: Sequence[int]) -> int:
    """A sum of terms."""
    if len(terms) == 1:
        factor, slot = terms[0]
        return factor * v[slot]
    return sum([factor * v[slot] for factor, slot in terms])


def levels(chain: Iterable[Sum], v: Sequence[int]) -> list[int]:
    """The sums of a chain."""
    level, out = 0, []
    for terms in chain:
        for factor, slot in terms:
            level += factor * v[slot]
        out.append(level)
    return out
