"""X-LoRA: frozen LoRA adapters, mixed a token by a trained classifier of the hidden state.

Sources: Buehler and Buehler 2024, arXiv 2402.07148; peft 0.21.2, tuners/xlora/classifier.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from estimator.families.base import Architecture
from estimator.peft import lora
from estimator.peft.base import BASE, FROZEN, Adapter, Args, Build, Method, PeftTensor
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.machine import Machine
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.tape import BOOL, F32, I64, Tensor

DEFAULT_ADAPTERS = 4


def build(b: Build) -> Iterator[PeftTensor]:
    """n LoRAs (frozen unless ``use_trainable_adapters``) and a classifier hidden -> ... -> n (times the
    adapted modules)."""
    a = b.args
    n = experts(a)
    if a["adapters"] is None:
        b.notes.append(f"adapters is not given: {DEFAULT_ADAPTERS} LoRA adapters assumed")
    state = "trained" if a.flag("use_trainable_adapters") else FROZEN
    for t in lora.build(b):
        yield t._replace(times=t.times * n, state=state, saved=False)
    hidden = a.count("hidden_size") if a.has("hidden_size") else b.arch.hidden
    if not a.has("hidden_size"):
        b.notes.append("hidden_size is not given: the model's width taken (the library takes 4096)")
    depth, size = a.count("xlora_depth"), a.count("xlora_size")
    out = n * sum(m.times for m in b.targets) if a.flag("layerwise_scalings") else n
    widths = [hidden, *[size] * (int(depth) - 1), out]
    for i, (wide, narrow) in enumerate(itertools.pairwise(widths)):
        yield PeftTensor("", f"internal_xlora_classifier.{i}.weight", (narrow, wide), format=BASE)
        yield PeftTensor("", f"internal_xlora_classifier.{i}.bias", (narrow,), format=BASE)


def adapters(adapter: Adapter) -> tuple[Any, Any]:
    """How many LoRAs a target has, and how many targets there are."""
    return experts(adapter.args), sum((m.times for m in adapter.targets), 0)


def experts(a: Args) -> Any:
    """How many LoRAs a target has."""
    given = a["adapters"]
    return len(given) if isinstance(given, dict | list) else DEFAULT_ADAPTERS if given is None else a.count("adapters")


def ahead(adapter: Adapter, m: Machine, arch: Architecture, run: Callable[[], Any], checkpointing: bool) -> None:
    """XLoraModel._enable_peft_forward_hooks: the model runs once without gradients, scalings all alike, down to its
    loss, and names every layer's output; the classifier makes the scalings of the last."""
    t, (many, targets) = m.t, adapters(adapter)
    if not m.training:
        return
    n = m.rows * targets * many
    grad, t.grad = t.grad, False
    states = t.alloc((arch.num_layers + 1) * m.rows * arch.hidden, m.w, "hidden states of the scaling pass")
    m.beside["scalings"] = t.alloc(n, m.w, "scalings, all alike")
    out = run()
    t.grad = grad
    x = t.alloc(m.rows * arch.hidden, m.w, "last hidden state of the scaling pass")
    x = classified(adapter, m, x)
    if not adapter.args.flag("layerwise_scalings"):
        x = ops.repeat(t, x, targets, "scalings of all targets")
    if adapter.args["enable_softmax"] is not False:
        x = ops.softmax(t, ops.scale(t, x, "scalings over the temperature"), F32 if t.amp else x.w)
    m.beside["scalings"] = x
    del states, out


def classified(adapter: Adapter, m: Machine, x: Tensor) -> Tensor:
    """XLoraClassifier.layers."""
    t = m.t
    parts = [p for p in adapter.tensors if not p.module and p.name.endswith("weight")]
    for p in parts:
        name, (narrow, wide) = p.name.removesuffix(".weight"), p.shape
        weight, bias = (m.param(f"{name}.{of}", k, m.w, True) for of, k in (("weight", p.elements), ("bias", narrow)))
        x = product(t, x, weight, bias, x.n // wide * narrow, "scalings", part=UNLOGGED)
        if p is not parts[-1]:
            x = ops.relu(t, x)
            x = ops.dropout(t, x) if adapter.args["xlora_dropout_p"] not in (0, 0.0) else x
    return x


def forward(s: AdaptedLayer) -> Tensor:
    """XLoraLinearLayer.forward: each LoRA of the input times its scaling, added in place."""
    t, x = s.t, s.x
    many = experts(s.args)
    mine = ops.piece(t, s.handed("scalings", s.rows * many), s.rows * many)
    if s.args.has("top_k_lora"):
        mine = chosen(s, mine)
    if s.flag("enable_softmax_topk"):
        mine = ops.softmax(t, ops.unary(t, mine, "scalings, masked", "input"), F32 if t.amp else mine.w)
        mine = ops.unary(t, mine, "scalings, masked", "input")
    result, (r, d_in) = s.base(), s.shape("lora_A.weight")
    for i in range(s.steps("adapters", many)):
        a, b = s.item("lora_A.weight", i, r * d_in), s.item("lora_B.weight", i, r * s.d_out)
        x = ops.to(t, x, a.w)
        mixed = ops.mul(t, x, ops.piece(t, mine, s.rows), "input, scaled")
        change = s.linear(s.linear(s.dropped(mixed, "lora_dropout"), a, s.rows * r), b)
        change = ops.scale(t, ops.scale(t, change, "LoRA output"), "LoRA output")
        result = ops.add_into(t, result, change)
        del change
    return ops.to(t, result, s.w)


def chosen(s: AdaptedLayer, mine: Tensor) -> Tensor:
    """get_maybe_topk_scalings: those of the largest alone."""
    t, k = s.t, s.args.count("top_k_lora")
    found = t.alloc(s.rows * k, I64, "places of the largest")
    mask = t.alloc(mine.n, BOOL, "mask of the largest")
    kept = ops.to(t, mask, mine.w)
    del found, mask
    return ops.mul(t, mine, kept, "scalings, chosen")


METHOD = Method(
    name="xlora",
    title="X-LoRA",
    cite="Buehler and Buehler 2024, arXiv 2402.07148; peft 0.21.2, tuners/xlora/classifier.py",
    build=build,
    args={
        **lora.ARGS,
        "adapters": None,
        "hidden_size": None,
        "layerwise_scalings": False,
        "xlora_depth": 1,
        "xlora_size": 2048,
        "use_trainable_adapters": False,
    },
    accepts=f"{lora.ACCEPTS} enable_softmax enable_softmax_topk xlora_dropout_p softmax_temperature "
    f"top_k_lora scaling_pass_value "
    "global_scaling_weight",
    kinds=lora.KINDS,
    mapping="lora",
    merges=False,
    wide=True,
    recomputes=False,
    work=lora.work,
    ahead=ahead,
    forward=forward,
)
