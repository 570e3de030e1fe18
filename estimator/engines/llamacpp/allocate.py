"""The bytes that ggml's graph allocator reserves for a graph: the highest end ever reached in one buffer.

Rules (ggml/src/ggml-alloc.c): inputs are placed first; a view takes nothing and is never written over; an
element-wise node takes over the first source that the allocator owns, of the same type and shape, that nobody else
reads or views and that is no output; any other node takes the smallest hole that fits, the last such by address, or
grows the end; a tensor without further readers and views is freed at once; sizes are rounded up to the alignment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from estimator.engines.llamacpp.graph import IN_PLACE, GgmlTensor

CPU_ALIGNMENT = 32  # bytes: ggml-cpu, TENSOR_ALIGNMENT
GPU_ALIGNMENT = 128  # bytes: ggml-cuda, ggml_backend_cuda_buffer_type_get_alignment


def aligned(size: int, device: int) -> int:
    """``size`` bytes as a buffer of a device (0: the host) rounds them up."""
    unit = GPU_ALIGNMENT if device else CPU_ALIGNMENT
    return -(-size // unit) * unit


class Heap:
    """Free holes below ``top``, by address; ``peak`` is the highest top."""

    def __init__(self) -> None:
        self.holes: list[tuple[int, int]] = []  # (start, size)
        self.top = self.peak = 0

    def take(self, size: int) -> int:
        best = -1
        least = None
        for i, (_, room) in enumerate(self.holes):
            if room >= size and (least is None or room <= least):
                best, least = i, room
        if least is None:
            at = self.top
            self.top += size
            self.peak = max(self.peak, self.top)
            return at
        at = self.holes[best][0]
        if least == size:
            del self.holes[best]
        else:
            self.holes[best] = (at + size, least - size)
        return at

    def give(self, at: int, size: int) -> None:
        i = bisect_left(self.holes, (at, size))
        self.holes.insert(i, (at, size))
        if i + 1 < len(self.holes) and at + size == self.holes[i + 1][0]:
            self.holes[i : i + 2] = [(at, size + self.holes[i + 1][1])]
        if i and sum(self.holes[i - 1]) == at:
            self.holes[i - 1 : i + 1] = [(self.holes[i - 1][0], self.holes[i - 1][1] + self.holes[i][1])]
            i -= 1
        if sum(self.holes[i]) == self.top:
            self.top = self.holes.pop(i)[0]


def _size(t: GgmlTensor) -> int:
    return aligned(t.bytes, t.device)


def _place(heaps: dict[int, Heap], t: GgmlTensor) -> None:
    if t.held or t.root is not None or t.at is not None:
        return
    if t.op in IN_PLACE:
        for s in t.sources:
            alone = s.at is not None and s.readers == 1 and not s.views and s.device == t.device
            if alone and not s.output and s.type == t.type and s.shape == t.shape:
                t.at, s.at = s.at, None
                return
    t.at = heaps.setdefault(t.device, Heap()).take(_size(t))


def _free(heaps: dict[int, Heap], t: GgmlTensor) -> None:
    if t.at is not None and not t.output:
        heaps[t.device].give(t.at, _size(t))
        t.at = None


def _read(heaps: dict[int, Heap], t: GgmlTensor) -> None:
    """One reader of ``t`` is done."""
    t.readers -= 1
    if t.readers or t.views:
        return
    root = t.root
    if root is None:
        _free(heaps, t)
    elif not root.held:
        root.views -= 1
        if not root.views and not root.readers:
            _free(heaps, root)


def compute_bytes(inputs: Sequence[GgmlTensor], nodes: Sequence[GgmlTensor]) -> dict[int, int]:
    """Bytes of the compute buffer of each device that the nodes name (0: the host). A graph is laid out once."""
    heaps: dict[int, Heap] = {}  # by device
    for t in inputs:
        _place(heaps, t)
    for t in nodes:
        if t.root is not None and not t.root.held:
            t.root.views += 1
        for s in t.sources:
            if not s.held:
                s.readers += 1
    for t in nodes:
        _place(heaps, t)
        for s in t.sources:
            if not s.held:
                _read(heaps, s)
    return {device: heap.peak for device, heap in sorted(heaps.items())}
