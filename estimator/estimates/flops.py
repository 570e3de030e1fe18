"""FLOPs of a forward pass, a training step or a decode step: folds over the list of products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from estimator.dtypes import find_format
from estimator.errors import InputError, unknown
from estimator.estimates import flops_tables as tables
from estimator.estimates.flops_tables import CONVENTIONS
from estimator.families.base import Architecture, Attention
from estimator.formula import Citation
from estimator.models import Model
from estimator.report import Node, Report, Table, Text
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import FLOPS, Unit
from estimator.work import Product, Trainable, Workload, products
from estimator.work.adapters import FULL_NAMES, trainable
from estimator.work.folds import Group, by_part
from estimator.work.model import RESIDUAL_DROPOUT, fused_exists

MODES = ("forward", "training", "decode")
ATTENTIONS = ("eager", "sdpa")
DEFAULT_TOKENS = 2048
DEFAULT_CONTEXT = 1024
FLOPS_PER_TOKEN = Unit("FLOPs/token", "FLOP/token", "decimal")
COUNTER = Citation("torch 2.13, torch/utils/flop_counter.py, on transformers 5.23's models")


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
) -> Pass:
    """The products of one pass. Raises InputError for options that do not exist or contradict each other."""
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
    if attention == "sdpa" and not fused_exists(arch) and any(isinstance(g.mixer, Attention) for g in arch.layers):
        notes.append(f"transformers has no fused attention for {arch.model_type}: counted as eager")
    dropout = _dropout(model, arch)
    if checkpointing == "full" and mode == "training" and dropout > 0:
        notes.append(
            f"the config's residual dropout of {dropout:g} makes checkpointing recompute each layer's last product too"
        )
    work = Workload(mode, b, s, held, encoder, logits == "last", attention == "sdpa", checkpointing == "full", dropout)
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


def flops(
    model: Model,
    *,
    attention_flops: str = "full",
    dtype: str = "bf16",
    gpu: str | None = None,
    seconds: float | None = None,
    **options: Any,
) -> Report:
    """FLOPs of one pass through ``model``, by module, operator and layer, beside the rules of thumb.

    attention_flops: "full" or "causal". gpu: a preset, for the roofline; seconds: a measured time of this pass, for
    MFU and HFU under both conventions. options: those of :func:`plan`.
    """
    choice(attention_flops, "--attention-flops", tuple(CONVENTIONS))
    made = plan(model, **options)
    causal = attention_flops == "causal"
    whole = Group("", made.list, causal)
    fmt = find_format(dtype)
    body: list[Node | Table | Text] = [
        _tree(made, whole, causal),
        tables.operators(made, causal),
        tables.layers(made, causal, fmt.bits_per_weight, gpu, dtype),
    ]
    thumb = tables.rules_of_thumb(made, whole)
    if thumb.rows:
        body.append(thumb)
    if seconds is not None:
        body.append(tables.utilisation(made, seconds, gpu, dtype))
    if gpu is not None and not _symbolic(made):
        from estimator.work.plot import roofline_text

        body.append(roofline_text(made.list, made.work.mode == "training", gpu, dtype, fmt))
    return Report(
        "flops",
        _title(made, attention_flops),
        _inputs(made, attention_flops, dtype, gpu),
        tuple(body),
        {},
        _assumptions(made, attention_flops, whole),
        (COUNTER,),
        (*model.notes, *made.notes),
        symbolic=_symbolic(made),
    )


def _symbolic(made: Pass) -> bool:
    return made.model.kind == "symbolic"


def _n(made: Pass, value: Any) -> str:
    return str(value.expr) if _symbolic(made) and hasattr(value, "expr") else f"{value_of(value):,}"


def _title(made: Pass, convention: str) -> str:
    w, what = (
        made.work,
        {"forward": "a forward pass", "training": "a training step", "decode": "a decode step"}[made.work.mode],
    )
    size = f"{_n(made, w.b)} x {_n(made, w.s)} tokens"
    if w.mode == "decode":
        size = f"{_n(made, w.b)} new tokens, {_n(made, w.context)} cached each"
    how = "" if made.method in FULL_NAMES or w.mode != "training" else f", {made.method}"
    how += ", every layer checkpointed" if w.checkpointing and w.mode == "training" else ""
    return f"FLOPs of {what} of {made.model.name}: {size}{how}, {convention} attention"


def _inputs(made: Pass, convention: str, dtype: str, gpu: str | None) -> dict[str, Any]:
    w = made.work
    return {
        "model": made.model.name,
        "mode": w.mode,
        "batch_size": w.b,
        "seq_len": w.s,
        "context": w.context or None,
        "method": made.method,
        "logits": "last" if w.last else "all",
        "attention": "sdpa" if w.fused else "eager",
        "checkpointing": "full" if w.checkpointing else "none",
        "attention_flops": convention,
        "dtype": dtype,
        "gpu": gpu,
    }


def _assumptions(made: Pass, convention: str, whole: Group) -> tuple[str, ...]:
    out = ["a multiply-add is 2 FLOPs; only matrix products and convolutions count", CONVENTIONS[convention]]
    if any(q.part == "experts" for q in made.list):
        out.append(
            "a token counts the products of its own routed experts, also where FlopCounterMode misses grouped_mm"
        )
    if made.work.mode == "training" and made.work.fused and any(q.operator == "sdpa" for q in made.list):
        out.append("the fused attention's backward pass computes the scores again: 5 products for 2 forward ones")
    if any(q.part == "state-space scan" for q in made.list):
        out.append(
            "recurrent layers count transformers' PyTorch path; fused kernels do these products unseen by the counter"
        )
    if made.work.mode == "decode" and any(isinstance(g.mixer, Attention) and g.mixer.mla for g in made.arch.layers):
        out.append(
            "transformers expands the latents of all cached tokens anew in every step: kv_b_proj over the whole cache"
        )
    if whole.overcount != 0:
        out.append(
            "total_flops follows FlopCounterMode, whose convolution_backward ignores groups: "
            f"counter_overcount_flops of it ({value_of(whole.overcount):,}) are never executed"
        )
    return (*out, *made.model.notes, *made.notes)


def _tree(made: Pass, whole: Group, causal: bool) -> Node:
    parts = by_part(made.list, causal)
    training = made.work.mode == "training"

    def rows(what: str) -> list[Node]:
        found = [(g.name, getattr(g, what)) for g in parts]
        return [Node(f"{what}.{_key(name)}", name, value, FLOPS) for name, value in found if value != 0]

    passes = [Node.sum("forward_flops", "Forward", rows("forward"))]
    if training:
        passes.append(_sum("backward_flops", "Backward", rows("backward")))
        if made.work.checkpointing:
            passes.append(_sum("recompute_flops", "Recomputed by checkpointing", rows("recompute")))
    attention = Group("", tuple(q for q in made.list if q.part == "attention"), causal)
    more = [
        Node.sum("total_flops", "FLOPs", passes),
        Node("attention_flops", "of which attention (scores and values)", attention.total, FLOPS),
        Node("flops_per_token", "a token", _ratio(whole.total, made.tokens), FLOPS_PER_TOKEN),
    ]
    if not training:
        more.append(Node("backward_flops", "Backward", 0, FLOPS, note="none without training"))
    if whole.overcount != 0:
        more.append(Node("counter_overcount_flops", "counted and not executed", whole.overcount, FLOPS))
    return Node.group("", more)


def _sum(key: str, label: str, rows: list[Node]) -> Node:
    return Node.sum(key, label, rows) if rows else Node(key, label, 0, FLOPS)


def _key(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _ratio(a: Any, b: Any) -> Any:
    return a // b if a % b == 0 else a / b
