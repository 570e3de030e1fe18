"""Mamba 2: a scalar decay for each head, one projection to gate, x, B, C and the time step (arXiv:2405.21060).

Source: transformers 5, models/mamba2/modeling_mamba2.py and configuration_mamba2.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Extra, Linear, Norm, StateSpace
from estimator.families.common_gguf import Gguf
from estimator.families.common_ssm import backbone, convolution

GGUF = {"mamba2": Gguf("mamba2")}


def build(c: Config) -> Architecture:
    """Mamba 2 from its config."""
    d = c.size("hidden_size", 4096)
    h = c.size("num_heads", 128, letter="num_attention_heads")
    d_h, state = c.size("head_dim", 64), c.size("state_size", 128)
    inner = c.plain("expand", 2, least=1) * d
    if inner != h * d_h:
        raise InputError(
            f"{c.where}: expand * hidden_size = {int(inner)} must be num_heads * head_dim = {int(h * d_h)}"
        )
    groups, kernel = c.plain("n_groups", 8, least=1), c.size("conv_kernel", 4)
    c.divides(groups, h, "n_groups", "num_heads")
    conv, bias = inner + 2 * groups * state, c.flag("use_bias", False)
    at = "backbone.layers.{i}.mixer"
    mixer = StateSpace(
        kind="chunked",
        linears=(Linear(f"{at}.in_proj", d, inner + conv + h, bias), Linear(f"{at}.out_proj", inner, d, bias)),
        extras=(
            Extra(f"{at}.dt_bias", (h,)),
            Extra(f"{at}.A_log", (h,)),
            Extra(f"{at}.D", (h,)),
            *convolution(at, conv, kernel, c.flag("use_conv_bias", True)),
        ),
        norms=(Norm(f"{at}.norm", inner, "rms_gated"),),
        inner=inner, state=state, conv_width=conv, conv_kernel=kernel,
        sizes={
            "heads": h, "head_dim": d_h, "groups": groups, "chunk": c.plain("chunk_size", 256, least=1),
            "act": c.text("hidden_act", "silu"),
        },
    )  # fmt: skip
    return backbone(c, mixer, d, c.size("num_hidden_layers", 64), 32768, False)
