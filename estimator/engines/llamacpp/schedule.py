"""Which device each node of a graph runs on, and what is copied between them, as ggml's scheduler decides.

Source: ggml/src/ggml-backend.cpp (ggml_backend_sched_split_graph), passes 1, 2, 4 and 5; ggml-cuda.cu (offload_op);
src/llama-context.cpp (graph_get_cb), build 11434. Every operation is taken to run on every device.
1. A node that writes a cache runs where the cache lies; one with a weight where that lies, and where that is the host
   and the batch has 32 rows, on the first device, to which the weight is copied.
2. What has no weight follows its neighbours: devices spread down, then up, then the host does.
3. A stretch on one device begins with copies of what it reads from elsewhere, made once for each device; a weight from
   elsewhere begins a new one, if the stretch has copies already.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from math import prod

from estimator.engines.llamacpp.graph import CACHE, HELD, LEAF, GgmlTensor, bytes_of
from estimator.engines.llamacpp.passes import GraphBuilder
from estimator.engines.llamacpp.placement import HOST, Placement
from estimator.records import NamedTuple

OFFLOAD_FROM = 32  # rows of a batch whose host products run on a device: ggml-cuda, op_offload_min_batch_size
WIDE = 4  # bytes of a number of a norm, a bias or a router
UNSIGHTED = ("ROPE", "FLASH_ATTN_EXT")  # whose weights are too small to decide


class PlacedPass(NamedTuple):
    """A pass over devices: what is placed before it starts, and its nodes."""

    first: list[GgmlTensor]
    nodes: list[GgmlTensor]


class Scheduler:
    """A graph on its way onto devices; product_bytes: of the matrix of a module in a layer, 0 where it is not known."""

    def __init__(
        self, p: GraphBuilder, place: Placement, product_bytes: Callable[[str, int], int], cache_on_host: bool
    ) -> None:
        self.p, self.place, self.product_bytes, self.cache_on_host = p, place, product_bytes, cache_on_host
        self.of = [place.of(i) for i in range(len(p.starts))]
        self.at: dict[int, int] = {}
        self.made: dict[tuple[int, int], GgmlTensor] = {}

    def layer(self, t: GgmlTensor) -> int:
        """The layer of a node; -1 before the first."""
        return bisect_right(self.p.starts, t.number) - 1

    def home(self, s: GgmlTensor, reader: GgmlTensor) -> int:
        """Where a weight or a cache lies that ``reader`` reads."""
        layer = self.layer(reader)
        if layer < 0 or (is_cache(s) and self.cache_on_host):
            return HOST
        experts = reader.op == "MUL_MAT_ID" or (reader.op == "ADD_ID" and s.held)
        return HOST if experts and self.place.experts_on_host(layer) else self.of[layer]

    def assign(self) -> None:
        """A device for every node."""
        nodes = [t for t in self.p.graph.nodes if t.op != "VIEW"]
        for t in nodes:
            found = self._first(t)
            if found is not None:
                self.at[id(t)] = found
        for order, devices in ((nodes, True), (nodes[::-1], True), (nodes, False), (nodes[::-1], False)):
            self._spread(order, devices)
        for t in (*self.p.graph.inputs, *self.p.graph.nodes):
            if t.op == "VIEW" and t.root is not None:
                t.device = self.home(t.root, t) if t.root.held else t.root.device
            else:
                t.device = self.at.get(id(t), HOST)
            for s in t.sources:
                if s.op == LEAF and id(s) not in self.at:
                    self.at[id(s)] = s.device = t.device

    def _first(self, t: GgmlTensor) -> int | None:
        """Pass 1: a node's device as its memory and its weights say; None: it has neither."""
        layer = self.layer(t)
        if t.root is not None and t.root.held:
            return self.home(t.root, t)
        if t.number in self.p.forced_host and self.cache_on_host:
            return HOST
        whole = self.place.offloaded > self.place.layers
        if t.number in self.p.normed and 0 <= layer < self.place.layers and (whole or self.p.tokens < OFFLOAD_FROM):
            return self.of[layer]
        if t.op in UNSIGHTED or HELD not in t.sources:
            return None
        home = self.home(HELD, t)
        return 1 if home == HOST and rows(t) >= OFFLOAD_FROM else home

    def _spread(self, nodes: list[GgmlTensor], devices: bool) -> None:
        """Pass 2: neighbours without a device take it over; devices: the host does not spread."""
        now: int | None = None
        for t in nodes:
            found = self.at.get(id(t))
            if found is not None:
                now = None if devices and found == HOST else found
            elif now is not None:
                self.at[id(t)] = now

    def split(self) -> list[GgmlTensor]:
        """Pass 5: the nodes with what is copied before each stretch."""
        out: list[GgmlTensor] = []
        stretch: list[GgmlTensor] = []
        copies: list[GgmlTensor] = []
        now = None
        for t in self.p.graph.nodes:
            if t.op == "VIEW":
                stretch.append(t)
                continue
            fresh = copies and HELD in t.sources and self.home(HELD, t) != t.device
            if t.device != now or fresh:
                out += (*copies, *stretch)
                stretch, copies, now = [], [], t.device
            t.sources = tuple([self._here(s, t, copies) for s in t.sources])
            stretch.append(t)
        return [*out, *copies, *stretch]

    def _here(self, s: GgmlTensor, t: GgmlTensor, copies: list[GgmlTensor]) -> GgmlTensor:
        """``s`` where ``t`` runs: itself, or a copy of it, made once."""
        held = s.held or (s.root is not None and s.root.held)
        if s is t or (self.home(s, t) if held else s.device) == t.device:
            return s
        size = self._held_bytes(s, t) if held else span(s)
        if not size:
            return s
        key = (id(t) if s in (HELD, CACHE) else id(s), t.device)
        if key not in self.made:
            copy = GgmlTensor("COPY", s.shape, () if held else (s,), s.type)
            copy.bytes, copy.device = size, t.device
            self.made[key] = copy
            copies.append(copy)
        return self.made[key]

    def _held_bytes(self, s: GgmlTensor, t: GgmlTensor) -> int:
        """Bytes of a weight or a cache that ``t`` reads from elsewhere; 0: not known."""
        if is_cache(s):
            return bytes_of(s.shape, s.type) if s is not CACHE else 0
        if t.number in self.p.parts:
            name, share, of = self.p.parts[t.number]
            return self.product_bytes(name, self.layer(t)) * share // of
        if t.weight:
            return self.product_bytes(t.weight, self.layer(t))
        if t.op == "ROPE":
            return WIDE * self.p.factors
        if t.op in ("MUL", "ADD"):
            return WIDE * t.shape[0]
        if t.op == "MUL_MAT" and len(t.shape) < 3:
            return WIDE * t.shape[0] * t.sources[-1].shape[0]
        return 0


