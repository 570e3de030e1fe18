"""What a text of ``--model`` was resolved to, and the one way in which a JSON file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from estimator.errors import InputError
from estimator.headers import Header, reason, regular_file, shown
from estimator.headers.safetensors import parse_object
from estimator.records import dataclass

MAX_CONFIG_BYTES = 10_000_000  # the longest config.json in use is under 100 kB
CONFIG = "config.json"
PARAMS = "params.json"  # Mistral's and Meta's own
HF_QUANT = "hf_quant_config.json"  # ModelOpt's


@dataclass
class Found:
    """A model before ``--set``.

    raw     its config, None where only a header of tensors is known
    where   the file that errors name
    beside  JSON files beside the config by name, and a preset's ``storage``
    mix     the GGUF mix that the name says
    options options of a question that a Modelfile sets
    """

    name: str
    kind: str
    where: str
    raw: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)
    expect: Mapping[str, Any] = field(default_factory=dict)
    header: Header | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    mix: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def read_config(path: Path, what: str = "a config.json") -> dict[str, Any]:
    """The JSON object in a regular file of bounded size; one-line InputError for everything else."""
    size = regular_file(path, what)
    if size > MAX_CONFIG_BYTES:
        raise InputError(f"{shown(path)}: {size:,} bytes are too many for {what} (at most {MAX_CONFIG_BYTES:,})")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise InputError(f"{shown(path)}: {reason(error)}") from None
    if not data.strip():
        raise InputError(f"{shown(path)}: is empty")
    return parse_object(data, shown(path))


def beside(folder: Path) -> dict[str, Any]:
    """ModelOpt's file beside a config.json, where it is there."""
    path = folder / HF_QUANT
    return {HF_QUANT: read_config(path, HF_QUANT)} if path.is_file() else {}
