"""``--set FIELD=VALUE``: fields of a config changed, and names that no class reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from estimator.errors import InputError
from estimator.texts import json_or_text, pairs

# fields that no family reads and that mean something all the same
STORAGE_FIELDS = ("dtype", "torch_dtype", "quantization_config", "quantization", "architectures", "model_type")


def set_fields(raw: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """(``raw`` with the texts applied to a copy, the names that it did not have)."""
    out: dict[str, Any] = dict(raw)
    new: list[str] = []
    for name, value in pairs(list(overrides), "--set").items():
        *parents, leaf = name.split(".")
        at = out
        for part in parents:
            inner = at.get(part)
            if not isinstance(inner, dict):
                raise InputError(f"--set {name}: {part} is not a group of fields in this config")
            at[part] = inner = dict(inner)
            at = inner
        if leaf not in at:
            if parents:
                near = get_close_matches(leaf, at, n=1, cutoff=0.85)
                if near:
                    raise InputError(f"--set {name}: {parents[-1]} has no such field; did you mean {near[0]}?")
            new.append(name)
        at[leaf] = json_or_text(value)
    return out, new


def unread(
    new: Sequence[str], known: Collection[str], read: Collection[str], spelt: Mapping[str, str] | None = None
) -> list[str]:
    """Notes on fields that were set and that the class does not read; InputError where one is a likely slip.

    new: what the config did not have; known: what it has; read: what the class asked for; spelt: other spellings of
    fields that it has.
    """
    notes, spelt = [], spelt or {}
    for name in new:
        if name in spelt:
            raise InputError(f"--set {name}: this config calls it {spelt[name]}")
        if name in read or name in STORAGE_FIELDS:
            continue
        if "." in name:  # what a part's class reads is not known here
            notes.append(f"--set {name}: the config had no such field")
            continue
        near = get_close_matches(name, sorted({*known, *read, *STORAGE_FIELDS} - {name}), n=1, cutoff=0.8)
        if near:
            raise InputError(f"--set {name}: there is no such field; did you mean {spelt.get(near[0], near[0])}?")
        notes.append(f"--set {name}: the config had no such field, and the class reads none of this name")
    return notes
