"""What an engine's start leaves on one GPU: the parts of its budget and the pool of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.card import Range
from estimator.engines.asked import ServerAsked
from estimator.engines.pool import Pool
from estimator.errors import InputError
from estimator.families.base import Layer
from estimator.records import dataclass


@dataclass(frozen=True, slots=True)
class ServedRank:
    """One rank's memory in bytes; traced in a run that derives.

    budget       what the engine allows itself, None without a card
    weights, activation, other   as the engine's log counts them; other: outside torch's allocator
    graphs       CUDA graphs: a range, for no formula is known
    reserved     bytes of the graphs that the engine leaves out of its pool (0: they come on top)
    stage        the layers that it holds
    layers       those layers, as the engine caches them
    left         how the pool is written down
    pool         blocks, None where neither a card nor --pool-bytes is given
    """

    budget: Any
    weights: Any
    activation: Any
    other: Any
    graphs: Range
    reserved: Any
    pool_bytes: Any
    pool: Pool | None
    token_bytes: Any
    stage: range
    layers: Sequence[Layer]
    left: Any = None

    @property
    def used(self) -> Any:
        """Bytes beside the pool."""
        return self.weights + self.activation + self.other + self.reserved


def fewest(ranks: Sequence[ServedRank]) -> ServedRank:
    """The rank that decides: of those with a pool that with the fewest blocks, the last of several; of none the
    heaviest."""
    pooled = [r for r in reversed(ranks) if r.pool is not None]
    if not pooled:
        return max(ranks, key=lambda r: int(r.used))
    return min(pooled, key=lambda r: int(r.pool.blocks) if r.pool else 0)


def check_decoder(asked: ServerAsked) -> None:
    """InputError for an encoder, which only vLLM's file describes."""
    if asked.arch.kind != "decoder":
        raise InputError(f"--engine {asked.engine}: {asked.model.name} is an encoder; --engine vllm describes those")


def check_dealt(asked: ServerAsked) -> None:
    """InputError where a sequence's cache cannot be dealt over ranks: they must hold copies of the same heads.

    Source: vLLM docs/serving/context_parallel_deployment.md; its layers with windows or states are not dealt.
    """
    n, flag = asked.dealt, f"--decode-context-parallel {asked.dealt}"
    if n == 1:
        return
    kept = [a for a in asked.arch.attentions if a.causal]
    copies = min((asked.tensor if a.mla is not None else asked.tensor // int(a.kv_heads) for a in kept), default=0)
    if asked.tensor % n or n > copies:
        raise InputError(
            f"{flag}: must divide --tensor-parallel {asked.tensor} and be at most {max(1, copies)}, the ranks that "
            "hold copies of the same key/value heads"
        )
    if any(a.window is not None or a.chunk is not None for a in kept) or len(kept) < len(asked.arch.layers):
        raise InputError(f"{flag}: {asked.model.name} has layers with windows or states, which are not dealt")


def check_heads(asked: ServerAsked) -> None:
    """InputError where the heads cannot be dealt to the tensor group."""
    for a in asked.arch.attentions:
        if int(a.heads) % asked.tensor:
            raise InputError(
                f"--tensor-parallel {asked.tensor}: {int(a.heads)} attention heads cannot be split evenly"
            )
