"""Derivations: every traced number of a report with its working, its expression, the numbers put in, its value.

Before a derivation is printed, the expression is evaluated with the numbers put in and compared with the table's
number, and every step with the next; where they differ the program refuses (InternalError).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Any

import sympy

from estimator.errors import InputError, InternalError, unknown
from estimator.printing import Names, Written, terms, tidy
from estimator.put_in import put_in
from estimator.records import NamedTuple, dataclass
from estimator.report import Report
from estimator.steps import WorkingLine, working_of
from estimator.symbols import BY_FIELD, BY_NAME, RANK
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
    same         label of an earlier number with the same expression, "" where it is new
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
    same: str

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
        """Those with something to show: a number that is a letter of the user's own says nothing."""
        return [d for d in self.found if self.alone or not d.written.form.is_Symbol]

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


def derivations(report: Report, names: Names, steps: bool = True) -> list[Derivation]:
    """One Derivation for each keyed node whose value was traced, checked against its number, step by step."""
    numbers = bindings()
    out: list[Derivation] = []
    before: dict[Any, str] = {}  # (expression, unit) -> label
    keys: dict[Any, str] = {}
    labels = [n.label for n in report.nodes() if n.key]
    seen: set[str] = set()
    for node in report.nodes():
        if not node.key or not isinstance(node.value, Traced) or node.unit is None or node.key in seen:
            continue
        seen.add(node.key)
        check(node.key, node.value.expr, node.value.value, numbers)
        expr = tidy(node.value.expr)
        written = Written(expr, names)
        same = "" if node.working else before.get((expr, node.unit.name), "")
        if same and sum(n == same for n in labels) > 1:
            same = f"{same} ({keys[expr, node.unit.name]})"
        lines = working_of(node, written) if steps and not same else ()
        before.setdefault((expr, node.unit.name), node.label)
        keys.setdefault((expr, node.unit.name), node.key)
        shown = "" if report.symbolic else human(node.value.value, node.unit)
        out.append(
            Derivation(
                node.key, node.label, written, None if report.symbolic else Written(expr, names, numbers),
                written.text if report.symbolic else node.value.value, shown, node.unit.name,
                str(node.formula.cite) if node.formula else "", lines, same,
            )
        )  # fmt: skip
    return out


SHORT, STEPS = "short", "steps"


def derived(report: Report, asked: bool | str, symbols: str | None) -> Derivations:
    """The derivations of a report as ``--derive`` asks for them: steps, short, or the keys of the numbers wanted."""
    names = Names(renamed(report, symbols), report.letters)
    keys = [] if asked in (True, False, "", SHORT, STEPS) else [k.strip() for k in str(asked).split(",") if k.strip()]
    found = derivations(report, names, steps=bool(asked) and asked != SHORT)
    known = {d.key: d for d in found}
    for key in keys:
        if key not in known:
            raise unknown("--derive: key", key, [SHORT, STEPS, *known], "Give steps, short, or keys of derived numbers",
                          every=False)  # fmt: skip
    if keys:
        found = [known[k] for k in dict.fromkeys(keys)]
    used = {s.name for d in found for s in d.written.form.free_symbols} if keys else occurring(report)
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
