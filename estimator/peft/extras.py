"""What can accompany any method: ``modules_to_save`` and ``trainable_token_indices``.

Source: peft 0.21.2, utils/other.py (ModulesToSaveWrapper, TrainableTokensWrapper, set_additional_trainable_modules).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.peft.arguments import BASE, BUFFER, CLASSIFIERS, SAVED, PeftTensor
from estimator.peft.build import Build
from estimator.peft.modules import CONTAINER, EMBEDDING, Module, containers
from estimator.peft.targets import where


def saved_modules(build: Build) -> Iterator[PeftTensor]:
    """Trained copies of every module whose name ends with one of ``modules_to_save``."""
    head = CLASSIFIERS.get(str(build.args["task_type"]), ())
    names = [*build.args.names("modules_to_save"), *head]
    by_layer = any(c.isdigit() for n in names for c in n)
    found = where([*build.known, *containers(build.known)], lambda key: any(key.endswith(n) for n in names), by_layer)
    prefixes = [m.name + "." for m in found]
    seen = False
    for m in found:
        if any(m.name.startswith(prefix) for prefix in prefixes):
            continue  # copied with the module that holds it
        if m.kind == CONTAINER and any(k.name.startswith(m.name + ".{i}") for k in build.known):
            raise InputError(
                f"--arg modules_to_save: {m.example!r} is a list of layers, which cannot be copied; name a module in it"
            )
        seen = True
        parts = inside(build, m)
        if build.args["ensure_weight_tying"] and m.head and m.tied and any(f.kind == EMBEDDING for f in found):
            parts = []
        for part, times in parts:
            for short, shape in part.weights:
                yield PeftTensor(part.name, f"{SAVED}{short}", shape, times, format=BASE)
            yield from buffers(build, part, times)
    if not seen:
        said = ", ".join(dict.fromkeys(names))
        build.notes.append(
            f"modules_to_save: no module of {build.model} ends with {said}; nothing is saved for it"
        )


def inside(build: Build, m: Module) -> list[tuple[Module, Any]]:
    """(module, how many) of everything that ``m`` holds: itself, or what stands below it in its layers."""
    if m.weights:
        return [(m, m.times)]
    below = [k for k in build.known if k.name.startswith(m.name + ".")]
    if not m.layered:
        return [(k, k.times) for k in below]
    wanted = set(m.indices)
    return [(k, k.times if set(k.indices) <= wanted else len(wanted & set(k.indices))) for k in below]


def buffers(build: Build, m: Module, times: Any) -> Iterator[PeftTensor]:
    """Buffers that a copy of a module brings along: Gemma's scale of the embeddings."""
    if m.scaled:
        yield PeftTensor(m.name, "embed_scale", (1,), times, BUFFER, saved=False, format=BASE)


def input_embedding(build: Build) -> Module:
    """The token table."""
    tables = [m for m in build.known if m.kind == EMBEDDING and m.weights[0][1][0] == build.arch.vocab]
    if not tables:
        raise InputError(f"--method {build.method.name}: {build.model} has no token table")
    return tables[0]


def trainable_tokens(build: Build) -> Iterator[PeftTensor]:
    """``trainable_token_indices``: some rows of an embedding, trained beside the adapter."""
    given = build.args["trainable_token_indices"]
    if given is None:
        return
    table = input_embedding(build)
    wanted = given if isinstance(given, dict) else {table.leaf: given}
    saved = build.args.names("modules_to_save")
    done: list[Any] = []
    adapted = {m.name for m in build.targets}
    for name, rows in wanted.items():
        if name in saved:
            raise InputError(f"--arg trainable_token_indices: {name!r} is in modules_to_save already")
        count = token_count(rows, "trainable_token_indices")
        hit = [m for m in build.known if m.example.endswith(name)]
        if not hit:
            raise InputError(
                f"--arg trainable_token_indices: no module of {build.model} ends with {name!r}; its token "
                f"table is {table.leaf!r}"
            )
        for m in hit:
            if m.name in adapted:
                raise InputError(f"--arg trainable_token_indices: {m.example!r} is a target of the adapter too")
            width = m.d_out if m.kind == EMBEDDING else m.d_in
            shared = build.arch.tied and (m.head or m.name == table.name)
            if shared and rows in done:
                continue
            done += [rows] if shared else []
            yield PeftTensor(m.name, "trainable_tokens_delta", (count, width), m.times)
            yield PeftTensor(m.name, "trainable_tokens_original", (count, width), m.times, BUFFER, saved=False)


def token_count(rows: Any, name: str) -> int:
    """How many rows a list of token numbers names."""
    if not isinstance(rows, list) or not all(isinstance(r, int) and not isinstance(r, bool) for r in rows):
        raise InputError(f"--arg {name}: must be a list of token numbers, like [0, 1, 2]")
    return len(rows)
