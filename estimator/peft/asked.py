"""From options to an adapter: the one way in which every command reads ``--method`` and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.models import Model
from estimator.peft import find
from estimator.peft.base import Adapter, Method, run
from estimator.same import Same
from estimator.sizes import size_option

VIRTUAL = "num_virtual_tokens"


def build_adapter(
    arch: Architecture,
    name: str,
    config: Mapping[str, Any],
    method: str,
    rank: Any = None,
    targets: str | Sequence[str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Adapter:
    """The adapter of ``method`` on an architecture; ``rank`` sets the argument that the method calls its rank."""
    found = find(method)
    args = dict(given or {})
    if rank is not None:
        if not found.rank:
            raise InputError(f"--rank: {found.title} has no rank; its arguments: {', '.join(found.args) or 'none'}")
        if args.get(found.rank) not in (None, rank) and found.rank == "r":
            raise InputError(f"--rank and --arg {found.rank} say different things")
        if args.get(found.rank) is None:  # a saved config that says init_r holds an r too, which peft does not read
            args[found.rank] = rank
    return run(found, arch, name, config, targets, args)


def prepare(
    model: Model,
    method: str,
    rank: Any,
    targets: str | Sequence[str] | None,
    args: Mapping[str, Any] | None,
    trainable_layers: Any,
    trial: bool = False,
) -> Adapter:
    """The adapter that the options describe; letters and traced sizes where the model is given in letters or derives.

    trial: the rank is one of several being tried, and stays a plain number.
    """
    found = find(method)
    given = {k: _argument(model, found, k, v) for k, v in (args or {}).items()}
    if rank is not None:
        if str(rank).strip().lstrip("+-0") == "" and str(rank).strip():
            raise InputError(f"--rank must be >= 1, got {str(rank).strip()[:20]}")
        rank = rank if trial else size_option(model, rank, "--rank", "rank")
    if trainable_layers is not None:
        if found.name != "freeze":
            raise InputError(f"--trainable-layers is for --method freeze, not {found.name}")
        given["trainable_layers"] = size_option(model, trainable_layers, "--trainable-layers", "trainable_layers")
    if rank is None and found.rank and found.rank not in given and isinstance(found.args.get(found.rank), int):
        default = found.args[found.rank]
        if default > 0 and model.derives:
            given[found.rank] = size_option(model, "r" if model.kind == "symbolic" else default, "--rank", "rank")
    plain = all(x is None or type(x) in (str, bool, int, float) for x in (rank, targets, *given.values()))
    if not plain or model.derives or model.kind == "symbolic":
        return _built(model, method, rank, targets, given)
    return _remembered(Same(model), method, rank, targets, tuple((k, type(v), v) for k, v in given.items()))


@lru_cache(maxsize=64, typed=True)
def _remembered(
    model: Same[Model], method: str, rank: int | None, targets: str | None, given: tuple[tuple[str, type, Any], ...]
) -> Adapter:
    """The adapter of plain options, built once: a question that comes with other sizes is of the same one."""
    return _built(model.it, method, rank, targets, {k: v for k, _, v in given})


def _built(model: Model, method: str, rank: Any, targets: Any, given: Mapping[str, Any]) -> Adapter:
    config = model.config.raw if model.config else {}
    return build_adapter(model.architecture, model.name, config, method, rank, targets, given)


def _argument(model: Model, method: Method, name: str, value: Any) -> Any:
    """One ``--arg``: a letter where the model is given in letters; traced where it counts virtual tokens."""
    counted = name == VIRTUAL or (
        isinstance(method.args.get(name), int) and not isinstance(method.args.get(name), bool)
    )
    letter = isinstance(value, str) and model.kind == "symbolic" and value.isidentifier()
    if counted and (
        letter or (name == VIRTUAL and isinstance(value, int) and not isinstance(value, bool) and value > 0)
    ):
        return size_option(model, value, f"--arg {name}", name)
    return value
