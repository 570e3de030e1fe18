"""A scenario: a TOML file's quantities, checked and in order.

[quantities] holds either tables (``value``, ``range`` or ``formula``, with unit, label, section, source, note) or the
short forms ``name = "100 GB"``, ``name = "between 1 and 4 USD/GPU-hour"`` and ``name = "= a * b in USD"``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi.numbers import Number, bounded, parse_number, shorten
from estimator.fermi.parser import FUNCTIONS, Expr, parse
from estimator.fermi.ranges import Range, Value, make_range, parse_value
from estimator.fermi.units import Measure, dim_text, measure

MAX_BYTES = 256 * 1024
MAX_QUANTITIES = 300
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,59}$")
_TOP = {"title", "summary", "source", "answers", "notes", "units", "tables", "quantities"}
_KEYS = {"value", "range", "formula", "unit", "distribution", "label", "section", "source", "note"}
_TABLE_KEYS = {"title", "columns", "rows", "unit", "source", "note", "then"}
CELL = "cell"  # what a table's formulas call the number of the cell


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity: a value, a range, or a formula over others. ``point`` and ``range`` are in base units.

    ``unit`` None: the formula's own (base) unit, found when dimensions are checked.
    """

    name: str
    point: Number | None = None
    range: Range | None = None
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


