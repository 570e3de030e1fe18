"""ZeRO-Offload and ZeRO-Infinity: what leaves the GPU for the host or its disks, and what the links carry for it.

Sources: Ren et al. 2021, ZeRO-Offload, arXiv 2101.06840, section 3 (gradients and optimizer state on the host, the
update on the CPU); Rajbhandari et al. 2021, ZeRO-Infinity, arXiv 2104.07857, sections 3 and 5 (every GPU moves its own
shard, so that all PCIe links work; the largest operator's weights and gradients are the least that stays).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import InputError, unknown
from estimator.parallel.degrees import Degrees
from estimator.parallel.recipe import Rates
from estimator.parallel.sharding import GRADIENTS, OPTIMIZER, WEIGHTS, Share
from estimator.records import dataclass
from estimator.trace import value_of

OFFLOADS = ("none", "optimizer", "all")
TARGETS = ("cpu", "nvme")
GATHERED = "largest layer, gathered"


@dataclass(frozen=True, slots=True)
class Moved:
    """What stays on the GPU (by part), what lies outside, and bytes a GPU and step over PCIe and to and from disk."""

    gpu: list[tuple[str, Any]]
    outside: list[tuple[str, Any]]
    pcie: Any
    disk: Any


@dataclass(frozen=True, slots=True)
class Host:
    """What lies in the host's memory: of one GPU's process by part, and of a node; bytes.

    rest   of the node's, what its processes' parts do not explain, and what it is; bare: of a node whose processes each
           load the whole model (no zero.Init), where that is more
    """

    parts: tuple[tuple[str, Any], ...]
    node: Any
    rest: str = ""
    bare: Any = None

    @property
    def own(self) -> Any:
        """Bytes of one GPU's process."""
        return sum(n for _, n in self.parts)


def on_host(outside: Sequence[tuple[str, Any]], degrees: Degrees) -> Host:
    """The host's memory where every GPU's process keeps its own shard: a node's is its GPUs' together."""
    return Host(tuple(outside), gpus_of_node(degrees) * sum(n for _, n in outside))


def gpus_of_node(degrees: Degrees) -> Any:
    """GPUs of the run in one node."""
    return degrees.gpus if value_of(degrees.gpus) < degrees.node else degrees.node


def check(offload: str, target: str, stages: tuple[int, ...], every: bool) -> None:
    """InputError for an offload that the stage does not allow; ``every``: all stages are shown side by side."""
    if offload not in OFFLOADS:
        raise unknown("--offload", offload, OFFLOADS)
    if target not in TARGETS:
        raise unknown("--offload-to", target, TARGETS)
    if offload == "none" and target != TARGETS[0]:
        raise InputError(f"--offload-to {target} says where: add --offload optimizer or --offload all")
    least = allowed(offload)
    if offload != "none" and not every and min(stages) < least:
        raise InputError(
            f"--offload {offload} needs --stage {least}{' or more' if least < 3 else ''}, got {min(stages)}"
        )


def allowed(offload: str) -> int:
    """The lowest stage that can offload this."""
    return {"none": 0, "optimizer": 1, "all": 3}[offload]


def offloaded(offload: str, stage: int) -> frozenset[str]:
    """The kinds of state that ``stage`` offloads."""
    if offload == "none" or stage < allowed(offload):
        return frozenset()
    return frozenset((GRADIENTS, OPTIMIZER) if offload == "optimizer" else (WEIGHTS, GRADIENTS, OPTIMIZER))


def moved(held: list[Share], rates: Rates, offload: str, largest: Any, micro_batches: Any) -> Moved:
    """Split what a GPU holds. ``largest``: elements of the largest layer, or 0 where they are not known.

    A step moves the gradients down and the updated weights up; with the weights outside, they also come up for every
    forward and every backward pass. A disk is read and written once for the optimizer state.
    """
    by = {h.part: h.bytes for h in held}
    shard = by[OPTIMIZER] // rates.optimizer if rates.optimizer else 0
    grads = shard * rates.gradient
    out = [(OPTIMIZER, by[OPTIMIZER]), (GRADIENTS, grads)]
    weights = shard * rates.weight
    if offload == "optimizer":
        return Moved([(WEIGHTS, by[WEIGHTS])], out, grads * micro_batches + weights, 2 * by[OPTIMIZER] + 2 * grads)
    gathered = largest * (rates.gathered + rates.gradient)
    pcie = grads * micro_batches + weights + 2 * micro_batches * by[WEIGHTS]
    disk = 2 * by[OPTIMIZER] + 2 * grads + weights + 2 * micro_batches * by[WEIGHTS]
    return Moved([(GATHERED, gathered)], [(WEIGHTS, by[WEIGHTS]), *out], pcie, disk)
