"""The presets as reports: a list that filters, and one preset whole with its sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from estimator import presets
from estimator.active import active_words
from estimator.errors import InputError, unknown
from estimator.formula import Citation
from estimator.formulas.params import active_params
from estimator.headers import Header
from estimator.inventory import EMBEDDING, EXPERT, HEAD, NORM, POSITION, ROUTER, TOKEN_TYPE, Weight
from estimator.models import Model, load_model
from estimator.report import Cell, Node, Report, Table
from estimator.sources.where import by_another_name, on_the_hub
from estimator.storage import model_storage
from estimator.trace import Traced, value_of
from estimator.units import BYTES, PARAMS, human, parse_size

_ROLES = {
    EMBEDDING: "token embeddings", POSITION: "position embeddings", TOKEN_TYPE: "token types", HEAD: "output layer",
    NORM: "norms", ROUTER: "routers", EXPERT: "routed experts",
}  # fmt: skip
_SHORT = 60


def matches(pattern: str, name: str, kind: str) -> bool:
    """Whether a preset's id or one of its aliases contains ``pattern``, or matches it where it has ``*`` or ``?``."""
    key = pattern.strip().lower()
    others = [alias for alias, target in presets.aliases(kind).items() if target == name]
    if any(c in key for c in "*?["):
        return any(fnmatchcase(n, key) for n in (name, *others))
    return any(key in n for n in (name, *others))


def models(
    pattern: str = "",
    family: str | None = None,
    min_params: Any = None,
    max_params: Any = None,
) -> Report:
    """The model presets whose name matches, whose model_type is ``family`` and whose parameters lie in the range."""
    least, most = bound(min_params, "--min-params"), bound(max_params, "--max-params")
    facts: dict[str, Any] = {}
    rows: list[tuple[str | Cell | None, ...]] = []
    families = set()
    for name in presets.ids("models"):
        if pattern and not matches(pattern, name, "models"):
            continue
        _, data = presets.load_model_preset(name)
        kind, expect = str(data["config"].get("model_type", "")), data["expect"]
        families.add(kind)
        total, active = expect["total_params"], expect["active_params"]
        if (family and kind != family) or (least and total < least) or (most and total > most):
            continue
        share = None if active == total else Cell(active, PARAMS)
        rows.append(
            (
                name,
                kind,
                Cell(total, PARAMS),
                share,
                Cell(expect["embedding_params"], PARAMS),
                "yes" if data["verified"] else "no",
            )
        )
        facts |= {f"{name}.total_params": total, f"{name}.active_params": active}
    if not rows:
        raise nothing("model", "models", pattern, family, families)
    columns = ("model", "type", "parameters", "active", "embeddings", "checked")
    note = "checked: the count equals a published one; active: parameters that a token uses, where fewer; "
    note += "its input table counts, which some published counts leave out"
    inputs = {"name": pattern or None, "family": family, "min_params": least, "max_params": most}
    table = Table("", columns, tuple(rows), note)
    return Report("models", f"{len(rows)} model preset{'' if len(rows) == 1 else 's'}", inputs, (table,), facts)


def bound(value: Any, flag: str, kind: str = "count") -> int | None:
    return parse_size(value, flag, kind) if isinstance(value, str) else value


def nothing(what: str, kind: str, pattern: str, family: str | None, families: set[str]) -> InputError:
    if family and families and family not in families:
        return unknown("--family", family, families)
    if pattern and not any(matches(pattern, n, kind) for n in presets.ids(kind)):
        return unknown(what, pattern, presets.names(kind), f"List them: llmcalc {kind}")
    return InputError(f"no {what} preset passes these filters. List them: llmcalc {kind}")


