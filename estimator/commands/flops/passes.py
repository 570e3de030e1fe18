"""From options to one pass, ready to fold: what ``flops`` and ``train`` share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.commands.flops.question import Flops
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention
from estimator.families.towers import walked
from estimator.models import Model
from estimator.names import choice
from estimator.questions.images import seen
from estimator.questions.read import adapter_of, batch, split_cast, tokens
from estimator.records import dataclass
from estimator.sizes import size_option
from estimator.work.product import Product
from estimator.work.run import products
from estimator.work.workload import PassSizes, fused_exists

if TYPE_CHECKING:
    from estimator.peft.base import Adapter

MODES = ("forward", "training", "decode")
ATTENTIONS = ("eager", "sdpa")
DEFAULT_CONTEXT = 1024
CONVENTIONS = {
    "full": "attention counts every query-key pair, masked ones too (FlopCounterMode, PaLM)",
    "causal": "attention counts only the pairs that causal masks and windows leave (what a fused kernel computes)",
}


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass, ready to fold: the model, the workload, its products, and what was assumed on the way.

    cast: whether get_peft_model casts what an adapter adds to fp32.
    """

    model: Model
    arch: Architecture
    work: PassSizes
    list: tuple[Product, ...]
    tokens: Any
    notes: tuple[str, ...]
    method: str
    adapter: Adapter | None
    cast: bool


def plan(q: Flops) -> Pass:
    """The products of one pass; ``q.uncapped``: see :class:`estimator.work.workload.PassSizes`.

    Raises InputError for options that do not exist or contradict each other.
    """
    model, mode = q.model, q.mode
    choice(mode, "--mode", MODES)
    choice(q.logits, "--logits", ("all", "last"))
    choice(q.attention, "--attention", ATTENTIONS)
    choice(q.checkpointing, "--checkpointing", ("none", "full"))
    if q.checkpointing != "none" and mode != "training":
        raise InputError(f"--checkpointing {q.checkpointing} is of a training step: add --mode training")
    arch = model.described
    notes: list[str] = []
    b = batch(model, q.batch_size)
    decode = mode == "decode"
    if decode and arch.kind == "encoder":
        raise InputError(f"--mode decode: {model.name} is an encoder and generates nothing")
    if decode and q.seq_len is not None:
        raise InputError(
            "--mode decode takes --context (cached tokens), not --seq-len: a decode step has one new token"
        )
    if not decode and q.context is not None:
        raise InputError("--context is for --mode decode")
    s = 1 if decode else tokens(model, q.seq_len, notes)
    context = DEFAULT_CONTEXT if q.context is None else q.context
    held = size_option(model, context, "--context", "context", "length") if decode else 0
    encoder = q.encoder_len
    if encoder is not None:
        encoder = size_option(model, encoder, "--encoder-len", "encoder_len", "length")
    if encoder is not None and arch.kind != "encoder-decoder":
        raise InputError(f"--encoder-len: {model.name} has no encoder beside its decoder")
    args, cast = split_cast(q.args)
    adapter = adapter_of(replace(q, args=args))
    notes += _notes(adapter)
    attends = any(isinstance(g.mixer, Attention) for g in arch.layers)
    if q.forced and attends and not fused_exists(arch, q.uncapped):
        notes.append(f"transformers has no fused attention for {arch.model_type}: timed with one all the same")
    elif q.attention == "sdpa" and attends and not fused_exists(arch, q.uncapped):
        notes.append(f"transformers has no fused attention for {arch.model_type}: counted as eager")
    elif q.attention == "sdpa" and attends and not fused_exists(arch):
        notes.append(f"{arch.model_type}: SDPA without the soft cap, as transformers 5.17 runs it (--attention eager)")
    dropout = _dropout(model, arch)
    if q.checkpointing == "full" and mode == "training" and dropout > 0:
        notes.append(
            f"the config's residual dropout of {dropout:g} makes checkpointing recompute each layer's last product too"
        )
    fused, checkpointed = q.attention == "sdpa", q.checkpointing == "full"
    pictures = seen(model, q.images, q.image_size)
    images = None if decode else pictures
    if images is not None and not all(walked(t) for t in arch.towers if t.kind == "vision"):
        notes.append("the tower's layers are not described: its own FLOPs are left out")
    work = PassSizes(
        mode, b, s, held, encoder, q.logits == "last", fused, checkpointed, dropout,
        uncapped=q.uncapped, forced=q.forced,
    )  # fmt: skip
    made = products(arch, work, adapter)
    if images is not None:
        from estimator.work.seen import tower_products

        made = [*tower_products(arch, work, images, adapter), *made]
    return Pass(
        model, arch, work, tuple(made), b * s, tuple(notes), q.method or "full", adapter, cast,
    )


def _notes(adapter: Adapter | None) -> list[str]:
    """What is said of an adapter; of one whose own products are not known, that too."""
    if adapter is None or adapter.method.name == "freeze":
        return []
    name = adapter.method.name
    known = adapter.method.work is not None or adapter.virtual_tokens
    notes = [] if known else [f"{name}: the adapter's own products are not counted, only what it lets through"]
    return [*notes, *adapter.notes]


def _dropout(model: Model, arch: Architecture) -> float:
    field, default = arch.residual_dropout or ("", 0.0)
    return model.config.number(field, default) if field and model.config else 0.0
