"""The layouts that serve a model: cards, degrees, engines, how the weights and the cache are stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from estimator.commands.plan.question import Serve
from estimator.commands.plan.search import cards, counts
from estimator.errors import unknown
from estimator.families.base import MoE
from estimator.records import dataclass

ENGINES = ("vllm", "sglang", "tensorrt-llm")
STORED = ("none", "fp8", "w8a8", "awq", "nvfp4")  # what a plain checkpoint is published in
CACHED = (None, "fp8")
NODE = 8  # GPUs of a machine, which share each layer at the most


@dataclass(frozen=True, slots=True)
class ServingLayout:
    """Where and how: a card, degrees, an engine (named: among others), how weights and cache are stored.

    experts: whole experts are dealt over the tensor and data groups, whose attentions serve requests of their own.
    """

    gpu: str
    tensor: int
    pipeline: int
    data: int
    engine: str
    quantization: str | None
    kv: str | None
    named: bool = False
    experts: bool = False

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def words(self) -> str:
        """The layout for a table: what differs from one GPU and from the files."""
        degrees = ((self.tensor, "tensor"), (self.pipeline, "pipeline"))
        parts = [self.engine] if self.named else []
        parts += [self.quantization] if self.quantization else []
        parts += [f"{self.kv} cache"] if self.kv else []
        parts += [f"{what} {n}" for n, what in degrees if n > 1]
        copies = f"data {self.data}" if self.experts else f"{self.data} replicas"
        parts += [copies] if self.data > 1 else []
        parts += [f"experts over {self.tensor * self.data}"] if self.experts else []
        return ", ".join(parts) or "as it is"


def ways(q: Serve, gpus: str) -> Iterator[ServingLayout]:
    """Every layout that is looked at."""
    routed = any(isinstance(x.mlp, MoE) for x in q.model.described.layers)
    engines = _names(q.engine, ENGINES, "--engine")
    storage: tuple[str | None, ...] = (None,)
    if str(q.quantization).lower() == "all":
        storage = STORED if plain(q) else (None,)
    elif q.quantization is not None:
        storage = tuple(x.strip() for x in str(q.quantization).split(",") if x.strip())
    caches: tuple[str | None, ...] = (None,)
    if q.kv_dtype is not None:
        names = tuple(x.strip() for x in str(q.kv_dtype).split(",") if x.strip())
        caches = CACHED if str(q.kv_dtype).lower() == "all" else names
    for gpu, n in product(cards(q.gpu), counts(gpus)):
        for engine, stored, kv in product(engines, storage, caches):
            for tensor, pipeline in _degrees(n):
                data, named = n // (tensor * pipeline), len(engines) > 1
                yield ServingLayout(gpu, tensor, pipeline, data, engine, stored, kv, named)
                if routed and 1 < tensor * data <= NODE:
                    yield ServingLayout(gpu, tensor, pipeline, data, engine, stored, kv, named, True)


def plain(q: Serve) -> bool:
    """Whether the checkpoint's weights are stored in 16 bits."""
    return q.model.declared.scheme is None and not q.model.mix


def _degrees(n: int) -> Iterator[tuple[int, int]]:
    """(tensor, pipeline) degrees of n GPUs: powers of two, tensor parallel inside a machine; the rest are replicas."""
    for tensor in (1, 2, 4, 8):
        for pipeline in (1, 2, 4, 8):
            if tensor <= NODE and n % (tensor * pipeline) == 0:
                yield tensor, pipeline


def _names(text: Any, known: tuple[str, ...], flag: str) -> tuple[str, ...]:
    if str(text).lower() == "all":
        return known
    from estimator.names import read

    found = tuple(str(read("engine", x)) for x in str(text).split(",") if x.strip())
    for name in found:
        if name not in known:
            raise unknown(flag, name, (*known, "all"))
    return found
