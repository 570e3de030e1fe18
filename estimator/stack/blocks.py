"""What the caching allocator counts for a request (c10/cuda/CUDACachingAllocator.cpp)."""

from __future__ import annotations

from typing import Any

from estimator.trace import Recordable

KIB = 1024
BLOCK = 512  # c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize
ROUND_LARGE = 2 * KIB * KIB  # kRoundLarge
MIN_LARGE = 10 * KIB * KIB  # kMinLargeAlloc: from here on a request gets a segment of its own
SPLIT_REST = KIB * KIB  # kSmallSize: a rest of at most this stays with its block


def block_bytes(nbytes: Any) -> Any:
    """What the caching allocator counts for a request: whole 512-byte blocks, and for large requests the rest of
    their 2 MiB-aligned segment where that rest is too small to split off."""
    if nbytes == 0:
        return 0
    if type(nbytes) is int:
        size = (nbytes + 511) // 512 * 512
        if size >= MIN_LARGE:
            rest = -size % ROUND_LARGE
            return size + rest if rest <= SPLIT_REST else size
        return size
    if isinstance(nbytes, Recordable):
        return nbytes.blocks()
    size = -((-nbytes) // BLOCK) * BLOCK
    if size >= MIN_LARGE and 0 < (ROUND_LARGE - size % ROUND_LARGE) <= SPLIT_REST:
        return -((-nbytes) // ROUND_LARGE) * ROUND_LARGE
    return size


def small_block(nbytes: Any) -> Any:
    """What it counts for a request that is cut out of a larger free block."""
    return -((-nbytes) // BLOCK) * BLOCK
