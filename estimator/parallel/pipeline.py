"""Pipeline parallelism: which layers a stage holds, how many micro-batches are in flight there, how long it idles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from estimator.errors import InputError, unknown
from estimator.families.base import Architecture, Layer
from estimator.formulas.zero import (
    bubble_1f1b,
    bubble_interleaved,
    bubble_zb_h1,
    in_flight_1f1b,
    in_flight_interleaved,
    in_flight_zb_h2,
)
from estimator.ops import exact_div
from estimator.records import dataclass
from estimator.trace import value_of

SCHEDULES = ("1f1b", "gpipe", "interleaved", "zb-h1", "zb-h2")
SPLITS = ("even", "ends")


@dataclass(frozen=True, slots=True)
class Stage:
    """What one GPU of a pipeline holds: ``layers`` as (layer, how many), and which ends of the model; ``chunks``: the
    same group by group, in the order in which a micro-batch passes them."""

    index: int
    layers: tuple[tuple[Layer, Any], ...]
    first: bool
    last: bool
    chunks: tuple[tuple[tuple[Layer, Any], ...], ...] = ()

    @property
    def count(self) -> Any:
        return sum(n for _, n in self.layers)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How micro-batches go through the stages. chunks: groups of layers a GPU holds (interleaved), else 1."""

    name: str
    stages: Any
    micro_batches: Any
    chunks: int = 1

    def in_flight(self, index: int) -> Any:
        """Micro-batches' worth of this stage's activations alive at once: an int, or a Fraction (interleaved)."""
        p, m = self.stages, self.micro_batches
        if self.name == "gpipe":
            return m
        if self.name == "interleaved":
            most = in_flight_interleaved(p, index, m, self.chunks)
            return Fraction(int(value_of(most)), self.chunks)
        return in_flight_zb_h2(p, index, m) if self.name == "zb-h2" else in_flight_1f1b(p, index, m)

    @property
    def bubble(self) -> Any:
        """Idle time over ideal time."""
        p, m = self.stages, self.micro_batches
        if p == 1 or self.name == "zb-h2":
            return 0.0
        if self.name == "interleaved":
            return bubble_interleaved(p, m, self.chunks)
        return bubble_zb_h1(p, m) if self.name == "zb-h1" else bubble_1f1b(p, m)


def schedule(name: str, stages: Any, micro_batches: Any, chunks: int) -> Schedule:
    """A schedule; InputError for combinations that do not exist."""
    if name not in SCHEDULES:
        raise unknown("--schedule", name, SCHEDULES)
    if chunks < 1 or chunks > 1000:
        raise InputError(f"--virtual-stages must be 1 to 1000, got {chunks}")
    if name != "interleaved" and chunks != 1:
        raise InputError(f"--virtual-stages {chunks} needs --schedule interleaved")
    if name == "interleaved" and value_of(micro_batches) % value_of(stages):
        raise InputError(
            f"--schedule interleaved: --micro-batches {value_of(micro_batches)} is not a multiple of "
            f"--pipeline-parallel {value_of(stages)}"
        )
    return Schedule(name, stages, micro_batches, chunks)


def sequence(arch: Architecture) -> list[Layer]:
    """The layers one by one, in the order in which they run."""
    out: list[Layer] = []
    for side in ("encoder", "decoder"):
        groups = [g for g in arch.layers if g.side == side]
        if all(g.indices is None for g in groups):
            for g in groups:
                out += [g] * int(value_of(g.times))
        else:
            out += [g for _, g in sorted(((i, g) for g in groups for i in g.indices or ()), key=lambda x: x[0])]
    return out


def split(arch: Architecture, stages: Any, chunks: int, how: str) -> list[Stage]:
    """The stages; ``ends``: the embedding and the head each count as a layer, as where stages do not divide the layers.

    Raises InputError for layers that share weights, and more stages than layers.
    """
    p = int(value_of(stages))
    if how not in SPLITS:
        raise unknown("--pipeline-split", how, SPLITS)
    if p == 1:
        return [Stage(0, tuple((g, g.times) for g in arch.layers), True, True)]
    if any(g.shared for g in arch.layers):
        raise InputError(f"--pipeline-parallel {p}: the layers share one set of weights, which no stage can hold alone")
    order = sequence(arch)
    less = int(how == "ends" or len(order) % (p * chunks) != 0)
    if len(order) + 2 * less < p * chunks or len(order) < p:
        what = f" x {chunks} virtual stages" if chunks > 1 else ""
        raise InputError(f"--pipeline-parallel {p}{what}: more stages than the {len(order)} layers can fill")
    if len(arch.layers) == 1 and not less:
        only = arch.layers[0]
        chunk = ((only, exact_div(only.times, stages * chunks)),)
        held = ((only, exact_div(only.times, stages)),)
        return [Stage(i, held, i == 0, i == p - 1, (chunk,) * chunks) for i in range(p)]
    return _dealt(order, p, chunks, less)


def uneven(arch: Architecture, stages: Any, chunks: int, how: str) -> list[str]:
    """What is said where the stages do not divide the layers."""
    p, layers = int(value_of(stages)) * chunks, len(sequence(arch)) if value_of(stages) != 1 else 0
    if (layers + 2 * (how == "ends")) % p == 0:
        return []
    return [
        f"{layers} layers do not divide into {p} stages: the embedding and the head count as a layer each, and the "
        "first stages take one more where any is left (torchtitan's generate_llm_fqn_per_model_part)"
    ]


def _dealt(order: Sequence[Layer], p: int, chunks: int, less: int) -> list[Stage]:
    """Contiguous runs of layers, dealt round-robin to the GPUs; the first and the last run are ``less`` shorter."""
    size, left = divmod(len(order) + 2 * less, p * chunks)
    runs, at = [], 0
    for i in range(p * chunks):
        n = size + (i < left) - less * ((i == 0) + (i == p * chunks - 1))
        runs.append(order[at : at + n])
        at += n
    out = []
    for i in range(p):
        own = [runs[c * p + i] for c in range(chunks)]
        held = _grouped([g for run in own for g in run])
        out.append(Stage(i, held, i == 0, i == p - 1, tuple(map(_grouped, own))))
    return out


def _grouped(layers: Sequence[Layer]) -> tuple[tuple[Layer, int], ...]:
    """How many there are of each kind."""
    return tuple((next(g for g in layers if id(g) == k), n) for k, n in Counter(map(id, layers)).items())
