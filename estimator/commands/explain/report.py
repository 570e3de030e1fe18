"""What a name means: a method, recipe, optimizer, format, formula, letter, family, storage scheme or word.

Each registry is a literal dict of strings; an entry's own documentation is its module's docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from estimator.errors import InputError, unknown
from estimator.formula import FORMULAS, Formula
from estimator.report import Report, Table, Text
from estimator.symbols import BY_FIELD, BY_NAME, SYMBOLS, Symbol
from estimator.trace import value_of


def _registry(module: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(import_module(module), name)
    return found


def _formulas() -> Mapping[str, Formula]:
    from estimator.formulas import MODULES

    for module in MODULES:
        import_module(f"estimator.formulas.{module}")
    return FORMULAS


# kind -> names of that kind; imported only when asked for
KINDS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "method": lambda: _registry("estimator.peft", "METHODS"),
    "recipe": lambda: _registry("estimator.recipes", "RECIPES"),
    "optimizer": lambda: _registry("estimator.optimizers", "OPTIMIZERS"),
    "format": lambda: _registry("estimator.dtypes", "FORMATS"),
    "formula": _formulas,
    "letter": lambda: BY_NAME,
    "family": lambda: _registry("estimator.families", "FAMILIES"),
    "scheme": lambda: _registry("estimator.storage.schemes", "SCHEMES"),
    "word": lambda: _registry("estimator.commands.explain.words", "WORDS"),
}


def explain(name: str | None = None) -> Report:
    """What ``name`` means, or a table of all names; InputError with the nearest names where it is none."""
    if name is None:
        rows = tuple((kind, ", ".join(sorted(names()))) for kind, names in KINDS.items())
        return Report("explain", "What can be explained", {}, (Table("", ("kind", "names"), rows),))
    from estimator.commands.explain.words import SAME

    spelt = SAME.get(name.lower(), name)
    for kind, names in KINDS.items():
        found = names()
        key = spelt if spelt in found else spelt.lower().replace("_", "-") if kind == "word" else spelt.lower()
        if key in found:
            return _one(kind, key, found[key])
    if name in BY_FIELD:
        return _one("letter", name, BY_FIELD[name])
    _elsewhere(name)
    every = [n for names in KINDS.values() for n in names()]
    raise unknown("name", name, every, "List them: llmcalc explain")


def _elsewhere(name: str) -> None:
    """InputError that names the command for a preset, which has pages of its own."""
    from estimator import presets

    for kind in ("models", "gpus"):
        if presets.find(kind, name) is not None:
            raise InputError(f"{name} is a preset: llmcalc {kind} {name}")


def _one(kind: str, name: str, entry: Any) -> Report:
    if isinstance(entry, Symbol):
        body = f"{entry.meaning}\nconfig field or option: {entry.field}\nLaTeX: {entry.latex}"
        return _report(kind, entry.name, body)
    if isinstance(entry, Formula):
        return _formula(entry)
    if kind == "format":
        bits = entry.bits_per_weight
        exact = f"{entry.block_bits} bits for {entry.block} numbers" if entry.block > 1 else f"{entry.block_bits} bits"
        return _report(kind, name, f"{entry.meaning}\n{exact}: {float(bits):g} bits a weight\nsource: {entry.source}")
    if kind == "scheme":
        return _report(kind, name, f"{entry.note}\n--quantization {name}\nsource: {entry.layout.formula.cite}")
    if kind == "word":
        return _report(kind, name, f"{entry.title}: {entry.meaning}\nsource: {entry.source}")
    return _report(kind, name, _documentation(kind, name, entry))


def _recipe(name: str) -> str:
    """What a recipe's software costs: bytes a trained parameter, activations, source."""
    from estimator.recipes import find_recipe

    r = find_recipe(name)
    simulated = r.kind == "simulated"
    how = "every allocation of the stack, simulated operation by operation" if simulated else "a published formula"
    parts = (
        ("weights", r.weights),
        ("gradients", r.gradients),
        ("master copy", r.master),
        ("AdamW's moments", r.states),
    )
    lines = [
        f"{r.title.rstrip('.')}.",
        f"bytes a trained parameter: {' + '.join(f'{n} {what}' for what, n in parts if n)} = {r.per_parameter}",
        *([] if "activations" in r.note else [f"activations: {how}"]),
        *([r.note] if r.note else []),
        f"source: {r.cite}",
    ]
    return "\n".join(lines)


def _optimizer(entry: Any) -> str:
    """What an optimizer keeps, on a matrix of 4096 x 4096 in fp32."""
    from estimator.optimizers import Trained

    n = 4096 * 4096
    matrix = Trained((4096, 4096), 4)
    kept = sum(entry.states(matrix) + entry.managed(matrix))
    paged = bool(entry.managed(matrix))
    where = "in unified memory, which the driver moves to the card for the step" if paged else "beside the weights"
    lines = [
        f"{entry.meaning}.",
        f"states {where}: {kept:,} bytes for an fp32 matrix of 4096 x 4096, {kept / n:g} a number",
        f"held at most during its step: {value_of(entry.step([matrix])):,} bytes more",
        f"source: {entry.source}",
    ]
    return "\n".join(lines)


def _documentation(kind: str, name: str, entry: Any) -> str:
    if kind == "recipe":
        return _recipe(name)
    if kind == "optimizer":
        return _optimizer(entry)
    folders = {"method": "estimator.peft", "recipe": "estimator.recipes", "family": "estimator.families"}
    if isinstance(entry, str) and kind in folders:
        return inspect.getdoc(import_module(f"{folders[kind]}.{entry}")) or ""
    text = getattr(entry, "doc", None) or getattr(entry, "meaning", None) or inspect.getdoc(entry) or ""
    return str(text)


def formula_expression(f: Formula) -> Any:
    """A formula called with its own letters; None where it takes structure (a list of weights) and not numbers."""
    from estimator.trace import letter

    try:
        return f.fn(*(letter(p) for p in f.params))
    except (TypeError, ValueError, AttributeError, KeyError):
        return None


def _formula(f: Formula) -> Report:
    from estimator import printing

    lines = [inspect.getdoc(f.fn) or "", "", f"unit: {f.unit.name}", f"source: {f.cite}"]
    lines += [f"assumes: {a}" for a in f.assumes]
    latex = ""
    expression = formula_expression(f)
    if expression is not None:
        lines.insert(1, f"\n  {f.name} = {printing.text(expression)}")
        name = f.name.replace("_", "\\_")
        latex = f"\\[ \\texttt{{{name}}} = {printing.to_latex(expression)} \\]"
    known = [BY_NAME[p] for p in f.params if p in BY_NAME]
    width = max((len(s.name) for s in known), default=0)
    lines += ["", *(f"  {s.name:<{width}}  {s.meaning}" for s in sorted(known, key=SYMBOLS.index))]
    return _report("formula", f.name, "\n".join(lines), latex)


def _report(kind: str, name: str, body: str, latex: str = "") -> Report:
    return Report("explain", f"{name} ({kind})", {"name": name}, (Text("", body, latex),), {"kind": kind})
