"""Bytes of a model's weights in a storage scheme: exact per tensor, and which tensors a scheme leaves alone.

A *format* (:mod:`estimator.dtypes`) says how numbers are packed; a *layout* how one matrix lies in a library's file; a
*scheme* what a library does to a model with it. bitsandbytes replaces ``torch.nn.Linear`` (and GPT-2's Conv1D) except
the output layer; embeddings, norms, biases and routers stay in the base type, and so do experts that are one stacked
tensor. GPTQ, AWQ, FP8 and NVFP4 checkpoints hold every expert as a matrix of its own and quantise it too. llama.cpp's
mixes: :mod:`estimator.storage.gguf_mix`. What a checkpoint says of itself: :mod:`estimator.storage.checkpoint`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from estimator.dtypes import ALIASES, Format, find_format
from estimator.errors import unknown
from estimator.families.base import Architecture
from estimator.names import read
from estimator.same import Same
from estimator.storage.base import Storage, Stored, plain
from estimator.storage.schemes import SCHEMES, Scheme, scheme_storage

if TYPE_CHECKING:
    from estimator.models import Model

__all__ = ["SCHEMES", "Scheme", "Storage", "Stored", "model_storage", "schemes", "stored_weights"]
BASE = "bf16"  # of a checkpoint that does not say
TYPES = ("fp32", "bf16", "fp16")  # which all weights may have


def schemes() -> tuple[str, ...]:
    """Every name that ``--quantization`` takes beside "none"; some take parameters (``gptq-3bit-g128``)."""
    from estimator.storage.gguf_mix import MIXES
    from estimator.storage.named import NAMES

    return (*NAMES, *MIXES)


def stored_weights(arch: Architecture, quantization: str = "none", base: str = BASE) -> Storage:
    """The weights of ``arch`` in a scheme, what it does not touch in the format ``base``.

    quantization: "none", a name of :func:`schemes` or a llama.cpp mix such as ``q4_k_m``. InputError for other names.
    """
    fmt = find_format(base)
    key = read("quantization", quantization)
    if key == "none":
        return _unquantised(Same(arch), fmt)
    from estimator.storage.gguf_dynamic import nearest, said
    from estimator.storage.gguf_mix import MIXES, mix_storage

    if key in MIXES:
        return mix_storage(arch, key)
    like = nearest(key, MIXES)
    if like is not None:
        made = mix_storage(arch, like)
        return Storage(made.parts, (said(key, like), *made.notes))
    from estimator.storage.named import named_scheme

    scheme = named_scheme(key)
    if scheme is None:
        plainly = ALIASES.get(key, key) in TYPES
        hint = f"The type of all weights is --dtype {key}" if plainly else "Names: llmcalc docs formats"
        raise unknown("--quantization", quantization, () if plainly else ("none", *schemes()), hint)
    return scheme_storage(arch, scheme, fmt)


@lru_cache(maxsize=64)
def _unquantised(arch: Same[Architecture], fmt: Format) -> Storage:
    return Storage(tuple(plain(w, fmt) for w in arch.it.weights()))


def model_storage(
    model: Model, quantization: str | None = None, base: str | None = None, linear_class: str | None = None
) -> Storage:
    """The weights of ``model`` as they are stored, weight by weight: the one question that commands and engines ask.

    quantization: a name as in :func:`stored_weights`, "none" for plain weights; None is what the checkpoint says of
    itself. base: the format of what is not quantised; None is the checkpoint's own, else bf16. linear_class: of the
    matrices in code that is not transformers'.
    """
    from estimator.storage.file import base_format, with_file

    fmt = base or base_format(model)
    if quantization is not None:
        arch = model.architecture
        if linear_class not in (None, arch.linear_class):
            arch = arch._replace(linear_class=linear_class)
        return stored_weights(arch, quantization, fmt)
    said = model.declared
    if said.scheme is None:
        made = stored_weights(model.architecture, "none", fmt)
    else:
        made = scheme_storage(model.architecture, said.scheme, find_format(fmt))
    if base is None and said.dtype is None and model.header is None and model.config and model.kind in ("file", "hub"):
        made = replace(made, notes=(*made.notes, f"{model.config.where}: states no dtype; {fmt} was taken"))
    return with_file(model, made, compare=base is None)
