"""Normalisations, each as the class that a family's ``Norm.kind`` stands for carries it out."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Norm
from estimator.stack import liger, moves, ops
from estimator.stack.machine import Machine
from estimator.stack.tape import F32, HALF, Param, Tape, Tensor


def norm(m: Machine, x: Tensor, n: Norm, rows: Any = None, heads: bool = False) -> Tensor:
    """A normalisation of ``rows`` vectors, as the family's class carries it out (``Norm.kind``); heads: of queries or
    keys."""
    rows = m.stream if rows is None else rows
    weight, bias = m.norm_weights(n)
    moves.fused(m.t, "norm", 2 * x.n * x.w)
    if m.kernels.norms and n.kind in ("rms", "rms_plus1", "rms_late") and (m.kernels.heads or not heads):
        return liger.rms(m.t, x, rows, weight, m.kernels.in_place)
    return NORMS["rms_late" if m.release.wide_norms and n.kind == "rms" else n.kind](m.t, x, rows, weight, bias)


def rms(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """LlamaRMSNorm: weight * (x.float() * rsqrt(mean(x.float()**2) + eps)).to(dtype)."""
    w = x.w
    x = ops.to(t, x, F32)
    variance = ops.mean(t, ops.power(t, x), rows)
    inverse = _rsqrt(t, variance)
    x = ops.mul(t, x, inverse, "normalised")
    del inverse
    if weight is None:
        return ops.to(t, x, w)
    return ops.mul(t, weight, ops.to(t, x, w), "norm output")  # the wide one is held until then


def rms_late(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """GptOssRMSNorm, Olmo2RMSNorm: (weight * normalised).to(dtype)."""
    w = x.w
    x = ops.to(t, x, F32)
    x = ops.mul(t, x, _rsqrt(t, ops.mean(t, ops.power(t, x), rows)), "normalised")
    return ops.to(t, x if weight is None else ops.mul(t, weight, x, "norm output"), w)


def _rsqrt(t: Tape, variance: Tensor) -> Tensor:
    return ops.unary(t, ops.shift(t, variance), "rsqrt", "result", 2)


def rms_plus1(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """GemmaRMSNorm: (norm(x.float()) * (1 + weight.float())).type_as(x)."""
    w = x.w
    x = ops.to(t, x, F32)
    x = ops.mul(t, x, _rsqrt(t, ops.mean(t, ops.power(t, x), rows)), "normalised")
    if weight is not None:
        x = ops.mul(t, x, ops.shift(t, ops.to(t, weight, F32)), "norm output")
    return ops.to(t, x, w)


def rms_t5(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """T5LayerNorm: only the variance is computed from an fp32 copy; the product with it is fp32 again."""
    variance = ops.mean(t, ops.power(t, ops.to(t, x, F32)), rows)
    x = ops.mul(t, x, _rsqrt(t, variance), "normalised")
    del variance
    if weight is None:
        return x
    if weight.w == HALF:
        x = ops.to(t, x, HALF)
    return ops.mul(t, weight, x, "norm output")


def layer(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """torch.nn.LayerNorm."""
    return ops.layer_norm(t, x, rows, weight, bias)


def layer_plus1(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """NemotronLayerNorm1P: torch's LayerNorm with 1 + weight, outside autocast."""
    scale = None if weight is None else t.autocast(ops.shift(t, weight))
    x, shift = t.autocast(x), None if bias is None else t.autocast(bias)
    with t.no_autocast():
        return ops.layer_norm(t, x, rows, scale, shift)


def layer_none(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """OlmoLayerNorm: F.layer_norm(x.float(), no weights).to(dtype)."""
    return ops.to(t, ops.layer_norm(t, ops.to(t, x, F32), rows, None, None), x.w)


def layer_fp32(t: Tape, x: Tensor, rows: Any, weight: Param | None, bias: Param | None) -> Tensor:
    """CohereLayerNorm: mean, variance and normalisation written out in fp32."""
    w = x.w
    x = ops.to(t, x, F32)
    mean = ops.mean(t, x, rows)
    variance = ops.mean(t, ops.power(t, ops.sub(t, x, mean, "centred")), rows)
    x = ops.mul(t, ops.sub(t, x, mean, "centred"), _rsqrt(t, variance), "normalised")
    if weight is not None:
        x = ops.mul(t, ops.to(t, weight, F32), x, "norm output")
    return ops.to(t, x, w)


NORMS = {
    "rms": rms,
    "rms_late": rms_late,
    "rms_plus1": rms_plus1,
    "rms_t5": rms_t5,
    "layer": layer,
    "layer_plus1": layer_plus1,
    "layer_fp32": layer_fp32,
    "none": layer_none,
}