def model(name: str, overrides: Sequence[str] = (), derive: bool = False) -> Report:
    """One model whole: its counts by kind of weight, its config, where both come from. Takes all that --model takes."""
    found = load_model(name, overrides, traced=derive)
    if found.config is None and found.header is not None:
        return _tensors(found, found.header)
    weights = found.architecture.weights()
    tree = Node.sum("total_params", "Parameters", _by_role(weights))
    active = active_params(found.architecture)
    said = active_words(found.architecture)
    extra = [Node("active_params", "Active a token", active, PARAMS, note=said)] if active != tree.value else []
    if found.declared.scheme is not None:
        storage = model_storage(found)
        label = f"Weights as the checkpoint stores them, {storage.scheme}"
        extra.append(Node("weights_bytes", label, storage.bytes, BYTES))
    if found.stored_bytes is not None:
        extra.append(Node("stored_bytes", "Stored in the file", found.stored_bytes, BYTES))
    symbolic = found.kind == "symbolic"
    body: list[Any] = [tree, *extra, _inventory(weights), *([] if symbolic else [_config_table(found)])]
    facts: dict[str, Any] = {}
    citations: tuple[Citation, ...] = ()
    if found.kind == "preset" and not overrides:
        _, data = presets.load_model_preset(found.name)
        expect = data["expect"]
        citations = (Citation(data["source"]), Citation(data["verification"]))
        others = [a for a, target in presets.aliases("models").items() if target == found.name]
        facts = {"as_expected": tree.value == expect["total_params"] and active == expect["active_params"]}
        facts |= {"also_called": ", ".join(others)} if others else {}
    size = "the textbook transformer" if symbolic else f"{human(value_of(tree.value), PARAMS)} parameters"
    title = f"{found.name}: {size}" + ("" if symbolic else f", {found.architecture.model_type}")
    notes = found.notes
    return Report("models", title, {"name": name}, tuple(body), facts, notes, citations, notes, symbolic=symbolic)


def _tensors(found: Model, header: Header) -> Report:
    """A file of tensors without a config: what its header lists, by type."""
    kinds = header.by_dtype().items()
    elements = [Node(f"elements.{kind}", kind, n, PARAMS) for kind, (n, _) in kinds]
    sizes = [Node(f"bytes.{kind}", kind, size, BYTES) for kind, (_, size) in kinds]
    body = (
        Node.sum("stored_elements", "Elements of its tensors", elements),
        Node.sum("stored_bytes", "Bytes of its tensors", sizes),
    )
    title = f"{found.name}: {len(header.tensors):,} tensors, no architecture"
    return Report("models", title, {"name": found.name}, body, {}, found.notes, (), found.notes)


def _by_role(weights: list[Weight]) -> list[Node]:
    sums: dict[str, int] = {}
    for w in weights:
        label = _ROLES.get(w.role, "layers")
        sums[label] = sums.get(label, 0) + w.total
    return [Node(f"params.{label.replace(' ', '_')}", label, total, PARAMS) for label, total in sums.items()]


def _inventory(weights: list[Weight]) -> Table:
    rows = tuple((w.name, " x ".join(map(_dim, w.shape)), _dim(w.times), Cell(w.total, PARAMS)) for w in weights)
    return Table("Weights", ("name", "shape", "layers", "parameters"), rows)


def _dim(size: Any) -> str:
    return str(size.expr if isinstance(size, Traced) else size)


def _config_table(found: Model) -> Table:
    raw = found.config.raw if found.config else {}
    rows = tuple((key, _short(value)) for key, value in raw.items())
    return Table("Config", ("field", "value"), rows)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."


def is_one(name: str) -> bool:
    """Whether ``name`` means one preset, a file, the hub or ``symbolic``, rather than a part of names."""
    if presets.find("models", name) is not None:
        return True
    return (
        on_the_hub(name)
        or name.startswith((".", "/", "~"))
        or name == "symbolic"
        or name.endswith((".json", ".safetensors", ".gguf"))
        or _holds_config(name)
        or by_another_name(name)
    )


def _holds_config(name: str) -> bool:
    """Whether ``name`` is a folder with a config.json; no for what cannot be a path."""
    try:
        return Path(name, "config.json").is_file()
    except (OSError, ValueError):
        return False
