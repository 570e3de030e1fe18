"""A scenario: a TOML file's quantities, checked and in order; and the same with an assumption changed.

[quantities] holds either tables (``value``, ``range`` or ``formula``, with unit, label, section, source, note) or the
short forms ``name = "100 GB"``, ``name = "between 1 and 4 USD/GPU-hour"`` and ``name = "= a * b in USD"``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from estimator.errors import InputError, unknown
from estimator.fermi import reading
from estimator.fermi.model import CELL, Scenario
from estimator.fermi.numbers import parse_number, shorten
from estimator.fermi.parser import FUNCTIONS, parse
from estimator.fermi.ranges import parse_value
from estimator.fermi.units import Measure
from estimator.texts import too_long

MAX_BYTES = 256 * 1024
MAX_QUANTITIES = 300
MAX_DIGITS = 4_300  # what Python turns into text
_TOP = {"title", "summary", "source", "answers", "notes", "units", "tables", "quantities"}


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
        data = tomllib.loads(text.removeprefix("\ufeff"), parse_float=lambda t: parse_number(t, shown))
    except RecursionError:
        raise InputError(f"{shown}: nested too deeply") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise InputError(f"{shown}: a whole number of more than {MAX_DIGITS:,} digits; write 1.5e30") from None
        raise InputError(f"{shown}: {shorten(str(error), 160)}") from None
    if too_long(data):
        raise InputError(f"{shown}: a whole number of more than {MAX_DIGITS:,} digits; write 1.5e30")
    reading.only(data, _TOP, shown)
    own = reading.units(reading.table(data, "units", shown), shown)
    raw = reading.table(data, "quantities", shown)
    if not raw:
        raise InputError(f"{shown}: no [quantities]. A template: llmcalc fermi new")
    if len(raw) > MAX_QUANTITIES:
        raise InputError(f"{shown}: {len(raw)} quantities; at most {MAX_QUANTITIES}")
    if gpu is not None:
        raw = _with_gpu(raw, gpu, shown)
    quantities = reading.in_sections(reading.quantity(name, item, shown, own) for name, item in raw.items())
    for name in quantities:
        if name.lower() in (CELL, *FUNCTIONS):
            raise InputError(f"{shown}: {name!r} cannot name a quantity: formulas use it")
    answers = reading.strings(data, "answers", shown) or (list(quantities)[-1],)
    for answer in answers:
        if answer not in quantities:
            raise unknown("quantity", answer, quantities, f"In {shown}: answers")
    tables = tuple(reading.grid(t, shown, own) for t in reading.items(data, "tables", shown))
    title, summary, source = (reading.string(data, key, shown) for key in ("title", "summary", "source"))
    notes = tuple(reading.strings(data, "notes", shown))
    return Scenario(ident, title or ident, summary, quantities, tuple(answers), own, tables, notes, source)


def with_settings(scenario: Scenario, settings: Mapping[str, str]) -> Scenario:
    """The scenario with ``--set NAME=VALUE``: a number, a range, a preset's figure or ``= formula``."""
    changed = dict(scenario.quantities)
    for name, text in settings.items():
        if name not in changed:
            raise unknown("quantity", name, changed, f"In scenario {scenario.id}: --set")
        old, where = changed[name], f"--set {name}"
        declared = old.unit if old.unit is not None or old.formula is None else _unit_of(scenario, name)
        if text.lstrip().startswith("="):
            body, unit = reading.split_formula(text, where, scenario.own)
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

    out = {
        k: {f: swap(v) if f in ("value", "range") else v for f, v in q.items()} if isinstance(q, dict) else swap(q)
        for k, q in raw.items()
    }
    if len(found) != 1:
        what = "refers to no GPU preset" if not found else f"refers to several GPUs ({', '.join(sorted(found))})"
        raise InputError(f"--gpu {gpu}: {shown} {what}; change a quantity with --set NAME=gpu:{gpu}.memory")
    return out
