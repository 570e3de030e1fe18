"""Ollama's Modelfile: the model that it is built FROM, and the parameters that decide what is allocated.

Read in docs/modelfile.mdx of Ollama: instructions in any case and order, ``PARAMETER name value``, texts between triple
quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from estimator.errors import InputError
from estimator.headers import reason, regular_file, shown
from estimator.sources.found import Found

NAME, SUFFIX = "modelfile", ".modelfile"
MAX_BYTES = 1_000_000  # templates and licences are longer than the rest
PARAMETERS = {"num_ctx": "ctx_size", "num_gpu": "gpu_layers"}  # Ollama's name -> option of a question
ENGINE = "llama.cpp"
# of one line, each part of which can end in one place only: a file of blanks takes no longer than another
_FROM, _ADAPTER, _PARAMETER = (
    re.compile(rf"^[^\S\n]*{words}[^\S\n]+(\S.*)$", re.IGNORECASE | re.MULTILINE)
    for words in ("FROM", "ADAPTER", r"PARAMETER[^\S\n]+(\w+)")
)
_QUOTED = re.compile(r'"""(?:.|\n)*?"""')


def is_modelfile(path: Path) -> bool:
    """Whether a path is a Modelfile by its name."""
    return path.name.lower() == NAME or path.name.lower().endswith(SUFFIX)


def from_modelfile(path: Path, find: Callable[[str], Found]) -> Found:
    """The model of a Modelfile, found by what it is built FROM; InputError for a file that names none."""
    size = regular_file(path, "a Modelfile")
    if size > MAX_BYTES:
        raise InputError(f"{shown(path)}: {size:,} bytes are too many for a Modelfile (at most {MAX_BYTES:,})")
    try:
        text = _QUOTED.sub("", path.read_text("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"{shown(path)}: {reason(error)}") from None
    named = _FROM.search(text)
    if named is None:
        raise InputError(f"{shown(path)}: has no line FROM, which names the model")
    base = named[1].rstrip()
    beside = path.parent / base
    if base.lower().endswith(SUFFIX) or (beside.name.lower() == NAME and beside.exists()):
        raise InputError(f"{shown(path)}: FROM {base[:80]}: a Modelfile is built from a model, not from a Modelfile")
    found = find(str(beside) if _is_path(base, beside) else base)
    given = {name.lower(): value.rstrip() for name, value in _PARAMETER.findall(text)}
    found.options = {"engine": ENGINE} | {
        option: value for name, option in PARAMETERS.items() if (value := given.get(name)) is not None
    }
    said = ", ".join(f"{name} {given[name]}" for name in PARAMETERS if name in given)
    found.notes.append(f"{path.name}: FROM {base[:80]}" + (f", {said}" if said else ""))
    if _ADAPTER.search(text):
        found.notes.append(f"{path.name}: its ADAPTER is not counted")
    return found


def _is_path(base: str, beside: Path) -> bool:
    """Whether FROM names a file or folder: it is there, or looks like one."""
    try:
        there = beside.exists()
    except OSError:
        there = False
    return there or base.startswith((".", "/", "~"))
