"""The selective state-space mixer that Mamba, Falcon-Mamba and Jamba share, and the decoder around pure SSM stacks.

Source: transformers 5, models/mamba/modeling_mamba.py (MambaMixer).
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import HEAD, Architecture, Extra, Layer, Linear, Lookup, Norm, StateSpace
from estimator.inventory import CONV
from estimator.ops import ceil_div

DT_WIDTHS = 16  # "auto": one rank of the time step for every 16 channels of the model (Mamba, section 3.6)


def dt_rank(c: Config, name: str, d: Any) -> Any:
    """Rank of the time-step projection: the field, or ceil(d / 16) where it is "auto" or absent."""
    value = c.raw.get(name)
    if value is None or value == "auto":
        return ceil_div(d, DT_WIDTHS)
    if isinstance(value, str):
        raise InputError(f"{c.where}: {name} must be a whole number or 'auto', got {value[:40]!r}")
    return c.size(name)


def convolution(at: str, width: Any, kernel: Any, bias: bool) -> tuple[Extra, ...]:
    """A depthwise causal convolution's weights [width, 1, kernel] and bias."""
    weight = Extra(f"{at}.conv1d.weight", (width, 1, kernel), CONV)
    return (weight, Extra(f"{at}.conv1d.bias", (width,), CONV)) if bias else (weight,)


def selective(
    at: str,
    d: Any,
    inner: Any,
    state: Any,
    rank: Any,
    kernel: Any,
    *,
    bias: bool,
    conv_bias: bool,
    act: str,
    norms: tuple[Norm, ...] = (),
    tried: bool = False,
) -> StateSpace:
    """Mamba 1's mixer under ``at``: in_proj to x and gate, convolution, x_proj to the time step (``rank``), B and C
    (``state`` each), dt_proj, the scan over a state of [inner, state], out_proj.
    """
    return StateSpace(
        kind="selective",
        linears=(
            Linear(f"{at}.in_proj", d, 2 * inner, bias),
            Linear(f"{at}.x_proj", inner, rank + 2 * state),
            Linear(f"{at}.dt_proj", rank, inner, True),
            Linear(f"{at}.out_proj", inner, d, bias),
        ),
        extras=(
            Extra(f"{at}.A_log", (inner, state)),
            Extra(f"{at}.D", (inner,)),
            *convolution(at, inner, kernel, conv_bias),
        ),
        norms=norms, inner=inner, state=state, conv_width=inner, conv_kernel=kernel,
        sizes={"dt_rank": rank, "heads": 1, "head_dim": inner, "groups": 1, "act": act, "tried": tried},
    )  # fmt: skip


def chunked(
    at: str, d: Any, h: Any, d_h: Any, state: Any, groups: Any, kernel: Any, chunk: int, act: str, *,
    bias: bool, conv_bias: bool, normed: bool = True, out_bias: bool | None = None,
) -> StateSpace:  # fmt: skip
    """Mamba 2's mixer under ``at``: in_proj to gate, x, B, C and the time step, a convolution over x, B and C, the scan
    over a state of [d_h, state] a head, a gated norm where ``normed``, out_proj.
    """
    inner = h * d_h
    conv = inner + 2 * groups * state
    return StateSpace(
        kind="chunked",
        linears=(
            Linear(f"{at}.in_proj", d, inner + conv + h, bias),
            Linear(f"{at}.out_proj", inner, d, bias if out_bias is None else out_bias),
        ),
        extras=(
            Extra(f"{at}.dt_bias", (h,)),
            Extra(f"{at}.A_log", (h,)),
            Extra(f"{at}.D", (h,)),
            *convolution(at, conv, kernel, conv_bias),
        ),
        norms=(Norm(f"{at}.norm", inner, "rms_gated"),) if normed else (),
        inner=inner, state=state, conv_width=conv, conv_kernel=kernel,
        sizes={"heads": h, "head_dim": d_h, "groups": groups, "chunk": chunk, "act": act},
    )  # fmt: skip


def head_size(c: Config, name: str, inner: Any, h: Any) -> Any:
    """Width of a recurrent head: the field, or the inner width a head where it is "auto" or absent."""
    if c.raw.get(name) in (None, "auto"):
        return inner // h
    return c.size(name, letter="head_dim")


def backbone(c: Config, mixer: StateSpace, d: Any, L: Any, vocab: int, tied: bool) -> Architecture:
    """A decoder of mixer-only layers: one norm and one mixer each, under ``backbone``."""
    V = c.size("vocab_size", vocab)
    is_tied = c.flag("tie_word_embeddings", tied)
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=(Lookup("backbone.embeddings", V, d),),
        layers=(Layer(L, mixer, None, (Norm("backbone.layers.{i}.norm", d),), ("input",), wiring="mixer"),),
        final=(Norm("backbone.norm_f", d),),
        head=None if is_tied else Linear("lm_head", d, V, role=HEAD),
        tied=is_tied, vocab=V, hidden=d, num_layers=L,
        facts={"residual_fp32": c.flag("residual_in_fp32", True)},
    )  # fmt: skip


def mamba(c: Config, norms: bool = False) -> Architecture:
    """Mamba and Falcon-Mamba; ``norms``: weightless RMSNorms on the time step, B and C (Falcon-Mamba)."""
    d = c.size("hidden_size", 768)
    inner = c.size("intermediate_size", c.plain("expand", 2, least=1) * d, letter="ssm_intermediate_size")
    state, rank = c.size("state_size", 16), dt_rank(c, "time_step_rank", d)
    at = "backbone.layers.{i}.mixer"
    widths = (("dt", inner), ("b", state), ("c", state)) if norms else ()
    mixer = selective(
        at, d, inner, state, rank, c.size("conv_kernel", 4),
        bias=c.flag("use_bias", False), conv_bias=c.flag("use_conv_bias", True), act=c.text("hidden_act", "silu"),
        norms=tuple(Norm(f"{at}.{n}_layernorm", w, affine=False) for n, w in widths), tried=True,
    )  # fmt: skip
    return backbone(c, mixer, d, c.size("num_hidden_layers", 32), 50280, True)
