"""From options to one pass, ready to fold: what ``flops`` and ``train`` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from estimator.errors import InputError, unknown
from estimator.families.base import Architecture, Attention
from estimator.models import Model
from estimator.sizes import size_option
from estimator.work.adapters import trainable
from estimator.work.model import products
from estimator.work.product import Product
from estimator.work.trainable import Trainable
from estimator.work.workload import RESIDUAL_DROPOUT, Workload, fused_exists

MODES = ("forward", "training", "decode")
ATTENTIONS = ("eager", "sdpa")
DEFAULT_TOKENS = 2048
DEFAULT_CONTEXT = 1024
CONVENTIONS = {
    "full": "attention counts every query-key pair, masked ones too (FlopCounterMode, PaLM)",
    "causal": "attention counts only the pairs that causal masks and windows leave (what a fused kernel computes)",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass, ready to fold: the model, the workload, its products, and what was assumed on the way."""

    model: Model
    arch: Architecture
    work: Workload
    list: tuple[Product, ...]
    tokens: Any
    notes: tuple[str, ...]
    method: str
    train: Trainable


def choice(value: str, flag: str, options: Sequence[str]) -> str:
    """``value`` if it is one of ``options``; InputError with the nearest otherwise."""
    if value not in options:
        raise unknown(flag, value, options)
    return value


def plan(
    model: Model,
    *,
    batch_size: Any = 1,
    seq_len: Any = None,
    mode: str = "forward",
    method: str | None = None,
    rank: Any = None,
    targets: str | None = None,
    args: Mapping[str, Any] | None = None,
    trainable_layers: Any = None,
    context: Any = None,
    encoder_len: Any = None,
    logits: str = "all",
    attention: str = "sdpa",
    checkpointing: str = "none",
    uncapped: bool = False,
) -> Pass:
    """The products of one pass; uncapped: see :class:`estimator.work.workload.Workload`.

    Raises InputError for options that do not exist or contradict each other.
    """
    choice(mode, "--mode", MODES)
    choice(logits, "--logits", ("all", "last"))
    choice(attention, "--attention", ATTENTIONS)
    choice(checkpointing, "--checkpointing", ("none", "full"))
    arch = model.architecture
    notes: list[str] = []
    b = size_option(model, batch_size, "--batch-size", "batch_size", "length")
    decode = mode == "decode"
    if decode and arch.kind == "encoder":
        raise InputError(f"--mode decode: {model.name} is an encoder and generates nothing")
    if decode and seq_len is not None:
        raise InputError(
            "--mode decode takes --context (cached tokens), not --seq-len: a decode step has one new token"
        )
    if not decode and context is not None:
        raise InputError("--context is for --mode decode")
    s = 1 if decode else size_option(model, _length(arch, seq_len, notes), "--seq-len", "seq_len", "length")
    held = (
        size_option(model, DEFAULT_CONTEXT if context is None else context, "--context", "context", "length")
        if decode
        else 0
    )
    encoder = None if encoder_len is None else size_option(model, encoder_len, "--encoder-len", "encoder_len", "length")
    if encoder is not None and arch.kind != "encoder-decoder":
        raise InputError(f"--encoder-len: {model.name} has no encoder beside its decoder")
    r = None if rank is None else size_option(model, rank, "--rank", "rank")
    layers = None
    if trainable_layers is not None:
        layers = size_option(model, trainable_layers, "--trainable-layers", "trainable_layers")
    train, found = trainable(model, method, r, targets, args, layers)
    notes += found
    attends = any(isinstance(g.mixer, Attention) for g in arch.layers)
    if attention == "sdpa" and attends and not fused_exists(arch, uncapped):
        notes.append(f"transformers has no fused attention for {arch.model_type}: counted as eager")
    elif attention == "sdpa" and attends and not fused_exists(arch):
        notes.append(f"{arch.model_type}: SDPA without the soft cap, as transformers 5.17 runs it (--attention eager)")
    dropout = _dropout(model, arch)
    if checkpointing == "full" and mode == "training" and dropout > 0:
        notes.append(
            f"the config's residual dropout of {dropout:g} makes checkpointing recompute each layer's last product too"
        )
    fused, checkpointed = attention == "sdpa", checkpointing == "full"
    work = Workload(mode, b, s, held, encoder, logits == "last", fused, checkpointed, dropout, uncapped=uncapped)
    return Pass(
        model, arch, work, tuple(products(arch, work, train)), b * s, tuple(notes), (method or "full").lower(), train
    )


def _length(arch: Architecture, given: Any, notes: list[str]) -> Any:
    if given is not None:
        return given
    known = arch.max_positions
    made = DEFAULT_TOKENS if known is None or known >= DEFAULT_TOKENS else known
    notes.append(f"--seq-len not given: {made} tokens")
    return made


def _dropout(model: Model, arch: Architecture) -> float:
    field, default = RESIDUAL_DROPOUT.get(arch.model_type, ("", 0.0))
    return model.config.number(field, default) if field and model.config else 0.0
