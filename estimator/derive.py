"""Derivations: every traced number of a report with its working, its expression, the numbers put in, its value.

Before a derivation is printed, the expression is evaluated with the numbers put in and compared with the table's
number, and every step with the next; where they differ the program refuses (InternalError).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import sympy

from estimator.errors import InputError, InternalError, unknown
from estimator.printing import Names, Written
from estimator.put_in import put_in
from estimator.records import NamedTuple, dataclass
from estimator.report import Node, Report
from estimator.steps import Worked, WorkingLine, working_of
from estimator.symbols import BY_FIELD, BY_NAME, RANK
from estimator.tidying import sympified, terms, tidy
from estimator.trace import Traced, bindings, field_of
from estimator.units import human

_REL_TOL = 1e-9  # floats only; counts are compared with ==
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,30}$")


@dataclass(frozen=True, slots=True)
class Derivation:
    """One derived number, ready to print.

    written      its expression; put: the same with the numbers put in, None in a symbolic report
    value        the number, or the expression's text; shown: the number as a person reads it
    lines        its working, step by step, up to the last expression in letters
    brief        the same for a page, which names other quantities and does not work them out again
    same         label of an earlier number with the same expression, "" where it is new; twin: its key
    also         labels of the later numbers that are the same
    """

    key: str
    label: str
    written: Written
    put: Written | None
    value: Any
    shown: str
    unit: str
    source: str
    lines: tuple[WorkingLine, ...]
    brief: tuple[WorkingLine, ...]
    same: str
    twin: str
    also: tuple[str, ...] = ()

    @property
    def is_letter(self) -> bool:
        """Whether it is a letter of the user's own or of the model, of which there is nothing to say."""
        said = any(line.rule and not (line.written and line.chained) for line in self.lines)
        return bool(self.written.form.is_Symbol) and not said

    @property
    def puts(self) -> bool:
        """Whether the numbers put in say more than the letters and the value do."""
        return self.put is not None and not self.written.form.is_Symbol and (
            self.substituted not in (self.expression, str(self.value)))  # fmt: skip

    @property
    def bare(self) -> bool:
        """Whether it is an expression and nothing leads to it."""
        return Worked(self.lines, ()).bare

    @property
    def expression(self) -> str:
        """SymPy-readable text."""
        return self.written.text

    @property
    def latex(self) -> str:
        return self.written.latex

    @property
    def substituted(self) -> str:
        return self.put.text if self.put else ""

    @property
    def substituted_latex(self) -> str:
        return self.put.latex if self.put else ""


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of the symbol table."""

    name: str
    latex: str
    mathml: str
    meaning: str
    field: str
    value: Any


class Derivations(NamedTuple):
    """What a renderer needs of a report's derivations.

    found, letters   its derivations and the symbol table of their letters
    names            how letters are spelled
    alone            whether the derivations were asked for by their keys: then they are all that is shown
    """

    found: list[Derivation]
    letters: list[Letter]
    names: Names
    alone: bool = False

    def worked(self) -> list[Derivation]:
        """Those with something to show: not letters of the user's own, nor what was counted or worked out before."""
        if self.alone:
            return self.found
        counted = {tidy(sympified(i.term.form) / n) for d in self.found for line in d.lines for i in line.items
                   for n in (1, len(i.names))}  # fmt: skip
        also: dict[str, list[str]] = {}
        for d in self.found:
            if d.same:
                also.setdefault(d.twin, []).append(d.label)
        return [
            replace(d, also=tuple(also.get(d.key, ())))
            for d in self.found
            if not d.same and not d.is_letter and not (d.bare and d.written.form in counted)
        ]

    def shown(self) -> set[str]:
        """The keys of the numbers whose value stands at the end of a working."""
        worked = {d.key for d in self.worked()}
        return worked | {d.key for d in self.found if d.same and d.twin in worked}

    def by_key(self, style: str) -> dict[str, str]:
        """Each derived number's expression in a style."""
        return {d.key: d.written.in_style(style) for d in self.found}


