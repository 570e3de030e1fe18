"""What ``--model`` takes, and the :class:`Model` it gives.

A preset's name; a ``config.json`` or a folder that holds one; a ``.safetensors`` file, its index or a ``.gguf`` file
(the header is read, not the weights); ``params.json``; ``hf:org/name``; ``symbolic``, the textbook transformer in
letters. Where each is found: :mod:`estimator.sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from estimator.config import Config
from estimator.errors import InputError, unknown
from estimator.records import dataclass
from estimator.sources.found import HF_QUANT, Found
from estimator.sources.where import PRESET_STORAGE, SYMBOLIC, find

if TYPE_CHECKING:
    from estimator.families.base import Architecture
    from estimator.headers import Header
    from estimator.storage.checkpoint import Declared

PARTS = ("", "text")  # what --part takes


@dataclass(frozen=True)
class Model:
    """A model to estimate.

    name       how it is called in reports
    kind       "preset", "file", "hub", "header" or "symbolic"
    config     its config, after ``--set``; None where only a header of tensors is known
    own_notes  what was found while it was read; :attr:`notes` adds what the family guessed
    expect     a preset's published counts
    header     the tensors of its weights file, where one was read
    beside     JSON files beside the config, by name: ``hf_quant_config.json``, a preset's ``storage``
    mix        the GGUF mix that its name says: of ``llama3.1:8b-instruct-q4_K_M``
    part       "text" for the text model of a multimodal one, else ""
    library    True where transformers builds it (``--with-transformers``)
    asked      the texts of ``--model`` and ``--set`` that name it
    options    what a Modelfile sets, by the fields of a question
    strange    the model_type of a config that is not known, where the file of weights beside it is counted
    """

    name: str
    kind: str
    config: Config | None
    own_notes: tuple[str, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)
    header: Header | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mix: str = ""
    part: str = ""
    library: bool = False
    asked: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    strange: str = ""

    @cached_property
    def declared(self) -> Declared:
        """What its files say of their own storage. InputError for fields of the wrong type."""
        from estimator.storage.checkpoint import NOTHING, declared

        if self.config is None or self.kind == SYMBOLIC:
            return NOTHING
        raw = dict(self.beside.get(PRESET_STORAGE, {})) | self.config.raw.copied()
        return declared(raw, self.config.where, self.beside.get(HF_QUANT))

    @cached_property
    def architecture(self) -> Architecture:
        """What the model computes; InputError where its config is not known or has no family."""
        if self.config is None:
            if self.header is not None and self.header.kind == "safetensors" and not self.header.missing:
                from estimator.headers.alone import architecture

                return architecture(self.name, self.header)
            raise self._unknown()
        if self.library:
            from estimator.library import build as built

            return built(self.config)
        from estimator.families import build

        made = build(self.config)
        if not self.part:
            return made
        if not made.towers:
            raise InputError(f"--part {self.part}: {self.name} has no part beside its text")
        return made._replace(towers=())

    def _unknown(self) -> InputError:
        if self.strange:
            what = "of a {} only the weights are known, from its file: no caches, activations, FLOPs or times"
            return InputError(f"{self.name}: {what.format(self.strange)}")
        return InputError(
            f"{self.name}: holds tensors but no architecture; put the model's config.json beside it "
            "(llmcalc models FILE counts the tensors)"
        )

    @property
    def described(self) -> Architecture:
        """The architecture where what it computes is known too; InputError where its weights alone are."""
        made = self.architecture
        if self.config is None:
            raise self._unknown()
        if made.counted_only:
            from estimator.families.common_gguf import elsewhere

            raise InputError(
                f"{self.name}: of a {made.model_type} only the weights are known (parameters, bytes, peft and zero), "
                f"not what is computed with them: no caches, activations, FLOPs or times{elsewhere(made)}"
            )
        return made

    @property
    def derives(self) -> bool:
        """Whether it was loaded for a derivation: its sizes are traced numbers."""
        return bool(self.config and self.config.traced)

    def in_numbers(self) -> Model:
        """The same model with plain numbers for sizes, also in a run that derives: for what is not derived."""
        if self.config is None or not self.config.traced:
            return self
        return replace(self, config=Config(self.config.raw, False, self.config.where))

    def scored(self) -> Model:
        """The same model with one score a sequence in its head's place, as ``...ForSequenceClassification`` has it.

        InputError where its family has no such class.
        """
        from estimator.families.base import LANGUAGE_MODELS

        end = "ForSequenceClassification"
        made = self.architecture
        if made.facts.get("class") == end:
            return self
        if self.config is not None and made.kind == "decoder":
            raw = {k: v for k, v in self.config.raw.copied().items() if k not in ("id2label", "label2id")}
            named = str(next(iter(raw.get("architectures") or ()), "Model"))
            stem = next((named.removesuffix(x) for x in LANGUAGE_MODELS if named.endswith(x)), "Model")
            raw |= {"architectures": [stem + end], "num_labels": 1}
            config = Config(raw, self.config.traced, self.config.where)
            out = replace(self, config=config, header=None, expect={})
            if out.architecture.facts.get("class") == end:
                return out
        raise InputError(f"{self.name}: a {made.model_type} with one score a sequence ({end}) is not described")

    @property
    def notes(self) -> tuple[str, ...]:
        """Guesses and findings, each a sentence, for notes and assumptions; read after :attr:`architecture`."""
        if self.config is None:
            return self.own_notes
        found = (*self.own_notes, *self.config.notes)
        if self.library or self.kind not in ("file", "hub") or "architecture" not in self.__dict__:
            return found
        from estimator.sources.foreign import sizes_not_read

        return (*found, *sizes_not_read(self.config.raw.copied(), self.config.raw.read, self.config.where))

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


def load_model(
    text: str, overrides: Sequence[str] = (), traced: bool = False, part: str = "", library: bool = False
) -> Model:
    """The model that ``--model`` names.

    overrides: ``FIELD=VALUE`` texts of ``--set``; VALUE is JSON where it parses as JSON, and ``a.b`` is field b of a.
    traced: sizes become traced numbers (``--derive``). part, library: see :class:`Model`. Raises InputError for
    everything that cannot be read.
    """
    if part not in PARTS:
        raise unknown("--part", part, PARTS[1:])
    found = find(text.strip())
    asked = (text.strip(), *overrides)
    strange = "" if library or part or overrides else _strange(found)
    if strange:
        note = f"{found.where}: a {strange} is not known; {found.header.path} is counted, its weights alone"  # type: ignore[union-attr]
        return Model(
            found.name, "header", None, (*found.notes, note), header=found.header, asked=asked, strange=strange
        )
    if found.raw is None:
        if overrides:
            raise InputError(f"--set: {text[:100]} has no config to set a field of")
        notes = tuple(found.notes)
        return Model(found.name, found.kind, None, notes, {}, found.header, asked=asked, options=found.options)
    if overrides:
        return _said(_overridden(found, overrides, traced, part, library), found, asked)
    read = list(found.notes)
    if found.header is not None:
        from estimator.headers.compare import compare

        read += compare(Config(found.raw, where=found.where), found.header)
    config = Config(found.raw, traced or found.kind == SYMBOLIC, where=found.where)
    if part:  # another model than the preset's or the file's
        made = Model(found.name, found.kind, config, tuple(read), beside=found.beside, mix=found.mix)
    else:
        made = Model(found.name, found.kind, config, tuple(read), found.expect, found.header, found.beside, found.mix)
    return _said(replace(made, part=part, library=library), found, asked)


def _strange(found: Found) -> str:
    """The model_type that nothing here knows, where all its plain weights are in the files beside the config."""
    kind = found.raw.get("model_type") if found.raw else None
    if not isinstance(kind, str) or not kind or found.header is None:
        return ""
    from estimator.families import described

    if described(kind):
        return ""
    from estimator.headers.alone import whole

    return kind[:60] if whole(found.header) else ""


def _overridden(found: Found, overrides: Sequence[str], traced: bool, part: str, library: bool) -> Model:
    """Another model than the preset's or the file's: its counts and its file are not these."""
    from estimator.sources.overrides import set_fields, unread

    assert found.raw is not None
    raw, new = set_fields(found.raw, overrides)
    config = Config(raw, traced or found.kind == SYMBOLIC, where=f"{found.where} with --set")
    made = Model(found.name, found.kind, config, tuple(found.notes), beside=found.beside, mix=found.mix)
    made = replace(made, part=part, library=library)
    if not new:
        return made
    _ = made.architecture  # what its class reads is known once it is built
    notes = unread(new, found.raw, config.raw.read, config.raw.spelt)
    return replace(made, own_notes=(*made.own_notes, *notes))


def _said(model: Model, found: Found, asked: tuple[str, ...]) -> Model:
    """The model with what its files say loudly: of their storage, of a class that is not the one that is counted."""
    said = list(model.declared.notes)
    if found.kind in ("file", "hub") and model.config is not None:
        from estimator.families import FAMILIES
        from estimator.sources.foreign import foreign

        said += foreign(model.config.raw.copied(), FAMILIES, model.config.where)
    return replace(model, own_notes=(*model.own_notes, *said), asked=asked, options=found.options)
