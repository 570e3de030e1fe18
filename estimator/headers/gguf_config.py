"""A config.json-like mapping from the metadata of a GGUF header.

Source: the keys of llama.cpp's gguf-py/gguf/constants.py and what convert_hf_to_gguf.py writes into them. How each
architecture's keys become its class's fields: :mod:`estimator.headers.gguf_architectures`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from estimator.families import FAMILIES
from estimator.headers import Header
from estimator.headers.gguf_architectures import READERS, Reader
from estimator.headers.gguf_meta import Lacks, Meta
from estimator.headers.gguf_newer import NEWER


def to_config(header: Header) -> tuple[dict[str, Any] | None, list[str]]:
    """A config.json-like mapping from a GGUF header, with notes of what was inferred; None where there is none."""
    arch = str(header.metadata.get("general.architecture", ""))
    reader = reader_of(arch)
    if reader is None:
        return None, [
            f"{header.path}: GGUF architecture {arch[:40]!r} has no counterpart here; only its tensors are counted"
        ]
    try:
        config = reader(Meta(header, arch))
    except Lacks as error:
        return None, [f"{header.path}: {error}; only its tensors are counted"]
    return config, [f"config derived from the GGUF metadata of architecture {arch!r}"]


def reader_of(arch: str) -> Reader | None:
    """The reader of an architecture: of the tables, or of the family whose file names it."""
    if arch in NEWER or arch in READERS:
        return NEWER.get(arch) or READERS[arch]
    for module in dict.fromkeys(FAMILIES.values()):
        for own in getattr(import_module(f"estimator.families.{module}"), "GGUF", {}).values():
            if own.name == arch and own.reader is not None:
                found: Reader = own.reader
                return found
    return None
