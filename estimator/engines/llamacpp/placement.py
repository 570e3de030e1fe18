"""What lies where: layers on devices, the rest on the host, and the graph cut at their borders.

Rules (src/llama-model.cpp, load_tensors): the last ``gpu_layers`` of all layers and the output layer, which counts as
one more, lie on devices; the token table always lies on the host. Several devices get whole layers in proportion to
their shares. A layer's cache lies where the layer lies. ``--cpu-moe`` keeps routed experts on the host.
The graph (ggml/src/ggml-backend.cpp, ggml_backend_sched_split_graph): every stretch of nodes on one device begins
with copies of what it reads from elsewhere; the large products of host layers run on the first device, whose
compute buffer their weights then pass through (op_offload, batches of 32 tokens and more).
Where several devices hold all layers, micro-batches follow each other through them (pipeline parallelism): every input
and every copy that crosses is there four times, from the first node to the last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from estimator.engines.llamacpp.graph import LEAF, GgmlTensor, bytes_of
from estimator.engines.llamacpp.passes import GraphBuilder
from estimator.records import NamedTuple, dataclass

HOST = 0
OFFLOAD_FROM = 32  # tokens of a batch whose host products run on a device: ggml-cuda, min_batch_size
COPIES = 4  # of what crosses between devices, where micro-batches overlap: GGML_SCHED_MAX_COPIES' default


@dataclass(frozen=True, slots=True)
class Placement:
    """Which layers lie where; 0 is the host, devices count from 1.

    layers      of the model; offloaded: of them and the output layer, how many lie on devices
    shares      of each device; host_experts: the layers whose experts stay on the host
    overlaps    whether micro-batches follow each other through the devices, where nothing else stands against it
    """

    layers: int
    offloaded: int = 0
    shares: tuple[float, ...] = ()
    host_experts: frozenset[int] = frozenset()
    overlaps: bool = True

    @property
    def copies(self) -> int:
        """How often what crosses between devices is there: llama_context, pipeline_parallel."""
        whole = self.devices > 1 and self.offloaded > self.layers and not self.host_experts
        return COPIES if whole and self.overlaps else 1

    @property
    def devices(self) -> int:
        return len(self.shares)

    def of(self, layer: int) -> int:
        """The device of a layer; layer ``layers`` is the output layer."""
        first = self.layers + 1 - self.offloaded
        if not self.shares or layer < first:
            return HOST
        ends = list(accumulate(self.shares))
        at = (layer - first) / self.offloaded * ends[-1]
        return 1 + min(bisect_right(ends, at), self.devices - 1)

    def experts_on_host(self, layer: int) -> bool:
        return layer in self.host_experts


class PlacedPass(NamedTuple):
    """A pass over devices: what is placed before it starts, and its nodes."""

    first: list[GgmlTensor]
    nodes: list[GgmlTensor]


def cut(p: GraphBuilder, place: Placement, product_bytes: Callable[[str, int], int]) -> PlacedPass:
    """The nodes of a pass with a device each, and the copies that cross between devices.

    product_bytes: bytes of the matrix of a module in a layer, 0 where it is not known.
    """
    if not place.devices:
        return PlacedPass(p.graph.inputs, p.graph.nodes)
    for t in (*p.graph.nodes, *(t for t in p.graph.inputs if t.op == LEAF)):
        t.device = _device(p, place, t)
    asked = _asked(p)
    out: list[GgmlTensor] = []
    made: dict[tuple[int, int], GgmlTensor] = {}
    passing = {id(t): w for t in p.graph.nodes if (w := _passing(p, place, t, product_bytes)) is not None}
    for stretch in _stretches(p.graph.nodes, passing):
        for t in stretch:
            weight = passing.get(id(t))
            first = () if weight is None else (weight,)
            out += first
            t.sources = (*first, *(_here(s, t.device, made, out) for s in t.sources[len(first) :]))
        out += stretch
    lasting = [*asked, *made.values()] if place.copies > 1 else []
    for t in lasting:
        t.output = True
    return PlacedPass([*p.graph.inputs, *lasting, *(_again(t) for t in lasting for _ in range(place.copies - 1))], out)


def _asked(p: GraphBuilder) -> list[GgmlTensor]:
    """The inputs that are there once for each micro-batch: in older builds only those that a node reads."""
    read = {id(s) for t in p.graph.nodes for s in t.sources}
    return [t for t in p.graph.inputs if t.op != LEAF and (p.context.mixed or id(t) in read)]


def _again(t: GgmlTensor) -> GgmlTensor:
    """Room for ``t`` of another micro-batch."""
    copy = GgmlTensor("COPY", t.shape, (), t.type)
    copy.device = t.device
    return copy


def _stretches(nodes: list[GgmlTensor], passing: dict[int, GgmlTensor]) -> Iterator[list[GgmlTensor]]:
    """Nodes in a row on one device; a product whose weight comes from the host starts a new stretch."""
    stretch: list[GgmlTensor] = []
    for t in nodes:
        if stretch and (t.device != stretch[-1].device or id(t) in passing):
            yield stretch
            stretch = []
        stretch.append(t)
    if stretch:
        yield stretch


def _device(p: GraphBuilder, place: Placement, t: GgmlTensor) -> int:
    """Where a node runs."""
    if t.root is not None and not t.root.held:
        return t.root.device
    layer = bisect_right(p.starts, t.number) - 1
    if layer < 0:
        return HOST
    own = place.of(layer)
    if t.op == "MUL_MAT_ID" and place.experts_on_host(layer) and own != HOST:
        return own if p.tokens >= OFFLOAD_FROM else HOST
    if own != HOST or p.tokens < OFFLOAD_FROM:
        return own
    at = bisect_right([r.start for r in p.cached], t.number) - 1
    return HOST if at >= 0 and t.number in p.cached[at] else 1


def _passing(
    p: GraphBuilder, place: Placement, t: GgmlTensor, product_bytes: Callable[[str, int], int]
) -> GgmlTensor | None:
    """The copy of a host weight that a product on a device reads."""
    if not t.weight or t.device == HOST:
        return None
    layer = bisect_right(p.starts, t.number) - 1
    here = place.of(layer) != HOST and not (t.op == "MUL_MAT_ID" and place.experts_on_host(layer))
    size = 0 if here else product_bytes(t.weight, layer)
    if not size:
        return None
    copy = GgmlTensor("COPY", (size,), ())
    copy.bytes, copy.device = size, t.device
    return copy


def _here(s: GgmlTensor, device: int, made: dict[tuple[int, int], GgmlTensor], out: list[GgmlTensor]) -> GgmlTensor:
    """``s`` on ``device``: itself, or a copy of it, made once."""
    if s.held or s.device == device or (s.root is not None and s.root.held):
        return s
    if (id(s), device) not in made:
        copy = GgmlTensor("COPY", s.shape, (s,), s.type)
        copy.bytes, copy.device = bytes_of(s.shape, s.type), device
        made[id(s), device] = copy
        out.append(copy)
    return made[id(s), device]


def split_evenly(free: Iterable[int]) -> tuple[float, ...]:
    """Shares of devices in proportion to their free bytes: llama.cpp's default."""
    return tuple(float(x) for x in free)
