"""``adapter_config.json``: an adapter as the peft library saved it, as the options that describe it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from estimator import names
from estimator.errors import InputError
from estimator.peft import METHODS, find
from estimator.peft.arguments import BASE_FIELDS
from estimator.sources.found import read_config

CONFIG = "adapter_config.json"
KEPT = ("task_type",)  # the one field of PeftConfig itself that decides a count


def from_adapter(
    place: str, options: Mapping[str, Any], flag: str = "--adapter"
) -> tuple[dict[str, Any], str | None, tuple[str, ...]]:
    """(options with what the file says where they say nothing, its base model's name, notes).

    place: the folder or the file, as ``flag`` gives it. InputError where it is none, or where ``--method`` says
    another method.
    """
    try:
        path = Path(place).expanduser() if place.startswith("~") and not place.startswith("~~") else Path(place)
        path = path / CONFIG if path.is_dir() else path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null in it, no such user
        raise InputError(f"{flag} {place[:80]}: {getattr(error, 'strerror', None) or error}") from None
    raw = read_config(path, f"an {CONFIG}")
    kind = raw.get("peft_type")
    if not isinstance(kind, str) or not kind:
        raise InputError(f"{path}: has no peft_type, so it is no {CONFIG}")
    method = kind.strip().lower()
    if names.read("method", method) not in METHODS:
        hint = "llmcalc peft --method all lists those that are counted"
        raise InputError(f"{path}: peft_type {kind[:40]!r} is no known method; {hint}")
    given = options.get("method")
    if given is not None and str(given).strip().lower().replace("-", "_") != method:
        raise InputError(f"{flag} {place[:80]}: is {method}, --method says {str(given)[:30]}")
    rank, made = raw.get("r"), find(method)
    least = 0 if made.args.get("r") == 0 else 1  # OFT's is 0 beside a block size
    if rank is not None and (type(rank) is not int or rank < least):
        raise InputError(f"{path}: r must be a whole number >= {least}, got {str(rank)[:40]!r}")
    out: dict[str, Any] = {**options, "method": method}
    targets = raw.get("target_modules")
    if not isinstance(targets, str | list | None):
        raise InputError(f"{path}: target_modules must be a text or a list of names, got {str(targets)[:40]!r}")
    if targets is not None and out.get("targets") is None:
        out["targets"] = targets if isinstance(targets, str) else ",".join(sorted(map(str, targets)))
    skip = {*BASE_FIELDS.split(), "target_modules"} - set(KEPT)
    odd = sorted(str(k) for k in set(raw) - made.known_args() - set(KEPT))
    notes = (f"{path}: {', '.join(odd)[:120]}: not a field of peft's {kind[:40]}, which ignores it",) if odd else ()
    own = {k: v for k, v in raw.items() if k not in skip and k not in odd and v is not None and v not in ({}, [])}
    if out.get("rank") is not None or rank == 0:
        own.pop("r", None)
    out["args"] = own | _given(out.get("args"))
    base = raw.get("base_model_name_or_path")
    return out, base if isinstance(base, str) and base.strip() else None, notes


def _given(args: Any) -> dict[str, Any]:
    """What ``--arg`` says beside the file."""
    if isinstance(args, Mapping):
        return dict(args)
    from estimator.texts import arguments

    return arguments(args)
