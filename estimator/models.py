"""What ``--model`` takes, and the :class:`Model` it gives.

A preset's name; a ``config.json`` or a folder that holds one; a ``.safetensors`` or ``.gguf`` file (its header is
read, not its weights); ``hf:org/name``; ``symbolic``, the textbook transformer in letters.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture

MAX_CONFIG_BYTES = 10_000_000  # the longest config.json in use is under 100 kB


@dataclass(frozen=True)
class Model:
    """A model to estimate.

    name      how it is called in reports
    kind      "preset", "file", "hub", "header" or "symbolic"
    config    its config, after ``--set``; None where only a header of tensors is known
    notes     what was guessed or found while it was read; :attr:`all_notes` adds what the family guessed
    """

    name: str
    kind: str
    config: Config | None
    own_notes: tuple[str, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def architecture(self) -> Architecture:
        """What the model computes; InputError where its config is not known or has no family."""
        if self.config is None:
            raise InputError(f"{self.name}: holds tensors but no architecture; put its config.json beside it")
        from estimator.families import build

        return build(self.config)

    @property
    def notes(self) -> tuple[str, ...]:
        """Guesses and findings, each a sentence; read it after :attr:`architecture`."""
        return (*self.own_notes, *(self.config.notes if self.config else ()))


def load_model(text: str, overrides: Sequence[str] = (), traced: bool = False) -> Model:
    """The model that ``--model`` names.

    overrides: ``FIELD=VALUE`` texts of ``--set``. traced: sizes become traced numbers (``--derive``).
    Raises InputError for everything that cannot be read.
    """
    from estimator import presets

    found = presets.find("models", text)
    if found is not None:
        name, data = presets.load_model_preset(found)
        raw, kind, expect = data["config"], "preset", data.get("expect", {})
    else:
        path = Path(text)
        if path.is_dir():
            path = path / "config.json"
        if not path.exists():
            from estimator.errors import unknown

            raise unknown("model", text, presets.names("models"), "List them: llmcalc models")
        raw, kind, expect, name = read_json(path), "file", {}, path.parent.name if path.name == "config.json" else path.stem
    return Model(name, kind, Config(raw, traced, where=f"{name}"), expect=expect)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a regular file of bounded size."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_CONFIG_BYTES:
        raise InputError(f"{path}: not a config.json")
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be a JSON object")
    return value
