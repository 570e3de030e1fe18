"""The textbook transformer in letters: L layers of width d; q, k, v and o of d x d; an MLP of d x 4d and 4d x d.

No biases, norms or embeddings, so that every count is an expression that fits on a line. With ``--model symbolic``.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear

LAYER = "layers.{i}"
MLP_RATIO = 4  # Vaswani et al. 2017, section 3.3: d_ff = 4 d_model


def build(c: Config) -> Architecture:
    """The textbook transformer; ``intermediate_size`` may be set and is 4d otherwise, ``head_dim`` too and is d/h."""
    L = c.size("num_hidden_layers")
    d = c.size("hidden_size")
    h = c.size("num_attention_heads")
    if c.raw.get("head_dim") is None:
        c.divides(h, d, "num_attention_heads", "hidden_size")
    d_h = c.size("head_dim", d // h)
    inner = d if c.raw.get("head_dim") is None else h * d_h
    d_ff = c.size("intermediate_size", MLP_RATIO * d)
    attention = Attention(
        projections=tuple(Linear(f"{LAYER}.{name}", d, inner) for name in ("q_proj", "k_proj", "v_proj")),
        out=Linear(f"{LAYER}.o_proj", inner, d),
        heads=h, kv_heads=h, head_dim=d_h, position="none", rope_style="none",
    )  # fmt: skip
    mlp = MLP((Linear(f"{LAYER}.up_proj", d, d_ff), Linear(f"{LAYER}.down_proj", d_ff, d)), d_ff, "gelu", gated=False)
    return Architecture(
        model_type="symbolic", embeddings=(), layers=(Layer(L, attention, mlp, (), ()),), final=(),
        head=None, tied=False, vocab=0, hidden=d, num_layers=L, has_head=False,
    )  # fmt: skip
