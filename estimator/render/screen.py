"""A brief answer cut to a screen: notes go first, then the smallest of many parts and the last of the changes; at last
what stands below a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from estimator.report import Node, Table
from estimator.trace import value_of

SCREEN = 25  # lines
LEVELS = ((6, 3), (5, 3), (4, 2), (3, 2), (3, 1), (2, 1), (1, 1))  # parts of a sum beside the rest, rows of a table
REST = "everything else"


def shorter(body: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """``body`` cut further and further; every sum stays one."""
    cut: tuple[Any, ...] = tuple(_bare(part) if isinstance(part, Node) else part for part in body)
    bare = cut
    for parts, rows in LEVELS:
        cut = tuple(
            _fewer(x, parts) if isinstance(x, Node) else x._replace(rows=x.rows[:rows]) if isinstance(x, Table) else x
            for x in bare
        )
        yield cut
    yield tuple(x._replace(note="") if isinstance(x, Table) else x for x in cut)


def _bare(node: Node) -> Node:
    """A row and those below it without their notes."""
    return node._replace(note="", children=tuple(_bare(c) for c in node.children))


def _fewer(node: Node, most: int) -> Node:
    """A row whose sums name their ``most`` largest parts, and what is left in one."""
    children = tuple(_fewer(c, most) for c in node.children)
    named = [c for c in children if c.label != REST]
    if node.how == "sum" and len(named) > most:
        kept = {id(c) for c in sorted(named, key=lambda c: -float(value_of(c.value)))[:most]}
        left = sum(value_of(c.value) for c in children if id(c) not in kept)
        children = (*(c for c in children if id(c) in kept), Node("", REST, left, node.unit))
    return node._replace(children=children)
