"""What an estimate answers: a tree of quantities, tables and texts, with its assumptions and sources.

Estimates build it, renderers print it. A total is never typed: ``Node.sum`` and ``Node.max`` compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from estimator.alike import add_up
from estimator.errors import InputError, InternalError, unknown
from estimator.formula import Citation, Formula
from estimator.ops import NOTHING, maximum
from estimator.records import NamedTuple, dataclass
from estimator.trace import Traced, numbers_alone, value_of
from estimator.units import Unit
from estimator.working import Working


class Node(NamedTuple):
    """One quantity of a report.

    key       dotted name in JSON's ``results``; "" for a row that only structures the table
    label     what a person reads
    value     int, float or Traced; None for a heading
    children  the quantities it is made of; ``how`` says how: "sum", "max", or "" for a plain group
    formula   the formula that gave it, if one did: its citation becomes the row's source
    working   the steps that lead to it, for derivations; without any they follow from ``how`` and ``formula``
    """

    key: str
    label: str
    value: Any
    unit: Unit | None
    children: tuple[Node, ...] = ()
    how: str = ""
    note: str = ""
    formula: Formula | None = None
    working: Working | None = None

    @classmethod
    def of(cls, key: str, label: str, formula: Formula, *args: Any) -> Node:
        """What a formula gives, in its unit."""
        return cls(key, label, formula(*args), formula.unit, formula=formula)

    @classmethod
    def sum(
        cls, key: str, label: str, children: Iterable[Node], note: str = "", formula: Formula | None = None,
        working: Working | None = None,
    ) -> Node:
        """The sum of its children, which must share one unit."""
        rows = tuple(children)
        return cls(key, label, add_up(r.value for r in rows), _one_unit(key, rows), rows, "sum", note, formula, working)

    @classmethod
    def max(cls, key: str, label: str, children: Iterable[Node], note: str = "") -> Node:
        """The largest of its children, which must share one unit."""
        rows = tuple(children)
        return cls(key, label, maximum(*(r.value for r in rows)), _one_unit(key, rows), rows, "max", note)

    @classmethod
    def group(cls, label: str, children: Iterable[Node], note: str = "", key: str = "") -> Node:
        """A heading over quantities of any unit."""
        return cls(key, label, None, None, tuple(children), "", note)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


def _one_unit(key: str, rows: tuple[Node, ...]) -> Unit | None:
    units = {r.unit for r in rows}
    if len(units) != 1:
        raise InternalError(f"{key}: cannot combine units {sorted(str(u and u.name) for u in units)}")
    return units.pop()


@dataclass(frozen=True, eq=False, repr=False)
class Cell:
    """A number in a table, with its unit."""

    value: Any
    unit: Unit


class Table(NamedTuple):
    """A comparison: rows of strings, None or Cells under ``columns``; ``latex`` replaces it in LaTeX where given."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell | None, ...], ...]
    note: str = ""
    latex: str = ""


class Text(NamedTuple):
    """A drawing or a piece of prose, printed as it is; ``latex`` is used instead in LaTeX output where given.

    steps  a working as plain data, which JSON carries: rule and relations (left, expression, latex) of each step
    """

    title: str
    body: str
    latex: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()


