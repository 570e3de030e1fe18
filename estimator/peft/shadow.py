"""ShadowPEFT: a small trained copy of the model runs beside it; every layer reads and updates its state.

Source: peft 0.21.2, tuners/shadow/model.py and layers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build as build_architecture
from estimator.families.base import Architecture
from estimator.inventory import EMBEDDING
from estimator.peft.base import BASE, BUFFER, COMMON, TRAINED, Adapter, Args, Build, Method, PeftTensor
from estimator.peft.modules import Module, containers
from estimator.peft.targets import select
from estimator.stack import ops
from estimator.stack.losses import shifted_loss
from estimator.stack.machine import Machine
from estimator.stack.masks import masks
from estimator.stack.model import FINAL, Segment, embed, head, rope_tables, run_layer
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.tape import Tensor
from estimator.trace import value_of

STACKS = ("model.layers.{i}", "transformer.h.{i}", "model.decoder.layers.{i}", "gpt_neox.layers.{i}", "layers.{i}")
_SIZES = {
    "shadow_num_hidden_layers": "num_hidden_layers",
    "shadow_hidden_size": "hidden_size",
    "shadow_intermediate_size": "intermediate_size",
    "shadow_num_attention_heads": "num_attention_heads",
}


def build(b: Build) -> Iterator[PeftTensor]:
    """Down and up (r), an update network and a gate of width r a layer; a backbone of one layer without its
    token table."""
    a = b.args
    r = b.rank = a.count("r")
    d = b.arch.hidden
    if a["shadow_model"] != "mirror":
        raise a.bad("shadow_model", "other than mirror cannot be counted: its checkpoint decides")
    width = a.count("update_hidden_size") if a.has("update_hidden_size") else r
    if "streams" in b.arch.facts:
        raise InputError(f"--method shadow: {b.model} has several residual streams, of which the state is none")
    found = _targets(b)
    top = None if b.arch.textbook else max(m.indices[-1] for m in found)  # nothing reads what it makes of the state
    for m in found:
        idle = 0 if top is None else int(m.indices[-1] == top)
        yield PeftTensor(m.name, "shadow_down.weight", (r, d), m.times)
        yield PeftTensor(m.name, "shadow_up.weight", (d, r), m.times)
        for part in ("transform", "gate"):
            for name, shape in (
                ("0.weight", (width, d)),
                ("0.bias", (width,)),
                ("3.weight", (d, width)),
                ("3.bias", (d,)),
            ):
                yield PeftTensor(m.name, f"shadow_update_{part}.{name}", shape, m.times, idle=idle)
    yield from _backbone(b)


def _targets(b: Build) -> list[Module]:
    every = [*b.known, *containers(b.known)]
    names, pattern, everything = b.asked()
    if everything:
        raise InputError("--targets all-linear: ShadowPEFT adapts whole layers; leave --targets out")
    if names is None and pattern is None:
        names = [m.name for m in every if m.name in STACKS]
        found = [m for m in every if m.name in STACKS]
        if not found:
            raise InputError(
                f"--method shadow: cannot find the stack of layers of model type {b.arch.model_type!r}; "
                f"name them: --targets"
            )
    else:
        found = select(every, b.rule(names or (), pattern))
        if not found:
            raise InputError(f"--targets: no such module in {b.model}")
    b.targets = found
    return found


def mirrored(a: Args, config: Mapping[str, Any]) -> tuple[Architecture, dict[str, int]]:
    """The backbone: the model's own class, with the sizes that the arguments give, one layer where they give none."""
    raw = dict(config)
    sizes = {field: int(a.count(name)) for name, field in _SIZES.items() if a.has(name)}
    sizes.setdefault("num_hidden_layers", 1)
    spellings = {
        "num_hidden_layers": ("num_hidden_layers", "n_layer"),
        "hidden_size": ("hidden_size", "n_embd", "d_model"),
        "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
        "num_attention_heads": ("num_attention_heads", "n_head"),
    }
    for field, value in sizes.items():
        raw[next((s for s in spellings[field] if s in raw), field)] = value
    if isinstance(raw.get("layer_types"), list):
        raw["layer_types"] = raw["layer_types"][: sizes["num_hidden_layers"]]
    return build_architecture(Config(raw, where="the shadow backbone")), sizes