def parse_renames(text: str | None) -> dict[str, str]:
    """``L=N_layer,d=D`` as a mapping; InputError where it is not one, or where two letters would become one."""
    out: dict[str, str] = {}
    for item in (text or "").split(","):
        if not item.strip():
            continue
        old, eq, new = (p.strip() for p in item.partition("="))
        if not eq or not _NAME.match(old) or not _NAME.match(new):
            raise InputError(f"--symbols: expected OLD=NEW,... in letters, got {item.strip()[:40]!r}")
        out[old] = new
    if len(set(out.values())) != len(out):
        raise InputError("--symbols: two letters are given the same new name")
    return out


def occurring(report: Report) -> set[str]:
    """The letters of a report's quantities."""
    traced = (n.value for n in report.nodes() if isinstance(n.value, Traced))
    return {s.name for value in traced for s in sympy.sympify(value.expr).free_symbols}


def renamed(report: Report, text: str | None) -> dict[str, str]:
    """``--symbols`` for one report: OLD=NEW, or the course's own letter first where only the second occurs (``D=d``).

    InputError for a letter that is known nowhere, and where the new name is that of another letter of the report.
    """
    asked = parse_renames(text)
    if not asked:
        return asked
    found = occurring(report)
    out: dict[str, str] = {}
    for old, new in asked.items():
        turned = old not in found and new in found
        if not turned and old not in found and old not in BY_NAME and old not in report.letters:
            there = ", ".join(sorted(found, key=lambda n: (RANK.get(n, len(RANK)), n)))
            raise InputError(f"--symbols {old}={new}: no letter {old!r} here; there are {there or 'none'}")
        out[new if turned else old] = old if turned else new
    for old, new in out.items():
        if old in found and new in found and new not in out:
            raise InputError(f"--symbols {old}={new}: {new!r} is another letter of this report")
    return out


def _agrees(got: Any, value: Any) -> bool:
    """Whether Python's arithmetic gives ``value``: a count exactly."""
    if got is None:
        return False
    if isinstance(value, int) and not isinstance(got, float):
        return bool(got == value)
    return abs(float(got) - float(value)) <= _REL_TOL * max(1.0, abs(float(value)))


def check(key: str, expr: Any, value: Any, numbers: Mapping[str, Any]) -> None:
    """InternalError unless ``expr`` with ``numbers`` put in equals ``value`` (exactly, where it is a count)."""
    expr = sympy.sympify(expr)
    given = {s: numbers[s.name] for s in expr.free_symbols if s.name in numbers}
    if _agrees(put_in(expr, given), value):
        return
    values = {s: sympy.sympify(v) for s, v in given.items()}
    if isinstance(value, int) and terms(expr) < inf:
        got = expr.subs(values) if values else expr
    else:  # (1 + 1/100)**365: exact, it has thousands of digits
        got = expr.evalf(20, subs=values)
    if isinstance(value, int) and got.is_Rational:
        same = got == value
    else:
        number = complex(got) if got.is_number else None
        same = number is not None and abs(number - float(value)) <= _REL_TOL * max(1.0, abs(float(value)))
    if not same:
        raise InternalError(f"{key}: the derivation gives {got}, the table {value}")


def traced(report: Report) -> dict[str, Node]:
    """The numbers of a report that were traced, by key."""
    nodes = (n for n in report.nodes() if n.key and isinstance(n.value, Traced) and n.unit is not None)
    found: dict[str, Node] = {}
    for node in nodes:
        found.setdefault(node.key, node)
    return found


def derivations(report: Report, names: Names, steps: bool = True, only: Sequence[str] = ()) -> list[Derivation]:
    """One Derivation for each keyed node whose value was traced, checked against its number, step by step.

    only: the keys of those that are wanted, in this order; without any, all.
    """
    numbers = bindings()
    out: list[Derivation] = []
    before: dict[Any, Node] = {}
    worked: dict[Any, Node] = {}
    found = traced(report)
    nodes = [found[key] for key in only or found]
    labels = _labels(report)
    known = None if report.symbolic else _named(labels, nodes)
    for node in nodes:
        assert node.unit is not None
        check(node.key, node.value.expr, node.value.value, numbers)
        expr = tidy(node.value.expr)
        written = Written(expr, names)
        one = before.get((expr, node.unit.name)) or (None if node.formula else before.get(expr))
        same = "" if node.working or one is None else labels[one.key]
        parts = known and _parts(labels, node, known)
        made = working_of(node, written, parts) if steps and not same else Worked((), ())
        if made.lines:
            twin = one if made.bare else worked.setdefault((expr, node.unit.name, made.lines), node)
            if twin is not None and twin is not node:
                one, same, made = twin, labels[twin.key], Worked((), ())
        if made.put is not None:
            check(node.key, sympified(made.put), node.value.value, numbers)
        before.setdefault((expr, node.unit.name), node)
        before.setdefault(expr, node)
        shown = "" if report.symbolic else human(node.value.value, node.unit)
        put = None if report.symbolic else Written(expr if made.put is None else made.put, names, numbers)
        out.append(
            Derivation(
                node.key, labels[node.key], written, put, written.text if report.symbolic else node.value.value, shown,
                node.unit.name, str(node.formula.cite) if node.formula else "", made.lines, made.brief, same,
                one.key if one and same else "",
            )
        )  # fmt: skip
    return out


