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


class _Layout:
    """Where each tensor lies while the graph is laid out; one heap a device."""

    def __init__(self) -> None:
        self.heaps: dict[int, Heap] = {}
        self.at: dict[int, int] = {}
        self.readers: dict[int, int] = {}
        self.views: dict[int, int] = {}

    def size(self, t: GgmlTensor) -> int:
        return aligned(t.bytes, t.device)

    def place(self, t: GgmlTensor) -> None:
        me = id(t)
        if t.held or t.root is not None or me in self.at:
            return
        if t.op in IN_PLACE:
            for s in t.sources:
                i = id(s)
                alone = self.readers.get(i) == 1 and not self.views.get(i) and s.device == t.device
                if i in self.at and alone and not s.output and s.type == t.type and s.shape == t.shape:
                    self.at[me] = self.at.pop(i)
                    return
        self.at[me] = self.heaps.setdefault(t.device, Heap()).take(self.size(t))

    def free(self, t: GgmlTensor) -> None:
        if id(t) in self.at and not t.output:
            self.heaps[t.device].give(self.at.pop(id(t)), self.size(t))

    def read(self, t: GgmlTensor) -> None:
        """One reader of ``t`` is done."""
        me, root = id(t), t.root
        self.readers[me] -= 1
        if self.readers[me] or self.views.get(me):
            return
        if root is None:
            self.free(t)
            return
        r = id(root)
        self.views[r] -= 1
        if not self.views[r] and not self.readers.get(r):
            self.free(root)


def compute_bytes(inputs: Sequence[GgmlTensor], nodes: Sequence[GgmlTensor]) -> dict[int, int]:
    """Bytes of the compute buffer of each device that the nodes name (0: the host)."""
    made = _Layout()
    for t in inputs:
        made.place(t)
    for t in nodes:
        if t.root is not None:
            made.views[id(t.root)] = made.views.get(id(t.root), 0) + 1
        for s in t.sources:
            made.readers[id(s)] = made.readers.get(id(s), 0) + 1
    for t in nodes:
        made.place(t)
        for s in t.sources:
            made.read(s)
    return {device: heap.peak for device, heap in sorted(made.heaps.items())}
