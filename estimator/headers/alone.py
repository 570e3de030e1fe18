"""A safetensors file without a config: an inventory of its tensors, whose roles their names say."""

from __future__ import annotations

import re

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.headers import FileTensor, Header
from estimator.inventory import EMBEDDING, EXPERT, HEAD, LINEAR, NORM, NUMBER, OTHER, Weight

TABLES = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "shared")
HEADS = ("lm_head", "output", "embed_out", "proj_out")
NORMS = re.compile(r"(norm|ln_\w+|ln\d?)$", re.IGNORECASE)
PLAIN = ("F64", "F32", "F16", "BF16")  # of weights that nothing has packed


def whole(header: Header) -> bool:
    """Whether all tensors are there, and none is packed."""
    return (
        header.kind == "safetensors" and not header.missing and bool(header.tensors)
        and all(t.dtype in PLAIN for t in header.tensors)
    )  # fmt: skip


def architecture(name: str, header: Header) -> Architecture:
    """The weights alone. InputError where they are packed, so that their sizes are not those of the matrices."""
    groups: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for t in header.tensors:
        if t.dtype not in PLAIN:
            what = f"{name}: {t.name[:60]} in {t.dtype}"
            raise InputError(f"{what}: packed weights need the model's config.json beside it")
        numbers = NUMBER.findall(t.name)
        key = NUMBER.sub("{i}", t.name), t.shape, role_of(t)
        groups.setdefault(key, []).append(int(numbers[0]) if numbers else 0)
    weights = tuple(
        Weight(pattern, shape, len(at), role, tuple(at) if len(set(at)) == len(at) and "{i}" in pattern else None)
        for (pattern, shape, role), at in groups.items()
    )
    layers = max((len(set(at)) for (pattern, _, _), at in groups.items() if "{i}" in pattern), default=1)
    return Architecture(
        model_type="", embeddings=(), layers=(), final=(), head=None, tied=False, vocab=0, hidden=0, num_layers=layers,
        has_head=False, extra_weights=weights, counted_only=True,
    )  # fmt: skip


def role_of(t: FileTensor) -> str:
    """What a tensor is, by its name and the number of its dimensions."""
    module, _, leaf = t.name.rpartition(".")
    last = module.rpartition(".")[2]
    if "expert" in t.name and len(t.shape) == 3:
        return EXPERT
    if NORMS.search(module) and len(t.shape) == 1:
        return NORM
    if leaf != "weight" or len(t.shape) != 2:
        return OTHER
    return EMBEDDING if last in TABLES else HEAD if last in HEADS else LINEAR
