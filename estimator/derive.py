"""Derivations: every traced number of a report as expression, numbers put in, value. One of two homes of SymPy.

The expression is SymPy's; the printing is ours, because SymPy sorts factors alphabetically: here the order of
:mod:`estimator.symbols` holds. Before a derivation is printed, the expression is evaluated with the numbers put in
and compared with the table's number; where they differ the program refuses (InternalError).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from estimator.errors import InputError, InternalError
from estimator.report import Report
from estimator.symbols import BY_FIELD, BY_NAME, RANK
from estimator.trace import Traced, bindings, field_of
from estimator.units import human

_REL_TOL = 1e-9  # floats only; counts are compared with ==
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,30}$")
_TIDY_OPS = 80  # above this, looking for a shorter form costs more than it gives


@dataclass(frozen=True, slots=True)
class Derivation:
    """One derived number, ready to print. ``expression`` is SymPy-readable text."""

    key: str
    label: str
    expression: str
    latex: str
    substituted: str
    substituted_latex: str
    value: Any
    shown: str
    source: str
    formula: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of the symbol table."""

    name: str
    latex: str
    meaning: str
    field: str
    value: Any


class Names:
    """How letters are spelled: the registry's way, or the user's after ``--symbols``."""

    def __init__(self, renames: Mapping[str, str] | None = None, letters: Iterable[str] = ()) -> None:
        self.renames = dict(renames or {})
        self.order = RANK | {name: len(RANK) + i for i, name in enumerate(letters)}

    def place(self, name: str) -> int:
        """Where a letter stands in display order; a letter of the user's own stands where its field's letter does."""
        known = BY_FIELD.get(field_of(name))
        return self.order.get(name, self.order[known.name] if known else len(self.order))

    def rank(self, expr: Any) -> tuple[int, str]:
        """Where an expression stands among its neighbours: by its first letter; numbers first."""
        found = sorted((self.place(s.name), s.name) for s in expr.free_symbols)
        return found[0] if found else (-1, "")

    def text(self, name: str) -> str:
        return self.renames.get(name, name)

    def latex(self, name: str) -> str:
        if name in self.renames:
            return latex_name(self.renames[name])
        return BY_NAME[name].latex if name in BY_NAME else latex_name(name)


_GREEK = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "eta",
    "theta",
    "lambda",
    "mu",
    "nu",
    "rho",
    "sigma",
    "tau",
    "phi",
    "omega",
}


def latex_name(name: str) -> str:
    """``N_layer`` as ``N_{\\mathrm{layer}}``, ``C0`` as ``C_{0}``."""
    head, _, tail = name.partition("_")
    if len(head) == 2 and head[1].isdigit() and not tail:
        head, tail = head[0], head[1]
    if head.lower() in _GREEK:
        head = "\\" + head
    elif len(head) > 1:
        head = f"\\mathrm{{{head}}}"
    tail = tail.replace("_", ",")
    if len(tail) > 1:
        tail = f"\\mathrm{{{tail}}}"
    return f"{head}_{{{tail}}}" if tail else head


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


def _number(value: Any) -> str:
    if isinstance(value, sympy.Integer | int):
        return str(int(value))
    if isinstance(value, sympy.Rational):
        return f"{value.p}/{value.q}"
    return f"{float(value):.12g}"


class Printer:
    """Prints an expression in the registry's order. ``leaf`` turns a symbol into text (a letter or a number)."""

    def __init__(
        self, leaf: Callable[[str], str], latex: bool, numeric: bool = False, names: Names | None = None
    ) -> None:
        self.leaf, self.tex = leaf, latex
        self.rank = (names or Names()).rank
        self.times = (" \\cdot " if numeric else "\\,") if latex else "*"

    def __call__(self, expr: Any) -> str:
        return self._add(sympy.sympify(expr))

    def _wrap(self, text: str) -> str:
        return f"\\left({text}\\right)" if self.tex else f"({text})"

    def _add(self, e: Any) -> str:
        if not e.is_Add:
            return self._mul(e)
        # the order of the letters; positive terms first where the first would be negative
        terms = sorted(e.args, key=lambda t: (not t.free_symbols, self.rank(t), str(t)))
        terms.sort(key=lambda t: bool(t.could_extract_minus_sign()))
        out = self._mul(terms[0])
        for t in terms[1:]:
            out += f" - {self._mul(-t)}" if t.could_extract_minus_sign() else f" + {self._mul(t)}"
        return out

    def _mul(self, e: Any) -> str:
        if e.is_Rational and not e.is_Integer:
            return f"\\frac{{{e.p}}}{{{e.q}}}" if self.tex else f"{e.p}/{e.q}"
        if e.could_extract_minus_sign() and (e.is_Mul or e.is_Add):
            return f"-{self._factor(-e) if (-e).is_Add else self._mul(-e)}"
        if not e.is_Mul:
            return self._pow(e)
        top, bottom = sympy.fraction(e)
        if bottom == 1:
            return self._product(top)
        if self.tex:
            return f"\\frac{{{self._add(top)}}}{{{self._add(bottom)}}}"
        low = self._product(bottom)
        return f"{self._product(top)}/{low if not bottom.is_Mul else f'({low})'}"

    def _product(self, e: Any) -> str:
        factors = sorted(sympy.Mul.make_args(e), key=lambda f: (not f.is_number, f.is_Add, self.rank(f), str(f)))
        return self.times.join(self._factor(f) for f in factors)

    def _factor(self, e: Any) -> str:
        return self._wrap(self._add(e)) if e.is_Add else self._pow(e)

    def _pow(self, e: Any) -> str:
        if not e.is_Pow:
            return self._atom(e)
        base, exponent = e.args
        if exponent.is_Rational and exponent < 0:
            low = self._factor(base**-exponent) if exponent != -1 else self._factor(base)
            return f"\\frac{{1}}{{{low}}}" if self.tex else f"1/{low}"
        inner = self._atom(base) if base.is_Symbol or (base.is_Integer and base > 0) else self._wrap(self._add(base))
        if self.tex:
            return f"{inner}^{{{self._add(exponent)}}}"
        bare = exponent.is_Symbol or (exponent.is_Integer and exponent >= 0)
        return f"{inner}**{self._atom(exponent) if bare else self._wrap(self._add(exponent))}"

    def _atom(self, e: Any) -> str:
        if e.is_Symbol:
            leaf = self.leaf(e.name)
            return self._wrap(leaf) if leaf.startswith("-") else leaf
        if e.is_Number:
            return _number(e)
        args = [self._add(a) for a in e.args]
        if isinstance(e, sympy.ceiling | sympy.floor):
            side = "ceil" if isinstance(e, sympy.ceiling) else "floor"
            return f"\\left\\l{side} {args[0]} \\right\\r{side}" if self.tex else f"{type(e).__name__}({args[0]})"
        if e.is_Add or e.is_Mul or e.is_Pow:
            return self._wrap(self._add(e))
        name = e.func.__name__ if not isinstance(e, AppliedUndef) else str(e.func)
        return f"\\{name.lower()}\\left({', '.join(args)}\\right)" if self.tex else f"{name}({', '.join(args)})"


