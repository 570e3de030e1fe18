"""What ``--model`` takes, and the :class:`Model` it gives.

A preset's name; a ``config.json`` or a folder that holds one; a ``.safetensors`` file, its index or a ``.gguf`` file
(the header is read, not the weights); ``hf:org/name``; ``symbolic``, the textbook transformer in letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimator.config import Config
from estimator.errors import InputError, unknown

if TYPE_CHECKING:
    from estimator.families.base import Architecture
    from estimator.headers import Header
    from estimator.storage.checkpoint import Declared

MAX_CONFIG_BYTES = 10_000_000  # the longest config.json in use is under 100 kB
SYMBOLIC = "symbolic"
HF_QUANT = "hf_quant_config.json"  # ModelOpt's
PRESET_STORAGE = "storage"  # what a preset says of its checkpoint: fields of its config.json
# stand-ins: they decide which branch is taken and are never printed
SYMBOLIC_CONFIG = {"model_type": SYMBOLIC, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32}
_REPO = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_SUFFIXES = (".json", ".safetensors", ".gguf")


@dataclass(frozen=True)
class Model:
    """A model to estimate.

    name       how it is called in reports
    kind       "preset", "file", "hub", "header" or "symbolic"
    config     its config, after ``--set``; None where only a header of tensors is known
    own_notes  what was found while it was read; :attr:`notes` adds what the family guessed
    expect     a preset's published counts
    header     the tensors of its weights file, where one was read
    mix        the GGUF mix that its name says: of ``llama3.1:8b-instruct-q4_K_M``
    beside     JSON files beside the config, by name: ``hf_quant_config.json``, a preset's ``storage``
    """

    name: str
    kind: str
    config: Config | None
    own_notes: tuple[str, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)
    header: Header | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mix: str = ""

    @cached_property
    def declared(self) -> Declared:
        """What its files say of their own storage. InputError for fields of the wrong type."""
        from estimator.storage.checkpoint import NOTHING, declared

        if self.config is None or self.kind == SYMBOLIC:
            return NOTHING
        raw = {**self.beside.get(PRESET_STORAGE, {}), **self.config.raw}
        return declared(raw, self.config.where, self.beside.get(HF_QUANT))

    @cached_property
    def architecture(self) -> Architecture:
        """What the model computes; InputError where its config is not known or has no family."""
        if self.config is None:
            raise InputError(
                f"{self.name}: holds tensors but no architecture; put the model's config.json beside it "
                "(llmcalc models FILE counts the tensors)"
            )
        from estimator.families import build

        return build(self.config)

    @property
    def notes(self) -> tuple[str, ...]:
        """Guesses and findings, each a sentence, for notes and assumptions; read after :attr:`architecture`."""
        return (*self.own_notes, *(self.config.notes if self.config else ()))

    @property
    def stored_bytes(self) -> int | None:
        """Exact bytes of the weights as they lie in the file, or None where no complete header was read."""
        if self.header is None or (self.header.missing and self.header.total_bytes is None):
            return None
        return self.header.total_bytes if self.header.missing else self.header.bytes

    @property
    def stored_elements(self) -> int | None:
        """Elements of all tensors in the file, or None where no complete header was read."""
        return None if self.header is None or self.header.missing else self.header.elements


def load_model(text: str, overrides: Sequence[str] = (), traced: bool = False) -> Model:
    """The model that ``--model`` names.

    overrides: ``FIELD=VALUE`` texts of ``--set``; VALUE is JSON where it parses as JSON, and ``a.b`` is field b of a.
    traced: sizes become traced numbers (``--derive``). Raises InputError for everything that cannot be read.
    """
    found = _find(text.strip())
    if found.raw is None:
        if overrides:
            raise InputError(f"--set: {text} has no config to set a field of")
        return Model(found.name, found.kind, None, tuple(found.notes), {}, found.header)
    raw, notes = set_fields(found.raw, overrides)
    notes = [*found.notes, *notes]
    if found.header is not None and not overrides:
        from estimator.headers.compare import compare

        notes += compare(Config(raw, where=found.where), found.header)
    where = f"{found.where} with --set" if overrides else found.where
    config = Config(raw, traced or found.kind == SYMBOLIC, where=where)
    if overrides:  # another model than the preset's or the file's
        return _said(Model(found.name, found.kind, config, tuple(notes), beside=found.beside, mix=found.mix))
    made = Model(found.name, found.kind, config, tuple(notes), found.expect, found.header, found.beside, found.mix)
    return _said(made)


def _said(model: Model) -> Model:
    """The model with what its files say loudly of their storage."""
    said = model.declared.notes
    return replace(model, own_notes=(*model.own_notes, *said)) if said else model


@dataclass
class _Found:
    """What a text was resolved to, before ``--set``."""

    name: str
    kind: str
    where: str
    raw: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)
    expect: Mapping[str, Any] = field(default_factory=dict)
    header: Header | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    mix: str = ""


def _find(text: str) -> _Found:
    if not text:
        raise InputError("--model is empty; list the presets with: llmcalc models")
    if text == SYMBOLIC:
        return _Found(SYMBOLIC, SYMBOLIC, SYMBOLIC, dict(SYMBOLIC_CONFIG))
    if text.startswith("hf:"):
        return _from_hub(text.removeprefix("hf:"))
    from estimator import presets

    preset = presets.find("models", text)
    if preset is not None:
        name, data = presets.load_model_preset(preset)
        return _Found(name, "preset", f"presets/models/{name}.json", data["config"], expect=data.get("expect", {}),
                      beside={PRESET_STORAGE: data.get("storage", {})})  # fmt: skip
    path = _as_path(text)
    if path is None:
        from estimator import ollama

        named = ollama.named(text)
        if named is not None:
            preset_found = _find(named.preset)
            preset_found.mix = named.mix
            preset_found.notes.append(f"{text}: Ollama's name of {named.preset} in {named.mix}")
            return preset_found
        hint = f"From the hub: --model hf:{text}" if _REPO.match(text) else "List them: llmcalc models"
        raise unknown("model", text, [*presets.names("models"), SYMBOLIC], hint)
    return _from_path(path)


def _as_path(text: str) -> Path | None:
    """``text`` as a path where it exists or looks like one, else None."""
    if "\0" in text or len(text) > 4096:
        return None
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    try:
        there = path.exists() or path.is_symlink()
    except OSError:
        there = False
    looks = text.lower().endswith(_SUFFIXES) or text.startswith((".", "/", "~")) or text.endswith("/")
    return path if there or looks else None


def _from_path(path: Path) -> _Found:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return _from_folder(path)
    except OSError as error:
        from estimator.headers import shown

        raise InputError(f"{shown(path)}: {error.strerror}") from None
    if suffix == ".gguf":
        return _from_gguf(path)
    if suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        return _from_safetensors(path)
    raw = read_config(path)
    if path.name != "config.json":
        return _Found(path.stem, "file", str(path), raw, beside=_beside(path.parent))
    name = path.resolve().parent.name
    return _Found(name or path.stem, "file", str(path), raw, header=_weights(path.parent), beside=_beside(path.parent))


def _weights(folder: Path) -> Header | None:
    """The header of the weights beside a config.json, None where there are none or they cannot be read."""
    from estimator.headers import safetensors

    try:
        return safetensors.find(folder)
    except InputError:
        return None


def _beside(folder: Path) -> dict[str, Any]:
    """ModelOpt's file beside a config.json, where it is there."""
    path = folder / HF_QUANT
    return {HF_QUANT: read_config(path)} if path.is_file() else {}


