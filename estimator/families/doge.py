"""Doge: a mask learned from the values, weights on the residual stream. Its retrieval experts (``is_moe``) are not
described.

Source: transformers 5.24, models/doge/modeling_doge.py and configuration_doge.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Linear
from estimator.families.common import gated_mlp, gqa, read_dims, window_size
from estimator.families.common_dense import ATTN, LAYER, dense, head_norms
from estimator.families.recorded import WAY_OUT


def build(c: Config) -> Architecture:
    """Doge from its config."""
    if c.flag("is_moe", False):
        raise InputError(f"{c.where}: is_moe=true: the experts of Doge are not described; {WAY_OUT}")
    D = read_dims(c, 1024, 8, 2048, 32768, 32)
    bias = c.flag("attention_bias", False)
    attention = gqa(
        ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias, norms=head_norms(D.d_h), window=window_size(c, None),
        form="dynamic_mask", extras=(Extra(f"{ATTN}.A", (D.h_kv,)),),
    )  # fmt: skip
    step = Linear(f"{ATTN}.dt_proj", D.h_kv * D.d_h, D.h_kv, bias)
    attention = attention._replace(projections=(*attention.projections, step))
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"), c.flag("mlp_bias", False))
    made = dense(c, D, lambda kind: attention, mlp, positions=2048)
    weighed = tuple(Extra(f"{LAYER}.{name}", (D.d,)) for name in ("input_residual", "post_attention_residual"))
    return made._replace(
        layers=tuple(x._replace(residual_weights=weighed) for x in made.layers),
        residual_dropout=("hidden_dropout", 0.0), drops_by_call=True,
    )  # fmt: skip
