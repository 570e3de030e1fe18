"""Expressions in a config's fields that explain what a class built at several sizes, for ``record_counts.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from class_walk import IDS, INDEXED, LAYERS, NUMBER, STAGES, is_kinds, pattern
from remembered import size

SEEN_AT_LEAST = 3  # sizes at which a kind of layer occurs
Entry = tuple[tuple[int, ...], tuple[int, ...], str]  # the numbers in a tensor's name, its shape, its role
Row = list[Any]  # pattern, sides, how often, role


class Untraceable(Exception):
    """Why a class has no record; ``of``: the pattern of the tensors that nothing explains."""

    of: str | None = None


@dataclass
class Built:
    """What a class built at one size: its tensors by pattern, the expressions noted under each value, its fields."""

    tensors: dict[str, list[Entry]]
    noted: dict[int, set[Any]]
    fields: dict[str, Any]


def by_pattern(tensors: list[tuple[str, tuple[int, ...], str]]) -> dict[str, list[Entry]]:
    """The tensors of each pattern in order of first appearance."""
    out: dict[str, list[Entry]] = {}
    for name, shape, role in tensors:
        numbers = tuple(int(n) for n in NUMBER.findall(name))
        out.setdefault(pattern(name), []).append((numbers, shape, role))
    return out


def rows(seen: list[Built], idle: set[str]) -> list[Row]:
    """[pattern, shape expressions, times expression, role] of every tensor."""
    found = dict.fromkeys(p for b in seen for p in b.tensors)
    known = Counts(seen)
    return [row for p in found for row in explained(p, seen, idle, known)]


def explained(name: str, seen: list[Built], idle: set[str], known: Counts) -> list[Row]:
    """The rows of one pattern: all its tensors alike, or told apart by what their layer is, or by their numbers."""
    first: Untraceable | None = None
    for label in labels(seen):
        try:
            return merged(grouped(name, label, seen, idle, known))
        except Untraceable as error:
            first = first or error
    assert first is not None
    first.of = name
    raise first


def labels(seen: list[Built]) -> Iterator[Callable[[int, Entry], Any]]:
    """Ways of telling tensors of one pattern apart: (which size, tensor) -> label."""
    yield lambda at, entry: None
    for field in seen[0].fields:
        if all(is_kinds(b.fields.get(field)) for b in seen):
            yield lambda at, entry, f=field: kind(seen[at].fields[f], entry[0])  # type: ignore[misc]
        if INDEXED.search(field) and isinstance(seen[0].fields[field], list | tuple):
            yield lambda at, entry, f=field: entry[0][0] in seen[at].fields[f]  # type: ignore[misc]
    yield lambda at, entry: entry[0][:1]
    yield lambda at, entry: entry[0][1:]
    yield lambda at, entry: entry[0]


def kind(words: Any, numbers: tuple[int, ...]) -> Any:
    return words[numbers[0]] if numbers and numbers[0] < len(words) else None


def grouped(
    name: str, label: Callable[[int, Entry], Any], seen: list[Built], idle: set[str], known: Counts
) -> list[Row]:
    """A row for each label and shape; where a label has several shapes, they are told apart by which came first."""
    groups: list[dict[Any, dict[tuple[int, ...], list[str]]]] = []
    for at, b in enumerate(seen):
        of: dict[Any, dict[tuple[int, ...], list[str]]] = {}
        for entry in b.tensors.get(name, ()):
            of.setdefault(label(at, entry), {}).setdefault(entry[1], []).append(entry[2])
        groups.append(of)
    out = []
    for one in dict.fromkeys(x for g in groups for x in g):
        there = [(at, list(g[one].items())) for at, g in enumerate(groups) if one in g]
        if len(there) < SEEN_AT_LEAST:
            raise Untraceable(f"whether {name} is there changes with its sizes")
        if len({len(found) for _, found in there}) > 1:
            raise Untraceable(f"how many shapes {name} has changes with its sizes")
        for j, (shape, roles) in enumerate(there[0][1]):
            shapes = [found[j][0] for _, found in there]
            if len({len(s) for s in shapes}) > 1:
                raise Untraceable(f"the rank of {name} changes with its sizes")
            noted = [seen[at].noted for at, _ in there]
            dims = [best([s[d] for s in shapes], noted, name, idle) for d in range(len(shape))]
            here = dict(there)
            times = known.counted([len(here[at][j][1]) if at in here else 0 for at in range(len(seen))], name)
            out.append([name, dims, times, roles[0]])
    return out


def merged(found: list[Row]) -> list[Row]:
    """Rows of the same shape that occur a fixed number of times, as one."""
    out: dict[str, Row] = {}
    for row in found:
        key = repr((row[1], row[3], row[2] if not isinstance(row[2], int) else None))
        if key in out and isinstance(row[2], int):
            out[key][2] += row[2]
        else:
            out[repr(row) if key in out else key] = row
    return list(out.values())


def best(values: list[int], noted: list[dict[int, set[Any]]], what: str, idle: set[str]) -> Any:
    """The shortest expression that gives every value, or the number where it never changes. A field that changes
    nothing by itself explains what nothing else does."""
    common = set.intersection(*(n.get(v, set()) for n, v in zip(noted, values, strict=True)))
    busy = {e for e in common if not named(e) & idle}
    if common and (busy or len(set(values)) > 1):
        return min(busy or common, key=lambda e: (size(e), repr(e)))
    if len(set(values)) == 1:
        return values[0]
    raise Untraceable(f"nothing in its config gives a side of {what}")


def named(expr: Any) -> set[str]:
    """The fields in an expression."""
    if not isinstance(expr, tuple):
        return set()
    if expr[0] in ("f", "at", "below", "count"):
        return {expr[1]}
    return set().union(*(named(x) for x in expr[1:]))


class Counts:
    """What the fields at these sizes count, by the values."""

    def __init__(self, seen: list[Built]) -> None:
        self.seen = seen

    @cached_property
    def plain(self) -> dict[tuple[int, ...], Any]:
        return firsts(candidates(self.seen))

    @cached_property
    def composed(self) -> dict[tuple[int, ...], Any]:
        return firsts(composed(self.seen))

    def counted(self, values: list[int], what: str) -> Any:
        """How often a tensor occurs: a number, a field that counts layers or stages, an entry's count in a list of
        layer kinds, or the shortest sum, share or product of such that gives every value."""
        key, fixed = tuple(values), len(set(values)) == 1
        if "{i}" not in what:
            found = 1 if key[0] == 1 and fixed else None
        elif fixed:
            found = self.plain.get(key, key[0])
        else:
            found = self.plain.get(key) or self.composed.get(key)
        if found is None:
            raise Untraceable(f"nothing in its config says how often {what} occurs")
        return found


def firsts(pairs: Iterator[tuple[Any, list[int]]]) -> dict[tuple[int, ...], Any]:
    out: dict[tuple[int, ...], Any] = {}
    for e, of in pairs:
        out.setdefault(tuple(of), e)
    return out


def candidates(seen: list[Built]) -> Iterator[tuple[Any, list[int]]]:
    """Fields and counts that may say by themselves how often a tensor occurs."""
    fields = [b.fields for b in seen]
    for n in layered(seen):
        yield ("f", n), [int(f[n]) for f in fields]
    for n, value in fields[0].items():
        if is_kinds(value) and all(is_kinds(f.get(n)) for f in fields):
            for word in sorted(set().union(*(f[n] for f in fields))):
                yield ("count", n, word), [Counter(f[n])[word] for f in fields]
        elif INDEXED.search(n) and isinstance(value, list | tuple):
            for m in layered(seen):
                e, of = ("below", n, ("f", m)), [len({x for x in f[n] if x < f[m]}) for f in fields]
                yield e, of
                yield ("-", ("f", m), e), [int(f[m]) - x for f, x in zip(fields, of, strict=True)]
        elif isinstance(value, list | tuple) and all(isinstance(x, int) for x in value) and len(value) <= STAGES:
            for i in range(len(value)):
                of = [int(f[n][i]) for f in fields if len(f[n]) > i]
                if len(of) == len(fields) and len(set(of)) > 1:
                    yield ("at", n, i), of


def layered(seen: list[Built]) -> list[str]:
    """Fields that count layers."""
    return [n for n, v in seen[0].fields.items() if LAYERS.search(n.split(".")[-1]) and isinstance(v, int)]


def composed(seen: list[Built]) -> Iterator[tuple[Any, list[int]]]:
    """Sums, shares and products of fields that count, shortest first."""
    fields = [b.fields for b in seen]
    small = [
        n for n, v in fields[0].items()
        if isinstance(v, int) and not isinstance(v, bool) and not IDS.search(n.split(".")[-1])
        and all(0 < int(f.get(n) or 0) < 100 for f in fields)
    ]  # fmt: skip
    layers = [(("f", n), [int(f[n]) for f in fields]) for n in layered(seen)]
    for e, of in layers:
        for factor in (1, 2, 3):
            for k in range(-4, 5):
                yield plus(times(e, factor), k), [factor * x + k for x in of]
    for i, (a, x) in enumerate(layers):
        for b, y in layers[i + 1 :]:
            yield ("+", a, b), [p + q for p, q in zip(x, y, strict=True)]
    parts = [*layers, *((("f", n), [int(f[n]) for f in fields]) for n in small)]
    for e, of in layers:
        for b, by in [*((c, [c] * len(of)) for c in (2, 3, 4, 5, 6, 8)), *parts]:
            for k in (0, -1, 1):
                share = [(x + k) // y for x, y in zip(of, by, strict=True)]
                yield ("//", plus(e, k), b), share
                yield ("-", e, ("//", plus(e, k), b)), [x - s for x, s in zip(of, share, strict=True)]
            up = [-(-x // y) for x, y in zip(of, by, strict=True)]
            yield ("ceil", ("/", e, b)), up
            yield ("-", e, ("ceil", ("/", e, b))), [x - s for x, s in zip(of, up, strict=True)]
    for e, of in layers:
        for a, x in parts:
            for b, y in parts:
                yield ("*", ("//", e, b), a), [p // q * r for p, q, r in zip(of, y, x, strict=True)]
    for a, x in parts:
        for b, y in parts:
            for i in (0, 1, 2, -1, -2):
                for j in (0, 1, 2, -1, -2):
                    yield ("*", plus(a, i), plus(b, j)), [(p + i) * (q + j) for p, q in zip(x, y, strict=True)]


def plus(e: Any, k: int) -> Any:
    return e if k == 0 else ("+", e, k) if k > 0 else ("-", e, -k)


def times(e: Any, factor: int) -> Any:
    return e if factor == 1 else ("*", factor, e)
