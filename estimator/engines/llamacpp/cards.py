"""The cards of a question: ``--gpu A,B``, or ``--gpus N`` of one."""

from __future__ import annotations

from typing import Any

from estimator.card import Card, find_card
from estimator.errors import InputError
from estimator.sizes import size_option
from estimator.trace import value_of

MAX_DEVICES = 16  # GGML_CUDA_MAX_DEVICES, ggml/include/ggml-cuda.h


def card_names(q: Any) -> list[str | None]:
    """The GPUs by name, in order; [None] where ``--gpu`` is not given. InputError where number and names differ."""
    names: list[str | None] = [None] if q.gpu is None else [n.strip() for n in str(q.gpu).split(",")]
    if "" in names:
        raise InputError(f"--gpu {q.gpu}: names of GPUs with commas between them")
    given = getattr(q, "gpus", None)
    n = 1 if given is None else int(value_of(size_option(None, given, "--gpus", "gpus")))
    if n > 1 and (q.gpu is None or len(names) > 1) and n != len(names):
        raise InputError(f"--gpus {n}, but --gpu names {0 if q.gpu is None else len(names)}")
    if max(n, len(names)) > MAX_DEVICES:
        raise InputError(f"--gpus {max(n, len(names))}: llama.cpp takes at most {MAX_DEVICES} devices")
    return names * n if len(names) == 1 else names


def cards_of(q: Any) -> tuple[Card, ...]:
    """The cards, in order."""
    names = card_names(q)
    if q.gpu is None and q.gpu_memory is None:
        return ()
    return tuple(find_card(n, q.gpu_memory).beside(getattr(q, "ram", None)) for n in names)
