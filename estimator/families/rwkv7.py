"""RWKV 7: each token mixed with the one before, and a delta rule with a decay and a rate of every channel.

Two classes: RWKV7ForCausalLM of flash-linear-attention, and ARWKV 7, whose time mixing stands in the place of
Qwen 2.5's attention. Both compute in kernels of their own, which are not described: their weights are, and what
llama.cpp makes of them. Source: flash-linear-attention 0.6.0, models/rwkv7/ and layers/rwkv7.py; llama.cpp build 11434,
conversion/rwkv.py.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Extra, Layer, Linear, Lookup, Norm, StateSpace
from estimator.families.common import decoder, gated_mlp, layer_count, layer_groups
from estimator.families.common_gguf import PLAIN_MLP, Gguf
from estimator.headers.gguf_meta import Meta

LAYER = "model.layers.{i}"
BLOCK = 32  # what a rank is a multiple of where the config leaves it open
MIXED = "rwkvag"  # x_r, x_w ...: how far each of six readings of a token is mixed with the one before
HYBRID = "rwkv_hybrid"
RATES, VALUES, GATES = ("a", "v", "g")
THIN = tuple(f".{x}_lora.lora.{i}" for x in (RATES, VALUES, GATES) for i in (0, 2))


def read(m: Meta) -> dict[str, Any]:
    """The config of a file of architecture ``rwkv7``."""
    return _read(m) | {
        "model_type": "rwkv7", "head_dim": m.size("wkv.head_size"),
        "gate_low_rank_dim": m.size("attention.gate_lora_rank"),
    }  # fmt: skip


def read_hybrid(m: Meta) -> dict[str, Any]:
    """The config of a file of architecture ``arwkv7``."""
    gate = m.size("attention.gate_lora_rank", 0, least=0)
    return _read(m) | {
        "model_type": HYBRID, "head_size": m.size("wkv.head_size"), "wkv_version": 7,
        "wkv_has_gate": m.has(".time_mix_g1.weight", unknown=bool(gate)), "gate_low_rank_dim": gate or 128,
        "wkv_has_group_norm": m.has(".time_mix_ln.weight"),
    }  # fmt: skip


def _read(m: Meta) -> dict[str, Any]:
    return {
        "hidden_size": m.size("embedding_length"), "num_hidden_layers": m.size("block_count"),
        "intermediate_size": m.size("feed_forward_length"), "vocab_size": m.vocabulary, "tie_word_embeddings": m.tied,
        "decay_low_rank_dim": m.size("attention.decay_lora_rank"), "a_low_rank_dim": m.size("attention.iclr_lora_rank"),
        "v_low_rank_dim": m.size("attention.value_residual_mix_lora_rank"),
    }  # fmt: skip


_WHOLE = Gguf(
    "rwkv7", quantizer=(PLAIN_MLP,), halves=THIN, singles=(".w_lora.lora.0", ".w_lora.lora.2"),
    stand_ins=(".a_lora.", ".v_lora."), graph_alone=True, reader=read,
)  # fmt: skip
_HYBRID = Gguf(
    "arwkv7", halves=tuple(f"time_mixer.{x}{i}" for x in (RATES, VALUES, GATES) for i in (1, 2)),
    stand_ins=("time_mixer.a", "time_mixer.v"), graph_alone=True, reader=read_hybrid,
)  # fmt: skip
GGUF = {"rwkv7": _WHOLE, "rwkv7_fla": _WHOLE, HYBRID: _HYBRID}


class _Heads:
    """A head's width, the heads, and the ranks of the thin pairs of matrices by letter."""

    def __init__(self, c: Config, d: Any, width: Any, ranks: dict[str, Any]) -> None:
        c.divides(width, d, "head_dim", "hidden_size")
        self.width, self.heads, self.ranks = width, d // width, ranks

    def mixer(
        self, d: Any, linears: tuple[Linear, ...], extras: tuple[Extra, ...], norms: tuple[Norm, ...], kept: int
    ) -> StateSpace:
        """kept: the last inputs that a layer keeps, of the mixer and of what follows it."""
        names = {"decay": "w", "rate": RATES, "value": VALUES, "gate": GATES}
        sizes = {"heads": self.heads, "head_dim": self.width, "groups": 1}
        return StateSpace(
            kind="wkv7", linears=linears, extras=extras, norms=norms, inner=d, state=self.width, conv_width=d,
            conv_kernel=kept, sizes=sizes | {name: self.ranks[x] for name, x in names.items()},
        )  # fmt: skip