def _from_folder(folder: Path) -> _Found:
    from estimator.headers import safetensors

    config = folder / "config.json"
    header = safetensors.find(folder)
    name = folder.resolve().name or str(folder)
    if not (config.exists() or config.is_symlink()):
        if header is None:
            raise InputError(f"{folder}: holds neither a config.json nor .safetensors files")
        return _Found(name, "header", str(folder), None, _bare(header), header=header)
    return _Found(name, "file", str(config), read_config(config), header=header, beside=_beside(folder))


def _from_safetensors(path: Path) -> _Found:
    from estimator.headers import safetensors

    header = safetensors.read_index(path) if path.suffix == ".json" else safetensors.read_file(path)
    config = path.parent / "config.json"
    name = path.name.removesuffix(".index.json").removesuffix(".safetensors")
    if not config.is_file():
        return _Found(name, "header", str(path), None, _bare(header), header=header)
    name = path.resolve().parent.name or name
    return _Found(
        name, "header", str(config), read_config(config), [f"architecture from {config}"], header=header,
        beside=_beside(path.parent),
    )  # fmt: skip


def _from_gguf(path: Path) -> _Found:
    from estimator.headers import gguf
    from estimator.headers.gguf_config import to_config

    header = gguf.read(path)
    raw, notes = to_config(header)
    return _Found(path.stem, "header", str(path), raw, notes, header=header)


def _bare(header: Header) -> list[str]:
    return [f"{header.path}: no config.json beside it: parameters and bytes are known, the architecture is not"]


def _from_hub(repo: str) -> _Found:
    """The config.json of a hub repository, through huggingface_hub's own cache. No weights are fetched."""
    if not _REPO.match(repo):
        raise InputError(f"--model hf:{repo[:80]}: expected hf:ORG/NAME, for instance hf:Qwen/Qwen3-8B")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise InputError(
            f"--model hf:{repo} needs the huggingface_hub package: pip install 'llmcalc-estimator[hub]'"
        ) from None
    try:
        path = Path(hf_hub_download(repo, "config.json", etag_timeout=10))
    except Exception as error:  # the hub's own errors, and those of every layer below it
        first = " ".join(str(error).split())[:160] or type(error).__name__
        why = f"could not fetch config.json ({type(error).__name__}: {first})"
        raise InputError(f"--model hf:{repo}: {why}. Offline? Give a path instead") from None
    return _Found(
        repo,
        "hub",
        f"hf:{repo} config.json",
        read_config(path),
        [f"config.json of {repo} on the hub, or its cached copy"],
    )


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a regular file of bounded size; one-line InputError for everything else."""
    from estimator.headers import regular_file
    from estimator.headers.safetensors import parse_object

    size = regular_file(path, "a config.json")
    if size > MAX_CONFIG_BYTES:
        raise InputError(f"{path}: {size:,} bytes are too many for a config.json (at most {MAX_CONFIG_BYTES:,})")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not data.strip():
        raise InputError(f"{path}: is empty")
    return parse_object(data, str(path))


def set_fields(raw: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """``raw`` with the ``FIELD=VALUE`` texts applied to a copy, and a note for each name that looks mistyped."""
    if not overrides:
        return dict(raw), []
    from estimator.texts import json_or_text, pairs

    out: dict[str, Any] = dict(raw)
    notes: list[str] = []
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
            notes += _mistyped(name, leaf, at)
        at[leaf] = json_or_text(value)
    return out, notes


def _mistyped(name: str, leaf: str, fields: Mapping[str, Any]) -> list[str]:
    """A note where a field is neither in the config nor known here but close to one that is."""
    from difflib import get_close_matches

    from estimator.symbols import BY_FIELD

    if leaf in BY_FIELD:
        return []
    near = get_close_matches(leaf, [*fields, *BY_FIELD], n=1, cutoff=0.8)
    meant = f"; did you mean {near[0]}?" if near else ""
    return [f"--set {name}: the config had no such field{meant}"]