def load(name: str, gpu: str | None = None) -> Scenario:
    """A shipped scenario by name, or a TOML file by path; ``gpu`` replaces the GPU whose preset it refers to."""
    path, shown = _find(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{shown}: {path.stat().st_size:,} bytes; a scenario has at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{shown}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: not a UTF-8 text file") from None
    return loads(text, path.stem, shown, gpu)


def _find(name: str) -> tuple[Path, str]:
    from estimator.presets import folder, ids

    if "\0" in name:
        raise InputError("the scenario's name holds a null character")
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = Path(name)
        try:
            is_file = path.is_file()
        except OSError:
            is_file = False
        if not is_file:
            raise InputError(f"{shorten(name, 80)}: no such file. Make one: llmcalc fermi new my-estimate.toml")
        return path, shorten(name, 80)
    key = name.strip().lower().replace("_", "-")
    if key not in ids("fermi"):
        raise unknown("scenario", name, ids("fermi"), "List them: llmcalc fermi --list; a file of yours: FILE.toml")
    return folder() / "fermi" / f"{key}.toml", f"presets/fermi/{key}.toml"


def loads(text: str, ident: str, shown: str, gpu: str | None = None) -> Scenario:
    """A scenario from TOML text; ``shown`` is how errors name the file."""
    try:
        # exact: 0.1 is one tenth, 1.98e15 a whole number
        data = tomllib.loads(text, parse_float=lambda t: parse_number(t, shown))
    except RecursionError:
        raise InputError(f"{shown}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{shown}: {shorten(str(error), 160)}") from None
    _only(data, _TOP, shown)
    own = _units(_table(data, "units", shown), shown)
    raw = _table(data, "quantities", shown)
    if not raw:
        raise InputError(f"{shown}: no [quantities]. A template: llmcalc fermi new")
    if len(raw) > MAX_QUANTITIES:
        raise InputError(f"{shown}: {len(raw)} quantities; at most {MAX_QUANTITIES}")
    if gpu is not None:
        raw = _with_gpu(raw, gpu, shown)
    quantities = {name: _quantity(name, item, shown, own) for name, item in raw.items()}
    for name in quantities:
        if name.lower() in (CELL, *FUNCTIONS):
            raise InputError(f"{shown}: {name!r} cannot name a quantity: formulas use it")
    answers = _strings(data, "answers", shown) or (list(quantities)[-1],)
    for answer in answers:
        if answer not in quantities:
            raise unknown("quantity", answer, quantities, f"In {shown}: answers")
    tables = tuple(_grid(t, shown, own) for t in _list(data, "tables", shown))
    return Scenario(
        ident, _string(data, "title", shown) or ident, _string(data, "summary", shown), quantities, tuple(answers), own, tables,
        tuple(_strings(data, "notes", shown)), _string(data, "source", shown),
    )  # fmt: skip


def with_settings(scenario: Scenario, settings: Mapping[str, str]) -> Scenario:
    """The scenario with ``--set NAME=VALUE``: a number, a range, a preset's figure or ``= formula``."""
    changed = dict(scenario.quantities)
    for name, text in settings.items():
        if name not in changed:
            raise unknown("quantity", name, changed, f"In scenario {scenario.id}: --set")
        old, where = changed[name], f"--set {name}"
        declared = old.unit if old.unit is not None or old.formula is None else _unit_of(scenario, name)
        if text.lstrip().startswith("="):
            body, unit = _split_formula(text, where, scenario.own)
            new = replace(old, point=None, range=None, formula=parse(body, where), text=body, unit=unit or declared)
        else:
            value = parse_value(text, where, declared, dict(scenario.own))
            new = replace(old, point=value.point, range=value.range, formula=None, text="", unit=declared or value.unit)
            new = replace(new, source=value.source or "--set")
        changed[name] = replace(new, source=new.source if new.formula is None else "--set", note="", was_set=True)
    return replace(scenario, quantities=changed)


def _unit_of(scenario: Scenario, name: str) -> Measure | None:
    from estimator.fermi.engine import resolve

    return resolve(scenario).units[name]


def _with_gpu(raw: dict[str, Any], gpu: str, shown: str) -> dict[str, Any]:
    pattern = re.compile(r"^(\s*gpu:)([^.]+)(\..*)$")
    found: set[str] = set()

    def swap(text: Any) -> Any:
        match = pattern.match(text) if isinstance(text, str) else None
        if not match:
            return text
        found.add(match[2].strip())
        return match[1] + gpu + match[3]

    out = {k: {f: swap(v) if f in ("value", "range") else v for f, v in q.items()} if isinstance(q, dict) else swap(q) for k, q in raw.items()}
    if len(found) != 1:
        what = "refers to no GPU preset" if not found else f"refers to several GPUs ({', '.join(sorted(found))})"
        raise InputError(f"--gpu {gpu}: {shown} {what}; change a quantity with --set NAME=gpu:{gpu}.memory")
    return out


def _quantity(name: str, item: Any, shown: str, own: dict[str, Measure]) -> Quantity:
    where = f"{shown}: {shorten(name)}"
    if not _NAME.match(name):
        raise InputError(f"{where}: a name has letters, digits and _ and starts with a letter, 60 characters at most")
    if not isinstance(item, dict):
        return _short_form(name, item, where, own)
    _only(item, _KEYS, where)
    given = [k for k in ("value", "range", "formula") if k in item]
    if not given or ("formula" in item and len(given) > 1):
        raise InputError(f"{where}: needs a value, a range (or both), or a formula")
    made = Quantity(
        name, label=_string(item, "label", where), section=_string(item, "section", where), source=_string(item, "source", where), note=_string(item, "note", where)
    )
    unit = measure(_string(item, "unit", where), where, own) if "unit" in item else None
    if "formula" in item:
        text = _string(item, "formula", where)
        return replace(made, formula=parse(text, where), text=text, unit=unit)
    return _valued(made, item, unit, where, own)


def _valued(made: Quantity, item: Mapping[str, Any], unit: Measure | None, where: str, own: dict[str, Measure]) -> Quantity:
    point = _value(item["value"], where, unit, own) if "value" in item else None
    spread = point
    if "range" in item:
        text = item["range"]
        if isinstance(text, list):
            text = f"between {_plain_text(text, where)}"
        spread = _value(text, where, unit or (point.unit if point else None), own)
        if spread.range is None:
            raise InputError(f"{where}: range: write 'between 50 and 250', got {shorten(str(text))!r}")
    assert spread is not None
    chosen = spread.range
    kind = _string(item, "distribution", where)
    if kind and chosen is not None:
        chosen = make_range(kind, chosen.low, chosen.high, chosen.mode, where, str(item.get("range", item.get("value"))))
    if kind and chosen is None:
        raise InputError(f"{where}: a distribution needs a range")
    value = point.point if point is not None and (point.range is None or "range" in item) else chosen.point if chosen else spread.point
    if chosen is not None and not chosen.low <= value <= chosen.high:
        raise InputError(f"{where}: the value lies outside its range")
    found = unit or (point and point.unit) or spread.unit or measure("", where)
    return replace(made, point=bounded(value), range=chosen, unit=found, source=made.source or spread.source or (point.source if point else ""))


def _plain_text(pair: list[Any], where: str) -> str:
    if len(pair) != 2 or not all(isinstance(x, int | Fraction) for x in pair):
        raise InputError(f"{where}: range: two numbers are needed")
    return " and ".join(_digits(x) for x in pair)


def _digits(x: int | Fraction) -> str:
    return str(x) if isinstance(x, int) or x.denominator == 1 else repr(float(x))


def _short_form(name: str, item: Any, where: str, own: dict[str, Measure]) -> Quantity:
    if isinstance(item, str) and item.lstrip().startswith("="):
        body, unit = _split_formula(item, where, own)
        return Quantity(name, formula=parse(body, where), text=body, unit=unit)
    value = _value(item, where, None, own)
    return Quantity(name, point=value.point, range=value.range, unit=value.unit or measure("", where), source=value.source)


def _split_formula(text: str, where: str, own: Mapping[str, Measure]) -> tuple[str, Measure | None]:
    """``= a * b in USD`` as its formula and unit."""
    body = text.strip().removeprefix("=").strip()
    formula, word, unit = body.partition(" in ")
    return (formula.strip(), measure(unit.strip(), where, dict(own))) if word else (body, None)


def _value(item: Any, where: str, unit: Measure | None, own: dict[str, Measure]) -> Value:
    if isinstance(item, bool) or not isinstance(item, int | Fraction | str):
        raise InputError(f"{where}: expected a number or text, got {shorten(str(item))!r}")
    if isinstance(item, str):
        return parse_value(item, where, unit, own)
    if isinstance(item, int) and item.bit_length() > 1000:
        raise InputError(f"{where}: a number of {item.bit_length() * 3 // 10} digits; write 1e30")
    return Value(bounded(Fraction(item) * (unit.factor if unit else 1)), None, unit)


def _grid(item: Any, shown: str, own: dict[str, Measure]) -> Grid:
    where = f"{shown}: tables"
    if not isinstance(item, dict):
        raise InputError(f"{where}: each is a table with title, columns, rows and unit")
    _only(item, _TABLE_KEYS, where)
    unit = measure(_string(item, "unit", where), where, own)
    columns = tuple(_strings(item, "columns", where))
    rows = []
    for row in _list(item, "rows", where):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InputError(f"{where}: every row needs {len(columns)} cells")
        # an empty text is a missing figure
        cells = [None if c == "" else Fraction(_value(c, where, unit, own).point) for c in row[1:]]
        rows.append((str(row[0])[:60], *cells))
    then = []
    for made in _list(item, "then", where):
        if not isinstance(made, dict):
            raise InputError(f"{where}: then: title, formula and unit are needed")
        _only(made, {"title", "formula", "unit", "note"}, where)
        text = _string(made, "formula", where)
        then.append(Derived(_string(made, "title", where), parse(text, where), text, measure(_string(made, "unit", where), where, own), _string(made, "note", where)))
    return Grid(_string(item, "title", where), columns, tuple(rows), unit, _string(item, "source", where), _string(item, "note", where), tuple(then))


def _units(table: Mapping[str, Any], shown: str) -> dict[str, Measure]:
    """A scenario's own units: ``piano = ""`` is a new thing to count, ``fortnight = "14 days"`` a multiple."""
    own: dict[str, Measure] = {}
    for name, text in table.items():
        where = f"{shown}: units.{shorten(name)}"
        if not _NAME.match(name) or not isinstance(text, str):
            raise InputError(f'{where}: write piano = "" for a new thing to count, or fortnight = "14 days"')
        if not text.strip():
            made = Measure(name, Fraction(1), ((name, Fraction(1)),))
        else:
            value = parse_value(text, where, None, own)
            if value.unit is None or value.range is not None:
                raise InputError(f'{where}: a number and a unit are needed, as in "14 days"')
            made = Measure(name, Fraction(value.point), value.unit.dim)
        own[name] = made
        own.setdefault(f"{name}s", made)
    return own


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown("key", key, known, f"In {where}")


def _table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = data.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"{where}: [{key}] must be a table")
    return found


def _list(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = data.get(key, [])
    if not isinstance(found, list):
        raise InputError(f"{where}: {key} must be a list")
    return found


def _strings(data: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = _list(data, key, where)
    if not all(isinstance(x, str) for x in found):
        raise InputError(f"{where}: {key} must be a list of texts")
    return found


def _string(data: Mapping[str, Any], key: str, where: str) -> str:
    found = data.get(key, "")
    if not isinstance(found, str):
        raise InputError(f"{where}: {key} must be a text, got {shorten(str(found))!r}")
    return found.strip()


def same_dimension(unit: Measure, found: Any, where: str) -> None:
    """InputError unless a formula's dimension is its unit's."""
    if unit.dim != found:
        raise InputError(f"{where}: the formula gives {dim_text(found)}, but its unit {unit.text or 'a plain number'!r} measures {dim_text(unit.dim)}")
