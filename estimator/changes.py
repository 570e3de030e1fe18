"""Changes of a question that would make it fit: what one is, their table, and what a short answer shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.fit import NO, YES
from estimator.records import NamedTuple
from estimator.report import Cell, Table
from estimator.units import BYTES

FITS = "fits"
COLUMNS = ("change", "needs", "saves", FITS, "costs")
Row = tuple[str | Cell | None, ...]


class Change(NamedTuple):
    """One change: the flags that a user would add, the fields that they set, and what it costs beside memory."""

    flags: str
    fields: dict[str, Any]
    price: str


def row_of(change: Change, need: Any, saves: Any, answer: str) -> Row:
    """A change that was tried: what it needs and saves, and whether it fits then."""
    return (change.flags, Cell(need, BYTES), Cell(saves, BYTES), answer, change.price)


def card_row(name: str, price: str) -> Row:
    """A larger card, which surely holds it as it is."""
    return (f"--gpu {name}", None, None, YES, price)


def table_of(rows: Sequence[Row], note: str = "") -> Table:
    """The table of what would make it fit."""
    return Table("What would change it", COLUMNS, tuple(rows), note)


def helping(table: Table, most: int) -> Table:
    """Of a table of changes the first ``most`` that fit; where none does, the first."""
    at = table.columns.index(FITS)
    rows = [row for row in table.rows if row[at] != NO] or table.rows
    return table._replace(rows=tuple(rows[:most]))
