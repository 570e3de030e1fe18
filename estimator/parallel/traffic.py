"""What data parallelism sends in one step, stage by stage, and how long a link is busy with it.

A reduce-scatter or an all-gather of n elements costs a GPU n in the textbook's limit of many GPUs and n*(N-1)/N on a
ring of N; an all-reduce is both, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import InputError
from estimator.formulas.zero import ring_elements
from estimator.ops import ceil_div
from estimator.parallel.degrees import BETWEEN, INSIDE, Degrees
from estimator.parallel.recipe import Rates
from estimator.parallel.sharding import EXPERTS, Piece
from estimator.records import dataclass
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE

ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, ALL_TO_ALL = (
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "broadcast",
    "all-to-all",
)
ROUNDS = {ALL_REDUCE: 2}  # an all-reduce moves every element twice

# ZeRO++ (arXiv 2306.10209, section 3): int8 weights, a second copy of the weights in each node, int4 gradients
QWZ, HPZ, QGZ = "qwz", "hpz", "qgz"
ZERO_PP = (QWZ, HPZ, QGZ)
QWZ_BITS, QGZ_BITS = 8, 4


@dataclass(frozen=True, slots=True)
class Transfer:
    """One kind of collective of a step.

    op, what    e.g. all-gather of weights
    elements    that one such collective covers on one GPU; bits: of one element
    over        GPUs of the group; times: a step; inside: True where it stays within a node; ports: else, see Degrees
    """

    op: str
    what: str
    elements: Any
    bits: int
    over: Any
    times: Any = 1
    inside: bool = False
    ports: int = 1

    @property
    def link(self) -> str:
        """Which of ``Links`` it goes over."""
        return INSIDE if self.inside else BETWEEN

    @property
    def textbook(self) -> Any:
        """Elements a GPU sends in a step, in the limit of many GPUs."""
        return ROUNDS.get(self.op, 1) * self.times * self.elements

    @property
    def ring(self) -> Any:
        """Elements a GPU sends in a step on a ring of ``over``."""
        return ROUNDS.get(self.op, 1) * self.times * ring_elements(self.elements, self.over)

    @property
    def bytes(self) -> Any:
        """Bytes a GPU sends in a step on a ring."""
        return ceil_div(self.ring * self.bits, BITS_PER_BYTE)


def transfers(
    pieces: Sequence[Piece],
    recipe: Rates,
    stage: int,
    micro_batches: Any = 1,
    zero_pp: Sequence[str] = (),
    *,
    degrees: Degrees,
) -> list[Transfer]:
    """Every collective of the data-parallel groups in a step of ``micro_batches`` forward and backward passes.

    Stages 0 and 1 reduce gradients once a step; stages 2 and 3 keep only a shard of them, so every micro-batch
    reduces; stage 3 gathers the weights for every forward and every backward pass.
    """
    out: list[Transfer] = []
    for p in pieces:
        what = f" of {p.label}" if len(pieces) > 1 else ""
        found = _piece(p, recipe, stage, micro_batches, zero_pp, degrees, what)
        out += found if p.trains else [t for t in found if _of_frozen(t)]
    return out


def _of_frozen(t: Transfer) -> bool:
    """Whether weights that do not train are sent so: gathered to compute with, not reduced and not updated."""
    return t.op == ALL_GATHER and not t.what.startswith("updated")


def _piece(p: Piece, r: Rates, stage: int, m: Any, pp: Sequence[str], degrees: Degrees, what: str) -> list[Transfer]:
    grads, weights = BITS_PER_BYTE * r.reduced, BITS_PER_BYTE * r.gathered
    inside, node = degrees.link("data") == INSIDE, degrees.node
    ports = degrees.ports("experts" if p.label == EXPERTS else "data")

    def made(op: str, of: str, bits: int, times: Any = 1, over: Any = p.over, local: bool = inside) -> Transfer:
        return Transfer(op, of + what, p.elements, bits, over, times, local, 1 if op == ALL_TO_ALL else ports)

    if stage == 0:
        return [made(ALL_REDUCE, "gradients", grads)]
    if stage == 1 and not r.flat:
        # ZeroRedundancyOptimizer works beside DDP, whose all-reduce stays
        return [made(ALL_REDUCE, "gradients", grads), made(BROADCAST, "updated weights", BITS_PER_BYTE * r.weight)]
    if stage == 1:
        return [made(REDUCE_SCATTER, "gradients", grads), made(ALL_GATHER, "updated weights", weights)]
    reduce = [made(REDUCE_SCATTER, "gradients", grads, m)]
    if stage == 2:
        # FSDP2 frees what it gathered after every backward pass; elsewhere the weights are whole and gathered once
        return [*reduce, made(ALL_GATHER, "updated weights" if r.flat else "weights", weights, 1 if r.flat else m)]
    forward = made(ALL_GATHER, "weights, forward", QWZ_BITS if QWZ in pp else weights, m)
    backward = made(ALL_GATHER, "weights, backward", QWZ_BITS if QWZ in pp else weights, m)
    if HPZ in pp:
        backward = made(ALL_GATHER, "weights, backward (from the node's copy)", weights, m, node, True)
    if QGZ in pp:
        reduce = [made(ALL_TO_ALL, "gradients, int4", QGZ_BITS, m)]
    return [forward, backward, *reduce]


def check_zero_pp(text: str, stages: Sequence[int], shards: Any, node: int) -> tuple[str, ...]:
    """The parts of ZeRO++ named in ``text`` (``all`` or a list); InputError where they cannot be had."""
    words = [w.strip().lower() for w in text.split(",") if w.strip()]
    parts = list(ZERO_PP) if words == ["all"] else words
    for part in parts:
        if part not in ZERO_PP:
            raise InputError(f"--zero-pp: unknown part {part[:20]!r}; known: qwz, hpz, qgz, all")
    if parts and 3 not in stages:
        raise InputError("--zero-pp needs --stage 3: ZeRO++ quantises and partitions what stage 3 gathers")
    if HPZ in parts and int(value_of(shards)) % node:
        raise InputError(f"--zero-pp hpz: {int(value_of(shards))} shards are not a multiple of --gpus-per-node {node}")
    return tuple(parts)
