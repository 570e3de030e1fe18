"""ShadowPEFT: a small trained copy of the model runs beside it; every layer reads and updates its state.

Source: peft 0.21.2, tuners/shadow/model.py and layers.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build as build_architecture
from estimator.inventory import EMBEDDING
from estimator.peft.base import BUFFER, COMMON, Build, Method, PeftTensor
from estimator.peft.modules import Module, containers
from estimator.peft.targets import select

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
    for m in _targets(b):
        yield PeftTensor(m.name, "shadow_down.weight", (r, d), m.times)
        yield PeftTensor(m.name, "shadow_up.weight", (d, r), m.times)
        for part in ("transform", "gate"):
            for name, shape in (
                ("0.weight", (width, d)),
                ("0.bias", (width,)),
                ("3.weight", (d, width)),
                ("3.bias", (d,)),
            ):
                yield PeftTensor(m.name, f"shadow_update_{part}.{name}", shape, m.times)
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


def _backbone(b: Build) -> Iterator[PeftTensor]:
    a = b.args
    raw = dict(b.config)
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
    small = build_architecture(Config(raw, where="the shadow backbone"))
    share = a.flag("share_embeddings") and sizes.get("hidden_size", int(b.arch.hidden)) == int(b.arch.hidden)
    head = small.head.name if small.head else "lm_head"
    for w in small.weights():
        shared = share and w.role == EMBEDDING and w.name.endswith("embed_tokens.weight")
        if not shared and not w.name.startswith(head + "."):
            yield PeftTensor("", f"shadow_backbone.{w.name}", w.shape, w.times)
    if sizes.get("hidden_size", int(b.arch.hidden)) != int(b.arch.hidden):
        yield PeftTensor("", "shadow_projection.weight", (b.arch.hidden, sizes["hidden_size"]))
    from estimator.peft.prompts import attention

    rope = attention(b)
    if rope is not None and rope.rope_dim:
        for name in ("inv_freq", "original_inv_freq"):
            yield PeftTensor("", f"shadow_backbone.rotary_emb.{name}", (rope.rope_dim // 2,), 1, BUFFER, saved=False)


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
    },
    accepts=f"{COMMON} exclude_modules shadow_alpha shadow_dropout init_weights auxiliary_loss_weight",
    merges=False,
)