def _labels(report: Report) -> dict[str, str]:
    """The label of each key; where several share one, with what it is a part of, or with its key's first part."""
    above: dict[str, str] = {}
    found: dict[str, str] = {}

    def walk(node: Node, parent: str) -> None:
        if node.key and node.key not in found:
            found[node.key], above[node.key] = node.label, parent
        for child in node.children:
            walk(child, node.label)

    for part in (*report.body, *report.hidden):
        if isinstance(part, Node):
            walk(part, "")
    for more in (lambda key: above[key], lambda key: key.partition(".")[0], lambda key: key):
        times = Counter(found.values())
        longer = {k: f"{label} ({more(k)})" for k, label in found.items() if times[label] > 1 and more(k)}
        once = Counter(longer.values())
        found |= {k: label for k, label in longer.items() if once[label] == 1}
    return found


def _named(labels: Mapping[str, str], nodes: Sequence[Node]) -> dict[Any, tuple[str, Any]]:
    """Quantities that the working of others may name: expression -> (its label in brackets, its value)."""
    named: dict[Any, tuple[str, Any]] = {}
    for n in nodes:
        if getattr(n.value.expr, "args", ()):
            named.setdefault(n.value.expr, (f"[{labels[n.key]}]", n.value.value))
    return named


def _parts(labels: Mapping[str, str], node: Node, known: Mapping[Any, tuple[str, Any]]) -> dict[Any, tuple[str, Any]]:
    """The same, with the parts of a sum by their own names where another quantity is as large."""
    own = (c for c in node.children if c.key in labels and isinstance(c.value, Traced) and c.value.expr in known)
    return {**known, **{id(c.value): (f"[{labels[c.key]}]", c.value.value) for c in own}}


SHORT, STEPS = "short", "steps"


def derived(report: Report, asked: bool | str, symbols: str | None) -> Derivations:
    """The derivations of a report as ``--derive`` asks for them: steps, short, or the keys of the numbers wanted."""
    names = Names(renamed(report, symbols), report.letters)
    keys = [] if asked in (True, False, "", SHORT, STEPS) else [k.strip() for k in str(asked).split(",") if k.strip()]
    known = traced(report)
    for key in keys:
        if key not in known:
            raise unknown("--derive: key", key, [SHORT, STEPS, *known], "Give steps, short, or keys of derived numbers",
                          every=False)  # fmt: skip
    found = derivations(report, names, bool(asked) and asked != SHORT, tuple(dict.fromkeys(keys)))
    used = {s.name for d in found for s in d.written.form.free_symbols} if keys else occurring(report)
    lines = [line.written for d in found for line in d.lines if line.written is not None and not line.chained]
    used |= {s.name for made in lines for s in sympified(made.form).free_symbols if s.name in bindings()}
    return Derivations(found, letters(report, names, used), names, bool(keys))


def letters(report: Report, names: Names, used: set[str]) -> list[Letter]:
    """The symbol table: the letters ``used``, in display order."""
    numbers = bindings()
    rows = []
    for name in sorted(used, key=lambda n: (names.place(n), n)):
        field = field_of(name)
        known = BY_FIELD.get(field) if field else BY_NAME.get(name)
        rows.append(
            Letter(
                names.text(name), names.latex(name), names.mathml(name),
                report.letters.get(name) or report.letters.get(field) or (known.meaning if known else ""),
                "" if name in report.letters or not known else known.field,
                None if report.symbolic else numbers.get(name),
            )
        )  # fmt: skip
    return rows
