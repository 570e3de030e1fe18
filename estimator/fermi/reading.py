"""The parts of a scenario's TOML: each checked, each error one line that names the file and the quantity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi.model import Derived, Grid, Quantity
from estimator.fermi.numbers import bounded, shorten
from estimator.fermi.parser import parse
from estimator.fermi.ranges import Value, make_range, parse_value
from estimator.fermi.units import Measure, measure

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,59}$")
_KEYS = {"value", "range", "formula", "unit", "distribution", "label", "section", "source", "note"}
_TABLE_KEYS = {"title", "columns", "rows", "unit", "source", "note", "then"}


def in_sections(quantities: Iterable[Quantity]) -> dict[str, Quantity]:
    """Quantities by name; one without a section belongs to that of the quantity before it."""
    out: dict[str, Quantity] = {}
    section = ""
    for q in quantities:
        section = q.section or section
        out[q.name] = replace(q, section=section)
    return out


def quantity(name: str, item: Any, shown: str, own: dict[str, Measure]) -> Quantity:
    where = f"{shown}: {shorten(name)}"
    if not _NAME.match(name):
        raise InputError(f"{where}: a name has letters, digits and _ and starts with a letter, 60 characters at most")
    if not isinstance(item, dict):
        return _short_form(name, item, where, own)
    only(item, _KEYS, where)
    given = [k for k in ("value", "range", "formula") if k in item]
    if not given or ("formula" in item and len(given) > 1):
        raise InputError(f"{where}: needs a value, a range (or both), or a formula")
    made = Quantity(
        name,
        label=string(item, "label", where),
        section=string(item, "section", where),
        source=string(item, "source", where),
        note=string(item, "note", where),
    )
    unit = measure(string(item, "unit", where), where, own) if "unit" in item else None
    if "formula" in item:
        text = string(item, "formula", where)
        return replace(made, formula=parse(text, where), text=text, unit=unit)
    return _valued(made, item, unit, where, own)


def _valued(
    made: Quantity, item: Mapping[str, Any], unit: Measure | None, where: str, own: dict[str, Measure]
) -> Quantity:
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
    kind = string(item, "distribution", where)
    if kind and chosen is not None:
        chosen = make_range(
            kind, chosen.low, chosen.high, chosen.mode, where, str(item.get("range", item.get("value")))
        )
    if kind and chosen is None:
        raise InputError(f"{where}: a distribution needs a range")
    value = (
        point.point
        if point is not None and (point.range is None or "range" in item or not kind)
        else chosen.point
        if chosen
        else spread.point
    )
    if chosen is not None and not chosen.low <= value <= chosen.high:
        raise InputError(f"{where}: the value lies outside its range")
    found = unit or (point and point.unit) or spread.unit or measure("", where)
    return replace(
        made,
        point=bounded(value),
        range=chosen,
        unit=found,
        source=made.source or spread.source or (point.source if point else ""),
    )


def _plain_text(pair: list[Any], where: str) -> str:
    if len(pair) != 2 or not all(isinstance(x, int | Fraction) for x in pair):
        raise InputError(f"{where}: range: two numbers are needed")
    return " and ".join(_digits(x) for x in pair)


def _digits(x: int | Fraction) -> str:
    return str(x) if isinstance(x, int) or x.denominator == 1 else repr(float(x))


def _short_form(name: str, item: Any, where: str, own: dict[str, Measure]) -> Quantity:
    if isinstance(item, str) and item.lstrip().startswith("="):
        body, unit = split_formula(item, where, own)
        return Quantity(name, formula=parse(body, where), text=body, unit=unit)
    value = _value(item, where, None, own)
    return Quantity(
        name, point=value.point, range=value.range, unit=value.unit or measure("", where), source=value.source
    )


def split_formula(text: str, where: str, own: Mapping[str, Measure]) -> tuple[str, Measure | None]:
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


def grid(item: Any, shown: str, own: dict[str, Measure]) -> Grid:
    where = f"{shown}: tables"
    if not isinstance(item, dict):
        raise InputError(f"{where}: each is a table with title, columns, rows and unit")
    only(item, _TABLE_KEYS, where)
    unit = measure(string(item, "unit", where), where, own)
    columns = tuple(strings(item, "columns", where))
    if not columns:
        raise InputError(f"{where}: a table needs columns")
    rows = []
    for row in items(item, "rows", where):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InputError(f"{where}: every row needs {len(columns)} cells")
        # an empty text is a missing figure
        cells = [None if c == "" else Fraction(_value(c, where, unit, own).point) for c in row[1:]]
        rows.append((str(row[0])[:60], *cells))
    then = []
    for made in items(item, "then", where):
        if not isinstance(made, dict):
            raise InputError(f"{where}: then: title, formula and unit are needed")
        only(made, {"title", "formula", "unit", "note"}, where)
        text = string(made, "formula", where)
        then.append(
            Derived(
                string(made, "title", where),
                parse(text, where),
                text,
                measure(string(made, "unit", where), where, own),
                string(made, "note", where),
            )
        )
    return Grid(
        string(item, "title", where),
        columns,
        tuple(rows),
        unit,
        string(item, "source", where),
        string(item, "note", where),
        tuple(then),
    )


def units(table: Mapping[str, Any], shown: str) -> dict[str, Measure]:
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


def only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown("key", key, known, f"In {where}")


def table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = data.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"{where}: [{key}] must be a table")
    return found


def items(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = data.get(key, [])
    if not isinstance(found, list):
        raise InputError(f"{where}: {key} must be a list")
    return found


def strings(data: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = items(data, key, where)
    if not all(isinstance(x, str) for x in found):
        raise InputError(f"{where}: {key} must be a list of texts")
    return found


def string(data: Mapping[str, Any], key: str, where: str) -> str:
    found = data.get(key, "")
    if not isinstance(found, str):
        raise InputError(f"{where}: {key} must be a text, got {shorten(str(found))!r}")
    return found.strip()
