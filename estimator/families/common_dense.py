"""The decoder that most dense families share: ``model.embed_tokens``, layers of two to four norms, ``model.norm``,
``lm_head``; they differ in their sizes, norms, attention and MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, Lookup, MoE, Norm
from estimator.families.common import FULL, SLIDING, Dims, decoder, layer_groups, layer_kinds, window_size, windowed
from estimator.records import NamedTuple

LAYER = "model.layers.{i}"
ATTN = f"{LAYER}.self_attn"
WITH_BIAS = ("layer", "layer_plus1")  # kinds of norms that have one here


class NormSet(NamedTuple):
    """Where a layer's norms stand: their names and roles in the order of the state dict, and the wiring.

    branch: True where "post" norms act on the branch, before the addition.
    """

    names: tuple[str, ...]
    roles: tuple[str, ...]
    wiring: str = "pre"
    branch: bool = False

    def norms(self, d: Any, kind: str = "rms", layer: str = LAYER) -> tuple[Norm, ...]:
        """The norms of a layer of width d."""
        return tuple(Norm(f"{layer}.{n}", d, kind, kind in WITH_BIAS) for n in self.names)


PRE = NormSet(("input_layernorm", "post_attention_layernorm"), ("input", "pre_mlp"))
POST = NormSet(("post_attention_layernorm", "post_feedforward_layernorm"), ("post_mixer", "post_mlp"), "post", True)


def dense(
    c: Config,
    D: Dims,
    mixer: Callable[[Any], Attention],
    mlp: MLP | MoE,
    *,
    positions: int,
    kinds: Sequence[Any] = (FULL,),
    frame: NormSet = PRE,
    norm: str = "rms",
    tied: bool = False,
    **fields: Any,
) -> Architecture:
    """A decoder whose layers differ in their attention alone.

    mixer: the attention of a kind; kinds: of every layer, or one for all. norm: their kind, and the final norm's.
    positions, tied: the class's defaults. fields: further fields of the Architecture.
    """
    layers = [
        Layer(
            times, mixer(kind), mlp, frame.norms(D.d, norm), frame.roles, frame.wiring, indices=at,
            branch_norms=frame.branch,
        )
        for kind, times, at in layer_groups(kinds, D.L, c.traced)
    ]  # fmt: skip
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), layers, (Norm("model.norm", D.d, norm, norm in WITH_BIAS),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", tied),
        positions=c.plain("max_position_embeddings", positions), **fields,
    )  # fmt: skip


def sliding(
    c: Config, L: Any, default: int | None, pattern: Callable[[int], str] | None
) -> tuple[list[str], Callable[[Any], Any]]:
    """(kinds of the layers, the window of a kind): ``layer_types`` or ``pattern``, with ``sliding_window``."""
    window = window_size(c, default)
    kinds = windowed(c, layer_kinds(c, L, pattern), window)
    return kinds, lambda kind: window if kind == SLIDING else None


def head_norms(d_h: Any, kind: str = "rms", names: tuple[str, str] = ("q_norm", "k_norm")) -> tuple[Norm, Norm]:
    """Norms of every query and key head."""
    return Norm(f"{ATTN}.{names[0]}", d_h, kind), Norm(f"{ATTN}.{names[1]}", d_h, kind)
