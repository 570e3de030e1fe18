"""What a scenario is made of: quantities, tables of figures, answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction

from estimator.fermi.numbers import Number
from estimator.fermi.parser import Expr
from estimator.fermi.ranges import Interval
from estimator.fermi.units import Measure
from estimator.records import dataclass

CELL = "cell"  # what a table's formulas call the number of the cell


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity: a value, a range, or a formula over others. ``point`` and ``range`` are in base units.

    ``unit`` None: the formula's own (base) unit, found when dimensions are checked.
    """

    name: str
    point: Number | None = None
    range: Interval | None = None
    formula: Expr | None = None
    text: str = ""
    unit: Measure | None = None
    label: str = ""
    section: str = ""
    source: str = ""
    note: str = ""
    was_set: bool = False


@dataclass(frozen=True, slots=True)
class Derived:
    """A table made of another by a formula over its cells."""

    title: str
    formula: Expr
    text: str
    unit: Measure
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of figures in one unit: a first column of words, numbers or None elsewhere."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Fraction | None, ...], ...]
    unit: Measure
    source: str = ""
    note: str = ""
    then: tuple[Derived, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole chain. ``answers`` are the quantities it is for, the first one the headline."""

    id: str
    title: str
    summary: str
    quantities: Mapping[str, Quantity]
    answers: tuple[str, ...]
    own: Mapping[str, Measure] = field(default_factory=dict)
    tables: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
