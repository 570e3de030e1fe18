"""A model loaded by llama.cpp: what every device and the host hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

from estimator.engines.llamacpp.allocate import aligned, compute_bytes
from estimator.engines.llamacpp.caches import kept
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.model import build, ordered
from estimator.engines.llamacpp.passes import Lora, Pair
from estimator.engines.llamacpp.placement import HOST, Placement
from estimator.engines.llamacpp.schedule import cut
from estimator.engines.llamacpp.weights import Weights
from estimator.families.base import Architecture
from estimator.families.common_gguf import Gguf, of_side, two_sided
from estimator.formulas.llamacpp import gguf_output_bytes
from estimator.records import NamedTuple, dataclass
from estimator.same import Answered, Same
from estimator.trace import value_of


class Holding(NamedTuple):
    """Bytes in one place."""

    weights: int = 0
    cache: int = 0
    states: int = 0
    compute: int = 0
    output: int = 0
    adapters: int = 0

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Load:
    """A model, its context, its weights, and where they lie.

    cache_on_host: --no-kv-offload; tower: bytes of a vision tower, on the first device; draft: a draft model's load;
    loras: adapters, each pair beside the matrix that it adapts.
    """

    name: str
    arch: Architecture
    gguf: Gguf
    context: Context
    weights: Weights
    place: Placement
    cache_on_host: bool = False
    tower: int = 0
    draft: Load | None = None
    loras: tuple[Lora, ...] = ()

    @cached_property
    def held(self) -> tuple[Holding, ...]:
        """What the host (0) and each device hold."""
        if self.draft is None:
            return self.own
        pairs = zip(self.own, self.draft.held, strict=True)
        return tuple(Holding(*(a + b for a, b in zip(x, y, strict=True))) for x, y in pairs)

    @cached_property
    def own(self) -> tuple[Holding, ...]:
        """What they hold of the model itself, without its draft."""
        n = self.place.devices + 1
        weights, cache, states = ([0] * n for _ in range(3))
        weights[HOST] += self.weights.table
        order = ordered(self.arch)
        for i, part in enumerate(self.weights.layers):
            at, layer = self.place.of(i), order[min(i, len(order) - 1)]
            weights[at] += part.rest
            weights[HOST if self.place.experts_on_host(i) else at] += part.experts
            for k in kept(layer, self.arch, self.gguf, self.context, 1):
                column = states if k.kind == "recurrent" else cache
                column[HOST if self.cache_on_host else at] += int(value_of(k.bytes))
        end = self.place.of(self.place.layers)
        weights[end] += self.weights.output if end == HOST else self.weights.head
        weights[1 if n > 1 else HOST] += self.tower
        compute = self._compute()
        output = int(value_of(self.output_bytes))
        adapters = self._adapters()
        return tuple(
            Holding(
                weights[i], cache[i], states[i], compute.get(i, 0), output if i == HOST else 0, adapters.get(i, 0)
            )
            for i in range(n)
        )

    def _adapters(self) -> dict[int, int]:
        out: dict[int, int] = {}
        for (_, i, part), pair in (x for lora in self.loras for x in lora.pairs.items()):
            at = self.place.of(self.place.layers if i < 0 else i)
            at = HOST if part and self.place.experts_on_host(i) else at
            out[at] = out.get(at, 0) + aligned(pair.a, at) + aligned(pair.b, at)
        return out

    @property
    def output_bytes(self) -> Any:
        """Rows that are handed out, on the host."""
        embedding = self.arch.hidden if self.context.pooling or two_sided(self.arch) else 0
        return gguf_output_bytes(self.context.sequences, self.arch.vocab, embedding)

    @property
    def encoder(self) -> Load | None:
        """The load of an encoder beside the decoder: its pass runs before the decoder's and is never reserved."""
        if not two_sided(self.arch):
            return None
        context = replace(self.context, pooling="none", cached=True)
        return replace(self, arch=of_side(self.arch, "encoder"), context=context, draft=None)

    def product(self, name: str, layer: int) -> int:
        """Bytes of the matrix of a module in a layer, 0 where it is not known."""
        return self.weights.products.get((name, -1 if layer >= self.place.layers else layer), 0)

    def _compute(self) -> dict[int, int]:
        """Bytes of each place's compute buffer."""
        made, place = self._buffers(self.context), self.place
        if place.devices and (place.offloaded <= place.layers or place.host_experts or self.cache_on_host):
            # a token's products stay on the host, where a prompt's go to a device
            step = self._buffers(replace(self.context, step=True))
            made = {at: max(made.get(at, 0), step.get(at, 0)) for at in (*made, *step)}
        return made

    def _buffers(self, context: Context) -> dict[int, int]:
        """Those of one graph: the same for all weights of which those that are copied between places are the same."""
        key = Same(self.arch), Same(self.gguf), Same(self.loras), context, self.place, self.cache_on_host
        known = _known(key)
        made = known.known(lambda of: self.product(*of))
        if made is None:
            asked: dict[tuple[str, int], int] = {}
            made = known.keep(asked, self._laid_out(context, asked))
        return made

    def _laid_out(self, context: Context, asked: dict[tuple[str, int], int]) -> dict[int, int]:
        """The same by the graph itself; ``asked`` gets what is asked of the weights."""

        def product(*of: Any) -> int:
            asked[of] = self.product(*of)
            return asked[of]

        p = build(self.arch, self.gguf, context, self.loras)
        return compute_bytes(*cut(p, self.place, product, self.cache_on_host))

    def pairs(self, layer: int) -> list[Pair]:
        """The adapters' pairs of a layer (-1: of the output)."""
        return [pair for lora in self.loras for (_, i, _), pair in lora.pairs.items() if i == layer]

    @property
    def devices(self) -> tuple[Holding, ...]:
        """What each device holds."""
        return self.held[1:]

    @property
    def host(self) -> Holding:
        return self.held[HOST]

    def with_context(self, tokens: int) -> Load:
        """The same with another ``--ctx-size``; itself with its own."""
        if tokens == self.context.asked:
            return self
        draft = None if self.draft is None else self.draft.with_context(tokens)
        return replace(self, context=replace(self.context, asked=tokens), draft=draft)

    def with_layers(self, n: int) -> Load:
        """The same with another ``--gpu-layers``; itself with its own."""
        return self if n == self.place.offloaded else replace(self, place=replace(self.place, offloaded=n))

    def with_experts(self, n: int) -> Load:
        """The same with all layers on devices but the experts of the first ``n`` (``--cpu-moe``)."""
        place = replace(self.place, offloaded=self.place.layers + 1, host_experts=frozenset(range(n)))
        return self if place == self.place else replace(self, place=place)

    def with_weights(self, weights: Weights) -> Load:
        """The same in another mix."""
        return replace(self, weights=weights)


@lru_cache(maxsize=256)
def _known(key: tuple[Any, ...]) -> Answered[dict[int, int]]:
    """Bytes of compute buffers, for each way in which mixes answer what is asked of the weights."""
    return Answered()
