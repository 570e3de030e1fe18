"""What lies where: layers on devices, the rest on the host.

Rules (src/llama-model.cpp, load_tensors): the last ``gpu_layers`` of all layers and the output layer, which counts as
one more, lie on devices; the token table always lies on the host. Several devices get whole layers in proportion to
their shares. A layer's cache lies where the layer lies. ``--cpu-moe`` keeps routed experts on the host.
Where several devices hold all layers, micro-batches follow each other through them (pipeline parallelism): every input
and every copy that crosses is there four times, from the first node to the last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from estimator.records import dataclass

HOST = 0
COPIES = 4  # of what crosses between devices, where micro-batches overlap: GGML_SCHED_MAX_COPIES' default


@dataclass(frozen=True, slots=True)
class Placement:
    """Which layers lie where; 0 is the host, devices count from 1.

    layers      of the model; offloaded: of them and the output layer, how many lie on devices
    shares      of each device; host_experts: the layers whose experts stay on the host
    output_last whether the output layer is the last that is offloaded, as in builds before OUTPUT_FIRST
    overlaps    whether micro-batches follow each other through the devices, where nothing else stands against it
    """

    layers: int
    offloaded: int = 0
    shares: tuple[float, ...] = ()
    host_experts: frozenset[int] = frozenset()
    overlaps: bool = True
    output_last: bool = False

    @property
    def copies(self) -> int:
        """How often what crosses between devices is there: llama_context, pipeline_parallel."""
        whole = self.devices > 1 and self.offloaded > self.layers and not self.host_experts
        return COPIES if whole and self.overlaps else 1

    @property
    def first(self) -> int:
        """The first layer on a device."""
        return self.layers + (not self._late) - self.offloaded

    @property
    def _late(self) -> bool:
        """Whether the output layer stays on the host for its turn."""
        return self.output_last and self.offloaded <= self.layers

    @property
    def devices(self) -> int:
        return len(self.shares)

    def of(self, layer: int) -> int:
        """The device of a layer; layer ``layers`` is the output layer."""
        if not self.shares or layer < self.first or (self._late and layer == self.layers):
            return HOST
        ends = list(accumulate(self.shares))
        at = (layer - self.first) / self.offloaded * ends[-1]
        return 1 + min(bisect_right(ends, at), self.devices - 1)

    def experts_on_host(self, layer: int) -> bool:
        return layer in self.host_experts


def split_evenly(free: Iterable[int]) -> tuple[float, ...]:
    """Shares of devices in proportion to their free bytes: llama.cpp's default."""
    return tuple(float(x) for x in free)
