"""What can accompany any method: ``modules_to_save`` and ``trainable_token_indices``.

Source: peft 0.21.2, utils/other.py (ModulesToSaveWrapper, TrainableTokensWrapper, set_additional_trainable_modules).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.base import BUFFER, Build, Tensor
from estimator.peft.modules import EMBEDDING, Module, containers
from estimator.peft.targets import where


def saved_modules(build: Build) -> Iterator[Tensor]:
    """Trained copies of every module whose name ends with one of ``modules_to_save``."""
    names = build.args.names("modules_to_save")
    by_layer = any(c.isdigit() for n in names for c in n)
    found = where([*build.known, *containers(build.known)], lambda key: any(key.endswith(n) for n in names), by_layer)
    inside = [m.name + "." for m in found]
    seen = False
    for m in found:
        if any(m.name.startswith(prefix) for prefix in inside):
            continue  # copied with the module that holds it
        seen = True
        parts = [m] if m.weights else [k for k in build.known if k.name.startswith(m.name + ".")]
        if build.args["ensure_weight_tying"] and m.head and m.tied and any(f.kind == EMBEDDING for f in found):
            parts = []
        for part in parts:
            times = part.times if len(parts) > 1 else m.times
            for short, shape in part.weights:
                yield Tensor(part.name, f"modules_to_save.{short}", shape, times)
    if not seen:
        build.notes.append(f"modules_to_save: no module of {build.model} ends with {', '.join(names)}; nothing is saved for it")


def input_embedding(build: Build) -> Module:
    """The token table."""
    tables = [m for m in build.known if m.kind == EMBEDDING and m.weights[0][1][0] == build.arch.vocab]
    if not tables:
        raise InputError(f"--method {build.method.name}: {build.model} has no token table")
    return tables[0]


def trainable_tokens(build: Build) -> Iterator[Tensor]:
    """``trainable_token_indices``: some rows of an embedding, trained beside the adapter."""
    given = build.args["trainable_token_indices"]
    if given is None:
        return
    table = input_embedding(build)
    wanted = given if isinstance(given, dict) else {table.leaf: given}
    saved = build.args.names("modules_to_save")
    done: list[Any] = []
    for name, rows in wanted.items():
        if name in saved:
            raise InputError(f"--arg trainable_token_indices: {name!r} is in modules_to_save already")
        count = token_count(rows, "trainable_token_indices")
        hit = [m for m in build.known if m.example.endswith(name)]
        if not hit:
            raise InputError(f"--arg trainable_token_indices: no module of {build.model} ends with {name!r}; its token table is {table.leaf!r}")
        for m in hit:
            width = m.d_out if m.kind == EMBEDDING else m.d_in
            shared = build.arch.tied and (m.head or m.name == table.name)
            if shared and rows in done:
                continue
            done += [rows] if shared else []
            yield Tensor(m.name, "trainable_tokens_delta", (count, width), m.times)
            yield Tensor(m.name, "trainable_tokens_original", (count, width), m.times, BUFFER, saved=False)


def token_count(rows: Any, name: str) -> int:
    """How many rows a list of token numbers names."""
    if not isinstance(rows, list) or not all(isinstance(r, int) and not isinstance(r, bool) for r in rows):
        raise InputError(f"--arg {name}: must be a list of token numbers, like [0, 1, 2]")
    return len(rows)