def cut(
    p: GraphBuilder, place: Placement, product_bytes: Callable[[str, int], int], cache_on_host: bool = False
) -> PlacedPass:
    """The nodes of a pass with a device each, and the copies that cross between devices."""
    if not place.devices:
        return PlacedPass(p.graph.inputs, p.graph.nodes)
    made = Scheduler(p, place, product_bytes, cache_on_host)
    asked = _asked(p)
    made.assign()
    nodes = made.split()
    lasting = [*asked, *made.made.values()] if place.copies > 1 else []
    for t in lasting:
        t.output = True
    return PlacedPass([*p.graph.inputs, *lasting, *_again(lasting, place.copies - 1)], nodes)


def _asked(p: GraphBuilder) -> list[GgmlTensor]:
    """The inputs that are there once for each micro-batch: in older builds only those that a node reads."""
    read = {id(s) for t in p.graph.nodes for s in t.sources}
    return [t for t in p.graph.inputs if t.op != LEAF and (p.context.mixed or id(t) in read)]


def _again(lasting: Iterable[GgmlTensor], times: int) -> Iterable[GgmlTensor]:
    """Room for what lasts in other micro-batches."""
    for t in lasting:
        for _ in range(times):
            copy = GgmlTensor("COPY", t.shape, (), t.type)
            copy.bytes, copy.device = t.bytes, t.device
            yield copy


def span(s: GgmlTensor) -> int:
    """Bytes of a copy of ``s``, whose strides are kept: of a slice of rows all that lies between its ends."""
    *inner, last = s.shape
    if s.op == "VIEW" and s.strided and inner and s.root is not None and s.root.shape[1:] == (last,):
        return bytes_of(((last - 1) * s.root.shape[0] + prod(inner),), s.type)
    return bytes_of(s.shape, s.type)


def is_cache(s: GgmlTensor) -> bool:
    """Whether ``s`` is a cache, or a view of one."""
    return (s.root or s).op == CACHE.op


def rows(t: GgmlTensor) -> int:
    """The size of a batch: what decides whether a device takes over a product of the host's."""
    if t.op == "GET_ROWS":
        return 0
    if t.op == "MUL_MAT":
        return t.shape[1] if len(t.shape) > 1 else 1
    return t.shape[2] if t.op == "MUL_MAT_ID" else prod(t.shape[1:])
