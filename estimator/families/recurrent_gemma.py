"""RecurrentGemma: a gated linear recurrence in two of three layers, attention within a window in the third.

Source: transformers 5.24, models/recurrent_gemma/modeling_recurrent_gemma.py and configuration_recurrent_gemma.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Extra, Layer, Linear, Norm, StateSpace
from estimator.families.common import SLIDING, gated_mlp, gqa, layer_count, rotary_width
from estimator.families.common_moe import DENSE, SSM, attention_sizes, decoder, pattern
from estimator.inventory import CONV

LAYER = "model.layers.{i}"
MIX = f"{LAYER}.temporal_block"
RECURRENT, ATTENTION = "recurrent", "attention"
PLUS1 = "rms_plus1"


def build(c: Config) -> Architecture:
    """RecurrentGemma from its config."""
    d, h, h_kv, d_h = attention_sizes(c, 2560, 10, None)
    L, act = c.size("num_hidden_layers", 26), c.text("hidden_activation", "gelu_pytorch_tanh")
    window = c.size("attention_window_size|sliding_window", 2048, letter="sliding_window")
    attention = gqa(
        MIX, d, h, h_kv, d_h, bias=c.flag("attention_bias", False), out_bias=True, window=window,
        rope_dim=rotary_width(c, d_h, 0.5), rotary="joined",
    )  # fmt: skip
    mixers: dict[str, Attention | StateSpace] = {SSM: recurrence(c, d, h, act), SLIDING: attention}
    mlp = gated_mlp(f"{LAYER}.mlp_block", d, c.size("intermediate_size", 7680) // 2, act, True)
    norms = tuple(Norm(f"{LAYER}.{x}_pre_norm", d, PLUS1) for x in ("temporal", "channel"))
    kinds = _kinds(c, L)
    layers = pattern(
        c, L,
        lambda i: (SSM if kinds[i] == RECURRENT else SLIDING, DENSE),
        lambda kind: Layer(1, mixers[kind[0]], mlp, norms, ("input", "pre_mlp")),
    )  # fmt: skip
    return decoder(
        c, layers, d, L, 256000, 8192, tied=True, norm=Norm("model.final_norm", d, PLUS1),
        facts={"embed_scale": "stream", "logit_softcap": True},
    )  # fmt: skip


def _kinds(c: Config, L: Any) -> list[str]:
    """``block_types``, repeated over the layers."""
    given = c.items("block_types") or [RECURRENT, RECURRENT, ATTENTION]
    for t in given:
        if t not in (RECURRENT, ATTENTION):
            raise InputError(f"{c.where}: block_types must be {RECURRENT!r} or {ATTENTION!r}, got {str(t)[:40]!r}")
    return [given[i % len(given)] for i in range(layer_count(c, L))]


def recurrence(c: Config, d: Any, h: Any, act: str) -> StateSpace:
    """Griffin's block: a gate and a branch through a convolution and the RG-LRU, whose gates are block-diagonal."""
    width, kernel = c.size("lru_width", d), c.size("conv1d_width", 4)
    c.divides(h, width, "num_attention_heads", "lru_width")
    block, at = width // h, f"{MIX}.rg_lru"
    gates = tuple(
        Extra(f"{at}.{x}_gate_{y}", (h, block, block) if y == "weight" else (h, block))
        for x in ("input", "recurrent")
        for y in ("weight", "bias")
    )
    conv = Extra(f"{MIX}.conv_1d.weight", (width, 1, kernel), CONV), Extra(f"{MIX}.conv_1d.bias", (width,), CONV)
    return StateSpace(
        kind="rg_lru",
        linears=(
            Linear(f"{MIX}.linear_y", d, width, True), Linear(f"{MIX}.linear_x", d, width, True),
            Linear(f"{MIX}.linear_out", width, d, True),
        ),
        extras=(Extra(f"{at}.recurrent_param", (width,)), *gates, *conv), norms=(), inner=width, state=1,
        conv_width=width, conv_kernel=kernel,
        sizes={"heads": 1, "head_dim": width, "groups": 1, "act": "", "gate": act, "block": block, "kept": kernel - 1},
        one_kernel=False,
    )  # fmt: skip
