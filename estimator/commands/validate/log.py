"""A serving engine's start-up log beside what is computed: every figure that the log prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from estimator.commands.kvcache.report import kvcache
from estimator.engines.logs import Log, parse
from estimator.errors import InputError
from estimator.headers import regular_file
from estimator.models import load_model
from estimator.report import Cell, Node, Report, Table
from estimator.units import BYTES, COUNT, PERCENT, RATIO, TOKENS, Unit

LABELS: dict[str, tuple[str, Unit]] = {
    "weights_bytes": ("weights of a rank", BYTES), "activation_bytes": ("activation peak", BYTES),
    "other_bytes": ("outside the allocator", BYTES), "graphs_bytes": ("CUDA graphs", BYTES),
    "pool_bytes": ("pool", BYTES), "kv_blocks": ("blocks", COUNT), "kv_tokens": ("tokens", TOKENS),
    "max_concurrency": ("requests at once", RATIO),
}  # fmt: skip
OF_POOL = ("kv_blocks", "kv_tokens", "max_concurrency")


def read_log(path: str, most: int) -> Log | None:
    """The log in a file of at most ``most`` bytes, None where it is none. InputError where it cannot be read."""
    size = regular_file(Path(path), "a log")
    if size > most:
        raise InputError(f"{path}: {size:,} bytes is too large for a log")
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return parse(raw.decode("utf-8", "replace"))


def validate_log(
    log: Log, name: str, model: str | None = None, gpu: str | None = None, version: str | None = None
) -> Report:
    """The figures of a log beside those computed from its model and options.

    model: ``--model``, else the log's; gpu: ``--gpu``, else the memory that the log names. With neither, blocks, tokens
    and requests are computed from the log's pool. InputError where the model is not known.
    """
    text = model or log.model
    if not text:
        raise InputError(f"{name}: names no model: add --model")
    try:
        made = load_model(text)
    except InputError as error:
        raise InputError(f"{error} (the log's; say it with --model)" if model is None else str(error)) from None
    options: dict[str, Any] = {"engine": log.engine, **log.options}
    if version is not None:
        options["engine_version"] = version
    card = gpu or (None if log.total is None else f"{log.total}B")
    found: dict[str, Any] = {}
    if card is not None:
        found = kvcache(made, gpu=card, **options).results()
    given: dict[str, Any] = {}
    if "pool_bytes" in log.figures:
        given = kvcache(made, pool_bytes=f"{int(log.figures['pool_bytes'])}B", **options).results()
        found = given | found if found else given
    if not found:
        found = kvcache(made, **options).results()
    rows, nodes = [], []
    for key, (label, unit) in LABELS.items():
        if key not in log.figures or key not in found or (key == "pool_bytes" and card is None):
            continue
        want, got = log.figures[key], found[key]
        off = 100 * (got / want - 1) if want else 0.0
        exact = "yes" if abs(got - want) <= log.places.get(key, 0) + 1e-9 else "no"
        of_pool = given.get(key) if key in OF_POOL and given else None
        rows.append((
            label, Cell(want, unit), Cell(got, unit), Cell(off, PERCENT), exact,
            None if of_pool is None else Cell(of_pool, unit),
        ))  # fmt: skip
        nodes += [
            Node(key, label, got, unit), Node(f"{key}.log", "in the log", want, unit),
            Node(f"{key}.error", "error", off, PERCENT),
        ]  # fmt: skip
        if of_pool is not None:
            nodes.append(Node(f"{key}.of_pool", "from the log's pool", of_pool, unit))
    columns = ("figure", "log", "computed", "error", "as printed", "from the log's pool")
    title = f"{made.name} in {log.engine}: its start-up log beside what is computed"
    said = [f"{k.replace('_', ' ')} {v}" for k, v in sorted(log.options.items())]
    notes = ["read in the log: " + ", ".join(said)] if said else []
    if card is None:
        notes.append("no --gpu: blocks, tokens and requests are those of the log's pool")
    return Report(
        "validate", title, {"file": name, "model": made.name, "engine": log.engine, "gpu": card},
        (Table("Start-up log", columns, tuple(rows)),), {}, tuple(notes), (), tuple(made.notes), hidden=tuple(nodes),
    )  # fmt: skip
