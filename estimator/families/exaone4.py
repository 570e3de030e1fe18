"""EXAONE 4: norms after the attention and the MLP, on the branch; q/k norms; three windowed layers to a full one,
which has no rotary embedding.

Source: transformers 5, models/exaone4/modeling_exaone4.py and configuration_exaone4.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Attention
from estimator.families.common import FULL, SLIDING, gated_mlp, gqa, read_dims, window_size
from estimator.families.common_dense import ATTN, LAYER, POST, dense, head_norms, sliding
from estimator.families.common_gguf import Gguf

GGUF = {"exaone4": Gguf("exaone4", windows=True)}


def mixers(
    c: Config, L: Any, d: Any, h: Any, h_kv: Any, d_h: Any
) -> tuple[list[str], Callable[[str], Attention]]:  # fmt: skip
    """(kinds of the layers, the attention of a kind): rotary embedding in windowed layers, in all where none is."""
    windowless = window_size(c, 4096) is None
    kinds, window = sliding(c, L, 4096, lambda i: FULL if windowless or _last(c, i) else SLIDING)

    def mixer(kind: str) -> Attention:
        rope = kind == SLIDING or windowless
        return gqa(
            ATTN, d, h, h_kv, d_h, norms=head_norms(d_h), normed="transposed", window=window(kind),
            position="rope" if rope else "none",
        )  # fmt: skip

    return kinds, mixer


def _last(c: Config, i: int) -> bool:
    """Whether layer i ends a period of ``sliding_window_pattern``: a number, or letters like "LLLG"."""
    pattern = c.raw.get("sliding_window_pattern", 4)
    if isinstance(pattern, str) and pattern:
        return pattern[i % len(pattern)] == "G"
    return (i + 1) % c.plain("sliding_window_pattern", 4, least=1) == 0


def build(c: Config) -> Architecture:
    """EXAONE 4 from its config."""
    D = read_dims(c, 4096, 32, 16384, 102400, 32, h_kv=32)
    kinds, mixer = mixers(c, D.L, D.d, D.h, D.h_kv, D.d_h)
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    return dense(c, D, mixer, mlp, kinds=kinds, frame=POST, positions=2048)
