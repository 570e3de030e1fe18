"""Activation memory as papers count it, byte for byte: Korthikanti et al. and the ZeRO paper.

What a real stack holds is simulated (:mod:`estimator.stack`); these are the closed forms that are usually quoted.
"""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import BYTES

_CITE = "Korthikanti et al. 2022, Reducing Activation Recomputation in Large Transformer Models, arXiv 2205.05198"
_ASSUMES = ("16-bit activations, 1-byte dropout masks", "GELU MLP of 4h, LayerNorm, multi-head attention")


@formula(unit=BYTES, cite=f"{_CITE}, equation 1", assumes=_ASSUMES)
def layer_activation_bytes(s: Any, b: Any, d: Any, h: Any) -> Any:
    """s*b*d*(34 + 5*h*s/d): what one layer saves for its backward pass, without parallelism."""
    return 34 * s * b * d + 5 * h * s * s * b


@formula(unit=BYTES, cite=f"{_CITE}, equation 2 (tensor parallelism)", assumes=_ASSUMES)
def layer_activation_tp_bytes(s: Any, b: Any, d: Any, h: Any, p_tp: Any) -> Any:
    """s*b*d*(10 + 24/t + 5*h*s/(d*t)): the norms, dropouts and block inputs are not split."""
    return 10 * s * b * d + (24 * s * b * d + 5 * h * s * s * b) // p_tp


@formula(unit=BYTES, cite=f"{_CITE}, equation 4 (tensor and sequence parallelism)", assumes=_ASSUMES)
def layer_activation_tp_sp_bytes(s: Any, b: Any, d: Any, h: Any, p_tp: Any) -> Any:
    """s*b*d/t*(34 + 5*h*s/d)."""
    return (34 * s * b * d + 5 * h * s * s * b) // p_tp


@formula(unit=BYTES, cite=f"{_CITE}, section 5 (tensor parallelism, selective recomputation)", assumes=_ASSUMES)
def layer_activation_tp_selective_bytes(s: Any, b: Any, d: Any, p_tp: Any) -> Any:
    """s*b*d*(10 + 24/t): the attention's scores, softmax and dropout are recomputed."""
    return 10 * s * b * d + (24 * s * b * d) // p_tp


@formula(
    unit=BYTES, cite=f"{_CITE}, equation 6 (tensor and sequence parallelism, selective recomputation)", assumes=_ASSUMES
)
def layer_activation_selective_bytes(s: Any, b: Any, d: Any, p_tp: Any) -> Any:
    """34*s*b*d/t."""
    return (34 * s * b * d) // p_tp


@formula(unit=BYTES, cite=f"{_CITE}, table 2 (full recomputation)", assumes=("16-bit activations",))
def layer_activation_full_recompute_bytes(s: Any, b: Any, d: Any) -> Any:
    """2*s*b*d: only the layer's input is kept."""
    return 2 * s * b * d


@formula(
    unit=BYTES, cite=f"{_CITE}, section 4.3", assumes=("16-bit activations, fp32 logits", "first pipeline stage of p")
)
def input_output_activation_bytes(s: Any, b: Any, d: Any, V: Any, p_tp: Any) -> Any:
    """s*b*d/t*(4 + 4*V/d) beside the embedding's dropout mask: final norm, output product, fp32 logits (p = 1)."""
    return (4 * s * b * d + 4 * s * b * V) // p_tp


@formula(
    unit=BYTES,
    cite="Rajbhandari et al. 2019, ZeRO, arXiv 1910.02054, section 3.2, footnote 3",
    assumes=("16-bit activations", "GPT-2-like transformers"),
)
def zero_paper_activation_bytes(L: Any, b: Any, s: Any, d: Any) -> Any:
    """12 * hidden * batch * seq * layers numbers of 16 bits."""
    return 24 * d * b * s * L