def _backbone(b: Build) -> Iterator[PeftTensor]:
    a = b.args
    small, sizes = mirrored(a, b.config)
    b.beside = small
    share = a.flag("share_embeddings") and sizes.get("hidden_size", int(b.arch.hidden)) == int(b.arch.hidden)
    head = small.head.name if small.head else "lm_head"
    for w in small.weights():
        shared = share and w.role == EMBEDDING and w.name.endswith("embed_tokens.weight")
        if not shared and not w.name.startswith(head + "."):
            yield PeftTensor("", f"shadow_backbone.{w.name}", w.shape, w.times, format=BASE)
    if sizes.get("hidden_size", int(b.arch.hidden)) != int(b.arch.hidden):
        yield PeftTensor("", "shadow_projection.weight", (b.arch.hidden, sizes["hidden_size"]), format=BASE)
    from estimator.peft.prompts import attention

    rope = attention(b)
    if rope is not None and rope.rope_dim:
        for name in ("inv_freq", "original_inv_freq"):
            yield PeftTensor("", f"shadow_backbone.rotary_emb.{name}", (rope.rope_dim // 2,), 1, BUFFER, saved=False)


def ahead(adapter: Adapter, m: Machine, arch: Architecture, run: Callable[[], Any], checkpointing: bool) -> None:
    """_compute_initial_shadow_state: the backbone, which trains whole in the model's format and is not checkpointed,
    runs on embeddings of its own; the model names its state until the next step."""
    t, small = m.t, adapter.beside
    assert small is not None
    own = {t.name.removeprefix("shadow_backbone.") for t in adapter.tensors if t.state == TRAINED}
    inner = replace(
        m, params={}, shared={}, tables={}, beside={}, unmet=set(), varied={}, layered=None, after=None, prompted=0,
        adapters=lambda name: None, trains=own.__contains__, segment_trains=None, segment_without=frozenset(),
        wrap=None,
    )  # fmt: skip
    with t.at("shadow backbone"):
        wants = checkpointing and m.inputs_want_grad and adapter.args.flag("share_embeddings")
        x = embed(inner, small, None, wants)
        at = {"masks": masks(inner, small), "rope": rope_tables(inner, x.w), "facts": small.facts, "shared": {}}
        for layer in small.layers:
            for _ in range(int(value_of(layer.times))):
                inner.next_layer()
                x = run_layer(inner, x, Segment(layer, 1), at, False)
        for part in small.final:
            x = FINAL[type(part)](inner, x, part)
        projection = next((p for p in adapter.tensors if p.name == "shadow_projection.weight"), None)
        if projection is not None:
            weight = m.param(projection.name, projection.elements, m.w, True)
            x = product(t, x, weight, None, m.rows * arch.hidden, "shadow state", part=UNLOGGED)
    m.beside |= {"state": x, "first": x}


def layer(adapter: Adapter, held: dict[str, PeftTensor], width: int, m: Machine, x: Tensor, run: Any) -> Tensor:
    """ShadowLayer.forward: what the state differs by is injected, the layer runs, and the state is updated."""
    t, n = m.t, m.rows * held["shadow_down.weight"].shape[1]

    def linear(h: Tensor, name: str) -> Tensor:
        made, bias = held[f"{name}.weight"], held.get(f"{name}.bias")
        params = [m.param(f"{p.module}.{p.name}", prod(p.shape), width, True) for p in (made, bias) if p is not None]
        return product(
            t, h, params[0], params[1] if len(params) > 1 else None, m.rows * made.shape[0], "shadow", part=UNLOGGED
        )

    def mlp(h: Tensor, name: str) -> Tensor:
        return linear(ops.gelu(t, linear(h, f"{name}.0")), f"{name}.3")

    with t.at("shadow"):
        before = m.beside["state"]
        delta = ops.to(t, ops.sub(t, x, before), width)
        delta = ops.dropout(t, delta) if adapter.args["shadow_dropout"] not in (0, 0.0) else delta
        delta = linear(linear(delta, "shadow_down"), "shadow_up")
        injected = ops.add(t, x, ops.to(t, ops.scale(t, delta, "shadow, scaled"), x.w), "stream with shadow")
        del delta, x
    out: Tensor = run(injected)
    with t.at("shadow"):
        hidden = ops.to(t, out, width)
        candidate = mlp(hidden, "shadow_update_transform")
        gate = ops.sigmoid(t, mlp(hidden, "shadow_update_gate"))
        first = ops.mul(t, ops.scale(t, gate, "1 - gate"), ops.to(t, before, width), "state, kept")
        new = ops.add(t, first, ops.mul(t, gate, candidate, "state, new"), "state")
        del first
        m.beside["state"] = ops.to(t, new, before.w)
    assert n == out.n
    return out


def after(adapter: Adapter, m: Machine, arch: Architecture, loss: Tensor, logits: Tensor | None) -> Tensor:
    """ShadowModel.forward: the first state's own loss, through the model's head; its logits have a name until then."""
    t, x = m.t, m.beside["first"]
    if not arch.has_head:
        return loss
    made = head(m, x, arch)
    own = shifted_loss(m, made, arch)
    del made
    return loss if not adapter.args["auxiliary_loss_weight"] else ops.add(t, loss, ops.scale(t, own), "loss")


METHOD = Method(
    name="shadow",
    title="ShadowPEFT",
    cite="peft 0.21.2, tuners/shadow/model.py",
    build=build,
    args={
        "r": 8,
        "shadow_model": "mirror",
        "shadow_num_hidden_layers": None,
        "shadow_hidden_size": None,
        "share_embeddings": True,
        "shadow_num_attention_heads": None,
        "shadow_intermediate_size": None,
        "update_hidden_size": None,
        "shadow_dropout": 0.2,
        "auxiliary_loss_weight": 0.05,
    },
    accepts=f"{COMMON} exclude_modules shadow_alpha init_weights",
    merges=False,
    ahead=ahead,
    after=after,
    layer=layer,
    simulated=True,
)
