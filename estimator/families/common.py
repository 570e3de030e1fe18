"""Blocks that many families share: grouped-query attention, MLPs, and the splitting of a stack into layer groups."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear
from estimator.trace import trace

MAX_PATTERN = 100_000  # layers of a stack that is described layer by layer; no model comes near

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
LETTERS = {FULL: "full_attention_layers", SLIDING: "sliding_attention_layers"}


def gqa(
    prefix: str,
    d: Any,
    h: Any,
    h_kv: Any,
    d_h: Any,
    *,
    bias: bool = False,
    out_bias: bool | None = None,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    **fields: Any,
) -> Attention:
    """Grouped-query attention with separate q, k, v: [d -> h*d_h], twice [d -> h_kv*d_h], and out [h*d_h -> d].

    prefix     the attention module, e.g. ``model.layers.{i}.self_attn``; bias: of q, k, v (and out, unless ``out_bias``)
    fields     further fields of :class:`Attention`; ``rope_dim`` is d_h unless given or without rotary embedding
    """
    q, k, v, o = (f"{prefix}.{n}" for n in names)
    if fields.get("position", "rope") == "rope":
        fields.setdefault("rope_dim", d_h)
    else:
        fields.setdefault("rope_style", "none")
    return Attention(
        projections=(
            Linear(q, d, h * d_h, bias),
            Linear(k, d, h_kv * d_h, bias),
            Linear(v, d, h_kv * d_h, bias),
        ),
        out=Linear(o, h * d_h, d, bias if out_bias is None else out_bias),
        heads=h, kv_heads=h_kv, head_dim=d_h, **fields,
    )  # fmt: skip


def gated_mlp(
    prefix: str,
    d: Any,
    d_ff: Any,
    act: str = "silu",
    bias: bool = False,
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
) -> MLP:
    """down(act(gate(x)) * up(x)). Two ``names``: gate and up are one Linear [d -> 2*d_ff] (Phi-3, GLM)."""
    *first, down = (f"{prefix}.{n}" for n in names)
    fused = len(first) == 1
    up = tuple(Linear(n, d, 2 * d_ff if fused else d_ff, bias) for n in first)
    return MLP((*up, Linear(down, d_ff, d, bias)), d_ff, act, gated=True, fused=fused)


def plain_mlp(
    prefix: str, d: Any, d_ff: Any, act: str, bias: bool = True, names: tuple[str, str] = ("fc1", "fc2")
) -> MLP:
    """down(act(up(x))); ``prefix`` may be a layer's own path (OPT's ``fc1`` stands in no MLP module)."""
    up, down = (f"{prefix}.{n}" for n in names)
    return MLP((Linear(up, d, d_ff, bias), Linear(down, d_ff, d, bias)), d_ff, act, gated=False)


def layer_groups(
    kinds: Sequence[Hashable],
    L: Any = None,
    traced: bool = False,
    letters: Mapping[Any, str] = LETTERS,
) -> list[tuple[Any, Any, tuple[int, ...] | None]]:
    """Group equal layers: ``[(kind, times, indices)]`` in the order of first appearance.

    A homogeneous stack is one group of ``L`` (traced where ``L`` is) with indices None. In a mixed stack of a
    traced run, ``times`` is traced under the letter that ``letters`` gives for the kind, else a plain int.
    """
    where: dict[Hashable, list[int]] = {}
    for i, kind in enumerate(kinds):
        where.setdefault(kind, []).append(i)
    if len(where) == 1:
        return [(kinds[0], len(kinds) if L is None else L, None)]
    out = []
    for kind, at in where.items():
        field = letters.get(kind)
        out.append((kind, trace(field, len(at)) if traced and field else len(at), tuple(at)))
    return out


def layer_count(c: Config, L: Any) -> int:
    """``L`` as an int for a stack described layer by layer; InputError where it is absurd."""
    if L > MAX_PATTERN:
        raise InputError(f"{c.where}: num_hidden_layers={int(L)} is out of range (at most {MAX_PATTERN})")
    return int(L)
