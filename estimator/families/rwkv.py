"""RWKV 4: a recurrence over keys and values with a decay of every channel, and a gated MLP, both of which read each
token mixed with the one before.

Source: transformers 5.24, models/rwkv/modeling_rwkv.py and configuration_rwkv.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import HEAD, MLP, Architecture, Extra, Layer, Linear, Lookup, Norm, StateSpace

LAYER = "rwkv.blocks.{i}"
STATES, SHIFTED = 3, 2  # of a channel: numerator, denominator and maximum in fp32; the last inputs of both branches


def build(c: Config) -> Architecture:
    """RWKV 4 from its config."""
    d, L = c.size("hidden_size", 4096), c.size("num_hidden_layers", 32)
    inner, d_ff = c.size("attention_hidden_size", d), c.size("intermediate_size", 4 * d)
    V, tied = c.size("vocab_size", 50277), c.flag("tie_word_embeddings", False)
    at = f"{LAYER}.attention"
    mixer = StateSpace(
        kind="time_mix",
        linears=(*(Linear(f"{at}.{x}", d, inner) for x in ("key", "value", "receptance")),
                 Linear(f"{at}.output", inner, d)),
        extras=(
            *(Extra(f"{at}.time_{x}", (inner,)) for x in ("decay", "first")),
            *(Extra(f"{at}.time_mix_{x}", (1, 1, d)) for x in ("key", "value", "receptance")),
        ),
        norms=(), inner=inner, state=STATES, conv_width=d, conv_kernel=SHIFTED,
        sizes={"heads": 1, "head_dim": d, "groups": 1, "act": "sigmoid"},
    )  # fmt: skip
    feed = f"{LAYER}.feed_forward"
    mlp = MLP(
        (Linear(f"{feed}.key", d, d_ff), Linear(f"{feed}.value", d_ff, d)), d_ff, "relu2", False,
        extras=tuple(Extra(f"{feed}.time_mix_{x}", (1, 1, d)) for x in ("key", "receptance")),
        receptance=Linear(f"{feed}.receptance", d, d),
    )  # fmt: skip
    norms = tuple(Norm(f"{LAYER}.ln{i}", d, "layer", True) for i in (1, 2))
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=(Lookup("rwkv.embeddings", V, d), Norm("rwkv.blocks.0.pre_ln", d, "layer", True)),
        layers=(Layer(L, mixer, mlp, norms, ("input", "pre_mlp")),),
        final=(Norm("rwkv.ln_out", d, "layer", True),), head=None if tied else Linear("head", d, V, role=HEAD),
        tied=tied, vocab=V, hidden=d, num_layers=L, head_name="head",
        max_positions=c.plain("context_length|max_position_embeddings", 1024),
    )  # fmt: skip
