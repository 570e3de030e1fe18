"""Bytes of a model's weights in a storage scheme: exact per tensor, and which tensors a scheme leaves alone.

A *format* (:mod:`estimator.dtypes`) says how numbers are packed; a *scheme* is what a library does to a model with it.
bitsandbytes replaces ``torch.nn.Linear`` (and GPT-2's Conv1D) except the output layer; embeddings, norms, biases and
routers stay in the base type, and so do experts that are one stacked tensor. GPTQ, AWQ, FP8 and NVFP4 checkpoints hold
every expert as a matrix of its own and quantise it too. llama.cpp's mixes: :mod:`estimator.storage.gguf_mix`.
"""

from __future__ import annotations

from estimator.dtypes import find_format
from estimator.errors import unknown
from estimator.families.base import Architecture
from estimator.names import read
from estimator.storage.base import Storage, Stored, plain
from estimator.storage.schemes import SCHEMES, scheme_storage

__all__ = ["SCHEMES", "Storage", "Stored", "schemes", "stored_weights"]


def schemes() -> tuple[str, ...]:
    """Every name that ``--quantization`` takes beside "none"."""
    from estimator.storage.gguf_mix import MIXES

    return (*SCHEMES, *MIXES)


def stored_weights(arch: Architecture, quantization: str = "none", base: str = "bf16") -> Storage:
    """The weights of ``arch`` in a scheme, what it does not touch in the format ``base``.

    quantization: "none", a name of SCHEMES or a llama.cpp mix such as ``q4_k_m``. InputError for other names.
    """
    fmt = find_format(base)
    key = read("quantization", quantization)
    if key == "none":
        return Storage(tuple(plain(w, fmt) for w in arch.weights()))
    from estimator.storage.gguf_mix import MIXES, mix_storage

    if key in MIXES:
        return mix_storage(arch, key)
    if key not in SCHEMES:
        raise unknown("--quantization", quantization, ("none", *schemes()))
    return scheme_storage(arch, SCHEMES[key], fmt)
