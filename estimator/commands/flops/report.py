"""FLOPs of a forward pass, a training step or a decode step: folds over the list of products."""

from __future__ import annotations

from typing import Any

from estimator.commands.flops import tables
from estimator.commands.flops.passes import CONVENTIONS, Pass, plan
from estimator.commands.flops.question import Flops
from estimator.dtypes import find_format
from estimator.families.base import Attention
from estimator.formula import Citation
from estimator.models import Model
from estimator.names import choice
from estimator.questions import ask
from estimator.report import Node, Report, Table, Text
from estimator.trace import recording, value_of
from estimator.units import FLOPS, Unit
from estimator.work.folds import Group, by_part
from estimator.work.product import MULTIPLY_ADD
from estimator.working import Step, Working, alike, over, plus, stands

FLOPS_PER_TOKEN = Unit("FLOPs/token", "FLOP/token", "decimal")
COUNTER = Citation("torch 2.13, torch/utils/flop_counter.py, on transformers 5.23's models")


def flops(model: Model | str, **options: Any) -> Report:
    """FLOPs of one pass through ``model``, by module, operator and layer, beside the rules of thumb.

    options: the fields of :class:`~.question.Flops`. attention_flops: "full" or "causal". gpu: a
    preset, for the roofline; seconds: a measured time of this pass, for MFU and HFU under both conventions.
    """
    return answer(ask(Flops, model, options))


def answer(q: Flops) -> Report:
    """The report of a question."""
    attention_flops, dtype, gpu, seconds, model = q.attention_flops, q.dtype, q.gpu, q.seconds, q.model
    choice(attention_flops, "--attention-flops", tuple(CONVENTIONS))
    if model.library:
        from estimator.commands.flops.library import counted

        return counted(q)
    made = plan(q)
    causal = attention_flops == "causal"
    whole = Group("", made.list, causal)
    fmt = find_format(dtype)
    if recording.get() is not None:  # a sweep: numbers without words
        return Report("flops", "", {}, (_tree(made, whole, causal),), hidden=tables.rules_of_thumb(made, whole)[1])
    body: list[Node | Table | Text] = [
        _tree(made, whole, causal),
        tables.operators(made, causal),
        tables.layers(made, causal, fmt.bits_per_weight, gpu, dtype),
    ]
    thumb, conventions = tables.rules_of_thumb(made, whole)
    if thumb.rows:
        body.append(thumb)
    if seconds is not None:
        body.append(tables.utilisation(made, seconds, gpu, dtype))
    roof = None
    if gpu is not None and not _symbolic(made):
        from estimator.commands.flops.roofline import roofline

        roof = roofline(made.list, causal, gpu, dtype, fmt)
        body.append(roof.table())
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
        hidden=conventions,
        figure=None if roof is None else roof.figure,
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
    how = "" if made.method == "full" or w.mode != "training" else f", {made.method}"
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
        return [
            Node(f"{what}.{_key(g.name)}", g.name, getattr(g, what), FLOPS, working=_products(g, what))
            for g in parts
            if getattr(g, what) != 0
        ]

    passes = [Node.sum("forward_flops", "Forward", rows("forward"))]
    if training:
        passes.append(_sum("backward_flops", "Backward", rows("backward")))
        if made.work.checkpointing:
            passes.append(_sum("recompute_flops", "Recomputed by checkpointing", rows("recompute")))
    attention = Group("", tuple(q for q in made.list if q.part == "attention"), causal)
    more = [
        Node.sum("total_flops", "FLOPs", passes),
        Node(
            "attention_flops", "of which attention (scores and values)", attention.total, FLOPS,
            working=lambda: [Step("of the above, attention in every pass", plus(*_passes(attention)))],
        ),
        Node(
            "flops_per_token", "a token", _ratio(whole.total, made.tokens), FLOPS_PER_TOKEN,
            working=lambda: [Step("all FLOPs over all tokens", over(whole.total, made.tokens))],
        ),
    ]
    if not training:
        more.append(Node("backward_flops", "Backward", 0, FLOPS, note="none without training"))
    if whole.overcount != 0:
        more.append(Node("counter_overcount_flops", "counted and not executed", whole.overcount, FLOPS))
    return Node.group("", more)


PRODUCT = "a product of m x k by k x n takes 2 m k n FLOPs: a multiply-add is two"
AGAIN = "; the backward pass multiplies once for each gradient: of the input, and of a weight that is trained"


def _products(g: Group, what: str) -> Working:
    """The products of a group counted: name, m x k x n, how many."""

    def steps() -> list[Step]:
        rows, whole = [], Group(g.name, tuple(q for q in g.products if getattr(q, what)(g.causal) != 0), g.causal)
        for q in whole.products:
            runs = q.gradients if what == "backward" else 1
            if q.overcount != 0 or q.operator == "backward" or (g.causal and q.pairs is not None):
                return []  # a miscount or a mask: no plain product
            name = q.name.rpartition("{i}.")[2] or q.name
            rows.append((name, "", (q.m, q.k, q.n), q.times * q.count * runs))
        items = alike(rows, MULTIPLY_ADD)
        rule = PRODUCT + (AGAIN if what == "backward" else "")
        return [Step(rule, plus(*(i.term for i in items)), items)]

    return steps


def _passes(g: Group) -> list[Any]:
    """A group's FLOPs pass by pass."""
    return [x for x in (g.forward, g.backward, g.recompute) if stands(x)] or [0]


def _sum(key: str, label: str, rows: list[Node]) -> Node:
    return Node.sum(key, label, rows) if rows else Node(key, label, 0, FLOPS)


def _key(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def _ratio(a: Any, b: Any) -> Any:
    return a // b if a % b == 0 else a / b
