"""PyTorch's caching allocator, block by block: what it has reserved from the driver, and what it has handed out.

Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.11, with its default settings: best fit within two pools, blocks
that are split where the rest is worth it and merged with free neighbours, segments that are kept when they are free.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from estimator.stack.blocks import BLOCK, KIB, MIN_LARGE, ROUND_LARGE, SPLIT_REST

SMALL_SEGMENT = 2 * KIB * KIB  # kSmallBuffer: one segment of requests of up to 1 MiB
LARGE_SEGMENT = 20 * KIB * KIB  # kLargeBuffer: one segment of requests under kMinLargeAlloc


class Block:
    """A piece of a segment: its ``size`` in bytes, its neighbours, whether it is ``free``; small: of the pool of
    requests of up to 1 MiB."""

    __slots__ = ("after", "before", "free", "offset", "segment", "size", "small")

    def __init__(self, segment: int, offset: int, size: int, small: bool) -> None:
        self.segment, self.offset, self.size, self.small = segment, offset, size, small
        self.before: Block | None = None
        self.after: Block | None = None
        self.free = False

    @property
    def place(self) -> tuple[int, int, int]:
        """The order in which the allocator looks for a fit: by size, then by address."""
        return self.size, self.segment, self.offset


class CachingAllocator:
    """The allocator of one device and stream.

    allocated, peak: bytes of the blocks that are handed out now, and at most; reserved: bytes of all segments, which
    only grow while there is room on the card.
    """

    def __init__(self) -> None:
        self.allocated = self.peak = self.reserved = self.segments = 0
        self._free: dict[bool, list[tuple[int, int, int, Block]]] = {True: [], False: []}

    @property
    def free(self) -> list[tuple[int, int, int]]:
        """Where the free blocks are; beside the same blocks handed out, two equal lists are one state."""
        return [place[:3] for places in self._free.values() for place in places]

    def take(self, request: int) -> Block:
        """A block of at least ``request`` bytes."""
        size = max(BLOCK, -(-request // BLOCK) * BLOCK)
        small = size <= SPLIT_REST
        free = self._free[small]
        at = bisect_left(free, (size, -1, -1))
        block = free.pop(at)[3] if at < len(free) else self._segment(size, small)
        rest = block.size - size
        if rest >= BLOCK if small else rest > SPLIT_REST:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)
        return block

    def give(self, block: Block) -> None:
        """Give back a block."""
        free = self._free[block.small]
        self.allocated -= block.size
        block.free = True
        before, after = block.before, block.after
        if before is not None and before.free:
            free.pop(bisect_left(free, before.place))
            block.offset, block.size, block.before = before.offset, block.size + before.size, before.before
            if block.before is not None:
                block.before.after = block
        if after is not None and after.free:
            free.pop(bisect_left(free, after.place))
            block.size, block.after = block.size + after.size, after.after
            if block.after is not None:
                block.after.before = block
        insort(free, (*block.place, block))

    def _segment(self, size: int, small: bool) -> Block:
        if small:
            whole = SMALL_SEGMENT
        else:
            whole = LARGE_SEGMENT if size < MIN_LARGE else -(-size // ROUND_LARGE) * ROUND_LARGE
        self.reserved += whole
        self.segments += 1
        return Block(self.segments, 0, whole, small)

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.segment, block.offset + size, block.size - size, block.small)
        rest.free, rest.before, rest.after = True, block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        insort(self._free[block.small], (*rest.place, rest))


__all__ = ["Block", "CachingAllocator"]
