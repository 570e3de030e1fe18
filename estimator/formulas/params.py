"""Parameters of a model: all, those a token uses, and those of its embedding tables; folds over the inventory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from estimator.families.base import Architecture, MoE
from estimator.inventory import EMBEDDING, EXPERT, HEAD, POSITION, TOKEN_TYPE, total
from estimator.same import Same


def total_params(arch: Architecture) -> Any:
    """Every unique parameter; a tied output layer counts once, buffers do not."""
    return _total(Same(arch))


@lru_cache(maxsize=64)
def _total(same: Same[Architecture]) -> Any:
    return total(same.it.weights())


def active_params(arch: Architecture) -> Any:
    """Parameters that one token uses: all but the routed experts it is not sent to (total - experts * (1 - k / E))."""
    moe = next((layer.mlp for layer in arch.layers if isinstance(layer.mlp, MoE)), None)
    everything = total_params(arch)
    E, k = (moe.num, moe.per_token) if moe is not None else arch.routed or (1, 1)
    return everything if k == E else everything - total(arch.weights(), EXPERT) // E * (E - k)


def embedding_params(arch: Architecture) -> Any:
    """Token, position and token-type tables, and the output matrix where it has weights of its own (not its bias)."""
    weights = arch.weights()
    heads = sum(w.total for w in weights if w.role == HEAD and not w.is_bias)
    return total(weights, EMBEDDING, POSITION, TOKEN_TYPE) + heads
