"""From the text of ``--model`` to a :class:`Found`: letters, the hub, a preset, a path, the hub's cache."""

from __future__ import annotations

from estimator import presets
from estimator.errors import InputError
from estimator.sources.found import Found
from estimator.stand_ins import stand_in

SYMBOLIC = "symbolic"
_LETTERS = ("num_hidden_layers", "hidden_size", "num_attention_heads")  # what the textbook transformer is given in
PRESET_STORAGE = "storage"  # what a preset says of its checkpoint: fields of its config.json


def find(text: str) -> Found:
    """The model that a text names. InputError with the nearest names where there is none."""
    if not text:
        raise InputError("--model is empty; list the presets with: llmcalc models")
    if text == SYMBOLIC:
        return Found(SYMBOLIC, SYMBOLIC, SYMBOLIC, {"model_type": SYMBOLIC, **{f: stand_in(f) for f in _LETTERS}})
    if on_the_hub(text):
        from estimator.sources.hub import from_hub

        return from_hub(text)
    preset = presets.find("models", text)
    if preset is not None:
        name, data = presets.load_model_preset(preset)
        return Found(
            name, "preset", f"presets/models/{name}.json", data["config"], expect=data.get("expect", {}),
            beside={PRESET_STORAGE: data.get("storage", {})},
        )  # fmt: skip
    from estimator.sources.files import as_path, from_path

    path = as_path(text)
    if path is not None:
        from estimator.sources.modelfile import from_modelfile, is_modelfile

        return from_modelfile(path, find) if is_modelfile(path) else from_path(path)
    from estimator.sources import ollama_mappings

    named = ollama_mappings.named(text)
    if named is not None:
        found = find(named.preset)
        found.mix = named.mix
        default = "" if named.said else ", taken as its default: the tag says no mix (ollama show prints it)"
        found.notes.append(f"{text}: Ollama's name of {named.preset} in {named.mix}{default}")
        return found
    from estimator.sources.hub import REPO, TAGGED, from_cache, from_hub

    if TAGGED.match(text):
        return from_hub(text)
    repo = REPO.match(text) is not None
    cached = from_cache(text) if repo else None
    if cached is not None:
        return cached
    from estimator.sources.near import hint, trained_from

    variant = trained_from(text)
    if variant is not None:
        found = find(variant[0])
        found.notes.append(variant[1])
        return found
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise InputError(f"unknown model {shown!r}. {hint(text, repo)}")


def by_another_name(text: str) -> bool:
    """Whether a text is a tag of Ollama's, or the name of a checkpoint that has a preset's shapes."""
    from estimator.sources import ollama_mappings
    from estimator.sources.near import trained_from

    return (":" in text and ollama_mappings.named(text) is not None) or trained_from(text) is not None


def on_the_hub(text: str) -> bool:
    """Whether a text means the hub: ``hf:`` or a pasted address."""
    return text.startswith(("hf:", "https://", "http://", "huggingface.co/", "hf.co/"))