def build(c: Config) -> Architecture:
    """RWKV 7 from its config."""
    if c.text("model_type", "") == HYBRID:
        return _hybrid(c)
    d, L, V = c.size("hidden_size", 2048), c.size("num_hidden_layers", 24), c.size("vocab_size", 32000)
    if c.raw.get("attn") or c.plain("value_dim", int(d)) != int(d):
        raise InputError(f"{c.where}: layers that attend, and values wider than hidden_size, are not described")
    heads = _heads(c, d)
    d_ff = c.size("intermediate_size", BLOCK * -(-int(d) * c.plain("hidden_ratio", 4) // BLOCK))
    bias = c.flag("norm_bias", True)
    at, feed = f"{LAYER}.attn", f"{LAYER}.ffn"

    def mixer(first: bool) -> StateSpace:
        thin = (("w", True), *(() if first else ((VALUES, True),)), (RATES, True), (GATES, False))
        pairs: list[Linear] = []
        for x, biased in thin:
            pair, rank = f"{at}.{x}_lora.lora", heads.ranks[x]
            pairs += [Linear(f"{pair}.0", d, rank), Linear(f"{pair}.2", rank, d, biased)]
        extras = (
            *(Extra(f"{at}.x_{x}", (1, 1, d)) for x in MIXED), Extra(f"{at}.k_k", (d,)), Extra(f"{at}.k_a", (d,)),
            Extra(f"{at}.r_k", (heads.heads, heads.width)),
        )  # fmt: skip
        whole = (Linear(f"{at}.{x}_proj", d, d) for x in "rkvo")
        return heads.mixer(d, (*whole, *pairs), extras, (Norm(f"{at}.g_norm", d, "layer", True),), 2)

    mlp = MLP(
        (Linear(f"{feed}.key", d, d_ff), Linear(f"{feed}.value", d_ff, d)), d_ff, "relu2", False,
        extras=(Extra(f"{feed}.x_k", (d,)),),
    )  # fmt: skip
    norms = tuple(Norm(f"{LAYER}.{x}_norm", d, "layer", bias) for x in ("attn", "ffn"))
    first = (Norm("model.layers.0.pre_norm", d, "layer", bias),) if c.flag("norm_first", True) else ()
    return decoder(
        c, (Lookup("model.embeddings", V, d), *first), _layers(c, L, mixer, mlp, norms),
        (Norm("model.norm", d, "layer", bias),), V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", False),
        positions=None, counted_only=True,
    )  # fmt: skip


def _layers(c: Config, L: Any, mixer: Any, mlp: MLP, norms: tuple[Norm, ...]) -> list[Layer]:
    """The first layer has no values before its own to mix with."""
    kinds = ["first", *["later"] * (layer_count(c, L) - 1)]
    return [
        Layer(times, mixer(kind == "first"), mlp, norms, ("input", "pre_mlp"), indices=at)
        for kind, times, at in layer_groups(kinds, L, c.traced)
    ]


def _heads(c: Config, d: Any) -> _Heads:
    """The ranks as given, else the class's own; where the config says null, as the layer chooses them."""
    head = c.size("head_dim", 64, letter="head_dim")
    if c.raw.get("head_dim") is None and c.raw.get("num_heads"):
        head = d // c.size("num_heads", 32)
    out = {}
    for x, field, default, times in (
        ("w", "decay", 64, 2.5), (RATES, "a", 64, 2.5), (VALUES, "v", 16, 1.7), (GATES, "gate", 128, 5.0),
    ):  # fmt: skip
        name = f"{field}_low_rank_dim"
        wider = 1.0 if x == GATES else int(head) / 64
        if name in c.raw and c.raw[name] is None:
            default = max(BLOCK, round(times * sqrt(int(d)) * wider / BLOCK) * BLOCK)
        out[x] = c.size(name, default)
    return _Heads(c, d, head, out)


def _hybrid(c: Config) -> Architecture:
    """ARWKV 7 from its config: a Qwen 2.5 whose layers mix tokens in attention's place."""
    d, L, V = c.size("hidden_size"), c.size("num_hidden_layers"), c.size("vocab_size", 152064)
    if c.plain("wkv_version", 7) != 7 or c.raw.get("wkv_layers", "full") not in ("full", None):
        raise InputError(f"{c.where}: of ARWKV only version 7 in every layer is described")
    gated = c.flag("wkv_has_gate", True)
    ranks = {"w": c.size("decay_low_rank_dim", 64), RATES: c.size("a_low_rank_dim", 64),
             VALUES: c.size("v_low_rank_dim", 32), GATES: c.size("gate_low_rank_dim", 128) if gated else 0}  # fmt: skip
    heads = _Heads(c, d, c.size("head_size", 64, letter="head_dim"), ranks)
    at = f"{LAYER}.self_attn.time_mixer"

    def mixer(first: bool) -> StateSpace:
        thin = ("w", RATES, *(() if first else (VALUES,)))
        extras = [Extra(f"{at}.x_{x}", (1, 1, d)) for x in (MIXED if gated else MIXED[:-1])]
        for x in (*thin, *((GATES,) if gated else ())):
            bias = (Extra(f"{at}.{x}0", (1, 1, d)),) if x != GATES else ()
            extras += [*bias, Extra(f"{at}.{x}1", (d, heads.ranks[x])), Extra(f"{at}.{x}2", (heads.ranks[x], d))]
        extras += [Extra(f"{at}.{x}", (1, 1, d)) for x in ("k_k", "k_a")]
        extras.append(Extra(f"{at}.r_k", (heads.heads, heads.width)))
        norms = (Norm(f"{at}.ln_x", d, "layer", True),) if c.flag("wkv_has_group_norm", True) else ()
        linears = tuple(Linear(f"{at}.{x}", d, d) for x in ("receptance", "key", "value", "output"))
        return heads.mixer(d, linears, tuple(extras), norms, 1)

    mlp = gated_mlp(f"{LAYER}.mlp", d, c.size("intermediate_size"), "silu")
    norms = tuple(Norm(f"{LAYER}.{x}_layernorm", d, "rms") for x in ("input", "post_attention"))
    return decoder(
        c, (Lookup("model.embed_tokens", V, d),), _layers(c, L, mixer, mlp, norms), (Norm("model.norm", d, "rms"),),
        V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", False), positions=None, counted_only=True,
    )  # fmt: skip