def tidy(expr: Any) -> Any:
    """The shorter of an expression and its factored form."""
    expr = sympy.sympify(expr)
    if expr.has(sympy.floor):
        # ceil_div is spelled -((-a) // b); floor(-x) = -ceiling(x)
        expr = expr.replace(
            lambda e: isinstance(e, sympy.floor) and e.args[0].could_extract_minus_sign(),
            lambda e: -sympy.ceiling(-e.args[0]),
        )
    if expr.count_ops() > _TIDY_OPS or expr.has(sympy.ceiling, sympy.floor, sympy.Max, sympy.Min):
        return expr
    try:
        factored = sympy.factor(expr)
    except (sympy.PolynomialError, NotImplementedError):
        return expr
    return factored if factored.count_ops() < expr.count_ops() else expr


def text(expr: Any, names: Names | None = None) -> str:
    """SymPy-readable text of an expression in display order."""
    return Printer((names or Names()).text, latex=False, names=names)(tidy(expr))


def to_latex(expr: Any, names: Names | None = None) -> str:
    """LaTeX of an expression in display order."""
    return Printer((names or Names()).latex, latex=True, names=names)(tidy(expr))


def check(key: str, expr: Any, value: Any, numbers: Mapping[str, Any]) -> None:
    """InternalError unless ``expr`` with ``numbers`` put in equals ``value`` (exactly, where it is a count)."""
    expr = sympy.sympify(expr)
    values = {s: sympy.sympify(numbers[s.name]) for s in expr.free_symbols if s.name in numbers}
    got = expr.subs(values) if values else expr
    if isinstance(value, int) and got.is_Rational:
        same = got == value
    else:
        number = complex(got) if got.is_number else None
        same = number is not None and abs(number - float(value)) <= _REL_TOL * max(1.0, abs(float(value)))
    if not same:
        raise InternalError(f"{key}: the derivation gives {got}, the table {value}")


def derivations(report: Report, names: Names) -> list[Derivation]:
    """One Derivation for each keyed node whose value was traced, checked against its number."""
    numbers = bindings()
    out: list[Derivation] = []
    seen: set[str] = set()
    for node in report.nodes():
        if not node.key or not isinstance(node.value, Traced) or node.unit is None or node.key in seen:
            continue
        seen.add(node.key)
        expr = tidy(node.value.expr)
        check(node.key, node.value.expr, node.value.value, numbers)

        def digits(name: str) -> str:
            return _number(numbers[name]) if name in numbers and not report.symbolic else names.text(name)

        f = node.formula
        out.append(
            Derivation(
                node.key,
                node.label,
                Printer(names.text, latex=False, names=names)(expr),
                Printer(names.latex, latex=True, names=names)(expr),
                Printer(digits, latex=False, numeric=True, names=names)(expr) if not report.symbolic else "",
                Printer(digits, latex=True, numeric=True, names=names)(expr) if not report.symbolic else "",
                node.value.value if not report.symbolic else Printer(names.text, latex=False, names=names)(expr),
                human(node.value.value, node.unit) if not report.symbolic else "",
                str(f.cite) if f else "",
                f"{f.name}: {f.summary}" if f else "",
            )
        )
    return out


def letters(report: Report, names: Names) -> list[Letter]:
    """The symbol table of a report: the letters that occur, in display order."""
    numbers = bindings()
    rows = []
    for name in sorted(occurring(report), key=lambda n: (names.place(n), n)):
        known = BY_NAME.get(name) or BY_FIELD.get(field_of(name))
        rows.append(
            Letter(
                names.text(name), names.latex(name),
                report.letters.get(name) or (known.meaning if known else ""),
                "" if name in report.letters or not known else known.field,
                None if report.symbolic else numbers.get(name),
            )
        )  # fmt: skip
    return rows