class Report(NamedTuple):
    """The answer of one command.

    body        Nodes, Tables and Texts in print order; JSON's ``results`` is every keyed node plus ``facts``
    facts       results that are not quantities: ``peak.moment``, ``fits``
    letters     meanings of letters that this report uses in its own sense: {"A": "amplitude of the parameter term"}
    hidden      quantities that tables of the body show: they count for JSON, CSV and derivations, and print nothing
    verdict     one sentence: whether it fits, by how much
    brief       what a terminal shows first, in place of the body, where the body is longer than a screen
    rows        things of one kind, best first, for JSON and CSV: ``plan``'s layouts
    figure      draws the answer (a render.plots.Figure); None where there is nothing to draw
    worked      True where the body shows the working of its hidden quantities: a page to hand in has it once
    symbolic    True where the model is given in letters: every traced quantity is then printed as its expression
    """

    command: str
    title: str
    inputs: Mapping[str, Any]
    body: tuple[Node | Table | Text, ...]
    facts: Mapping[str, Any] = NOTHING
    assumptions: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    notes: tuple[str, ...] = ()
    symbolic: bool = False
    schema: int = 1
    letters: Mapping[str, str] = NOTHING
    hidden: tuple[Node, ...] = ()
    verdict: str = ""
    figure: Callable[[], Any] | None = None
    brief: tuple[Node | Table | Text, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    worked: bool = False

    def nodes(self) -> Iterator[Node]:
        """Every node of every tree in the body, in print order, then the hidden ones."""
        for part in self.body:
            if isinstance(part, Node):
                yield from part.walk()
        yield from self.hidden

    def assumed(self, short: bool) -> list[str]:
        """The assumptions that a terminal prints; short: of a brief answer those of options, and warnings."""
        return [x for x in self.assumptions if not (short and self.brief) or x.startswith(("--", "WARNING"))]

    def results(self) -> dict[str, Any]:
        """The flat, plain-number results; raises InternalError where two nodes share a key with different values."""
        out: dict[str, Any] = {}
        for node in self.nodes():
            if not node.key or node.unit is None:
                continue
            value = value_of(node.value)
            if node.key in out and out[node.key] != value:
                raise InternalError(f"two values for {node.key}: {out[node.key]} and {value}")
            out[node.key] = value
        return out | {k: value_of(v) for k, v in self.facts.items()}

    def value(self, key: str) -> Any:
        """The result of a key, ``peak.allocated_bytes``; InputError with the nearest keys where there is none."""
        found = self.results()
        if key not in found:
            raise unknown("key", key, found, "report.results() has them all", every=False)
        return found[key]

    def to_pandas(self) -> Any:
        """The results as a DataFrame: of things of one kind a row each, else columns key, value, unit, label.

        InputError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("to_pandas needs pandas: pip install 'llmcalc-estimator[pandas]'") from None
        if self.rows:
            return pandas.DataFrame([dict(row) for row in self.rows])
        nodes = {n.key: n for n in self.nodes() if n.key and n.unit is not None}
        units = {key: n.unit.name for key, n in nodes.items() if n.unit is not None}
        rows = [
            {"key": key, "value": value, "unit": units.get(key, ""), "label": nodes[key].label if key in nodes else ""}
            for key, value in self.results().items()
        ]
        return pandas.DataFrame(rows, columns=["key", "value", "unit", "label"])

    def __str__(self) -> str:
        return self._shown("table").rstrip("\n")

    def __repr__(self) -> str:
        return f"<Report of {self.command}: {self.title}>"

    def _repr_html_(self) -> str:
        return self._shown("html", fragment=True)

    def _repr_markdown_(self) -> str:
        return self._shown("markdown")

    def _repr_latex_(self) -> str:
        return self._shown("latex")

    def _shown(self, format: str, **more: Any) -> str:
        """In a format; with derivations where the run derived."""
        derives = any(isinstance(n.value, Traced) for n in self.nodes())
        made: str = import_module("estimator.render").to_text(self, format, derives, **more)
        return made

    def sources(self) -> tuple[Citation, ...]:
        """The citations of the report and of every formula in its trees, once each."""
        found = dict.fromkeys(self.citations)
        found |= dict.fromkeys(n.formula.cite for n in self.nodes() if n.formula)
        return tuple(found)


def numbers_of(answer: Callable[[Any], Report], question: Any) -> dict[str, Any]:
    """The results of ``answer(question)``, for which nothing is put into words (:func:`estimator.trace.wordless`)."""
    token = numbers_alone.set(True)
    try:
        return answer(question).results()
    finally:
        numbers_alone.reset(token)
