"""Whether a quantised checkpoint can be cut over a tensor group: a cut through numbers that share a scale is refused.

vLLM 0.19.0, model_executor/layers/quantization/utils/fp8_utils.py, validate_fp8_block_shape; fp8.py, Fp8MoEMethod;
awq.py, gptq.py and utils/marlin_utils.py, verify_marlin_supports_shape (so since 0.2: "The input size is not aligned
with the quantized weight shape"); moe_wna16.py. SGLang 0.5.9, srt/layers/quantization/fp8.py, awq.py, gptq.py,
moe_wna16.py. Both raise a ValueError. What the other engines do is not known, and they are not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from estimator.engines.asked import ServerAsked
from estimator.engines.layers import decoder_layers
from estimator.errors import InputError
from estimator.families.base import MLP, Attention, Linear, MoE
from estimator.inventory import EXPERT
from estimator.ops import round_up
from estimator.parallel.tensor import LATENT
from estimator.records import NamedTuple
from estimator.storage.layouts import WEIGHT_ONLY
from estimator.trace import value_of

# vLLM lets the parts of a fused matrix be no multiple of a tile (linear.py of 0.19.0, not fp8.py of 0.10)
FUSED_ANYHOW = (0, 11)
MLPS = "MLPs"
LEAST = 32  # of a group of packed experts, which is halved until it divides: moe_wna16.py


class Divided(NamedTuple):
    """A side of a matrix on a rank: what it is, its numbers in all and on how many ranks, those that share a scale."""

    what: str
    whole: int
    ranks: int
    tile: int

    @property
    def fits(self) -> bool:
        return self.whole % (self.ranks * self.tile) == 0


def check_tiles(asked: ServerAsked) -> None:
    """InputError, with what would load, where the engine refuses the checkpoint at this degree."""
    found = next((x for x in sides(asked) if not x.fits), None)
    if found is None:
        return
    each = f"{found.whole:,} / {found.ranks} = {found.whole // found.ranks:,}"
    raise InputError(
        f"--tensor-parallel {asked.tensor}: {asked.engine} does not load {found.what} of {each} columns, no "
        f"multiple of the {found.tile} that share a scale in {asked.store.scheme}. {_instead(asked, found)}"
    )


def _instead(asked: ServerAsked, found: Divided) -> str:
    """What to type: whole experts a rank, or the next smaller degree that divides; or what a publisher does."""
    out = []
    if not asked.experts and dealing_helps(asked, asked.tensor):
        out.append("--expert-parallel")
    less = [n for n in range(asked.tensor - 1, 0, -1) if asked.tensor % n == 0 and loads(asked, n, asked.experts)]
    out += [f"--tensor-parallel {n}" for n in less[:1]]
    if found.what == MLPS and asked.store.products == WEIGHT_ONLY:
        padded = round_up(found.whole, found.ranks * found.tile)
        out.append(f"a checkpoint whose MLPs are padded (--set intermediate_size={padded})")
    return f"Use {' or '.join(out)}" if out else "No degree loads it"


def dealing_helps(asked: ServerAsked, tensor: int) -> bool:
    """Whether the checkpoint loads at a degree with whole experts dealt, and not with experts cut."""
    return not loads(asked, tensor, asked.experts) and loads(asked, tensor, True)


def loads(asked: ServerAsked, tensor: int, experts: bool) -> bool:
    """Whether the engine loads the checkpoint at another degree."""
    return all(x.fits for x in sides(replace(asked, tensor=tensor, experts=experts)))


def sides(asked: ServerAsked) -> Iterator[Divided]:
    """Every side that is cut through tiles, once a kind of layer."""
    met: set[int] = set()
    if not asked.store.tiles:
        return
    for one in decoder_layers(asked.arch):
        if id(one) in met:
            continue
        met.add(id(one))
        for mixer in (one.mixer, one.cross):
            if isinstance(mixer, Attention):
                yield from _attention(asked, mixer)
        if isinstance(one.mlp, MoE):
            yield from _experts(asked, one.mlp)
            if one.mlp.shared is not None:
                yield from _mlp(asked, one.mlp.shared, "shared experts")
        elif one.mlp is not None:
            yield from _mlp(asked, one.mlp, MLPS)


def _tile(asked: ServerAsked, name: str) -> tuple[int, int]:
    """The (inputs, outputs) of a weight that share a scale; 0: not quantised, or the whole side."""
    return asked.store.tiles.get(name, (0, 0))


def _row(asked: ServerAsked, matrix: Linear, what: str) -> Iterator[Divided]:
    """A matrix cut by its inputs."""
    tile = _tile(asked, f"{matrix.name}.weight")[0]
    if asked.tensor > 1 and tile > 1:
        yield Divided(what, int(value_of(matrix.d_in)), asked.tensor, tile)


def _column(asked: ServerAsked, matrix: Linear, what: str, size: int, ranks: int) -> Iterator[Divided]:
    """A matrix cut by its outputs, ``size`` over ``ranks``."""
    tile = _tile(asked, f"{matrix.name}.weight")[1]
    if asked.tensor > 1 and tile > 1:
        yield Divided(what, size, ranks, tile)


def _attention(asked: ServerAsked, a: Attention) -> Iterator[Divided]:
    yield from _row(asked, a.out, "heads")
    if a.mla is not None:
        for p in a.projections:
            if p.name.rpartition(".")[2] not in LATENT:
                yield from _column(asked, p, "heads", int(value_of(p.d_out)), asked.tensor)
    elif asked.engine != "vllm" or not asked.at_least(*FUSED_ANYHOW):
        kept = min(asked.tensor, int(value_of(a.kv_heads)))  # more ranks hold copies of a head
        for i, p in enumerate(a.projections[:2] if len(a.projections) > 1 else ()):
            what = "key/value heads" if i else "heads"
            yield from _column(asked, p, what, int(value_of(p.d_out)), kept if i else asked.tensor)


def _mlp(asked: ServerAsked, m: MLP, what: str) -> Iterator[Divided]:
    yield from _row(asked, m.linears[-1], what)


def _experts(asked: ServerAsked, m: MoE) -> Iterator[Divided]:
    """Experts cut like an MLP, or whole; packed ones in groups that may be halved."""
    ranks = 1 if asked.experts else asked.tensor
    for stack in m.experts:
        tile, out = _tile(asked, stack.name)
        if stack.role == EXPERT and tile > 1:
            yield Divided("experts", int(value_of(m.width)), ranks, tile if out > 1 else min(tile, LEAST))
