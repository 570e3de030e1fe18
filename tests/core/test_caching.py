"""PyTorch's caching allocator: its rules one by one, and what holds whatever is asked of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.stack.caching import CachingAllocator

MIB = 1024 * 1024


def test_small_requests_share_a_segment():
    pool = CachingAllocator()
    first, second = pool.take(1), pool.take(513)
    assert (first.size, second.size) == (512, 1024)
    assert pool.reserved == 2 * MIB
    assert pool.allocated == 1536


def test_requests_under_ten_mib_share_twenty():
    pool = CachingAllocator()
    for _ in range(2):
        pool.take(9 * MIB)
    assert pool.reserved == 20 * MIB
    pool.take(9 * MIB)
    assert pool.reserved == 40 * MIB


def test_a_large_request_gets_a_segment_of_its_own():
    pool = CachingAllocator()
    block = pool.take(15 * MIB + 512 * 1024)
    assert pool.reserved == 16 * MIB
    assert block.size == 16 * MIB  # a rest of at most 1 MiB stays with its block
    assert pool.take(15 * MIB - 512 * 1024).size == 15 * MIB - 512 * 1024  # one of more is split off


def test_the_best_fit_is_taken_and_neighbours_merge():
    pool = CachingAllocator()
    blocks = [pool.take(n * MIB) for n in (12, 30, 20)]
    for block in blocks:
        pool.give(block)
    assert pool.reserved == 62 * MIB
    taken = pool.take(18 * MIB)
    assert taken.segment == blocks[2].segment
    pool.give(taken)
    assert pool.take(20 * MIB).size == 20 * MIB
    assert pool.reserved == 62 * MIB


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40 * MIB), st.integers(0, 5)), min_size=1, max_size=120))
def test_blocks_never_overlap_and_everything_comes_back(wanted):
    pool, held = CachingAllocator(), []
    for request, age in wanted:
        held.append((pool.take(request), request))
        if age and len(held) > age:
            pool.give(held.pop(-age)[0])
        places = sorted((b.segment, b.offset, b.size) for b, _ in held)
        assert all(a[0] != b[0] or a[1] + a[2] <= b[1] for a, b in pairwise(places))
        assert all(b.size >= size for b, size in held)
        assert pool.allocated == sum(b.size for b, _ in held) <= pool.peak <= pool.reserved
    for block, _ in held:
        pool.give(block)
    assert pool.allocated == 0
    assert all(block.before is None and block.after is None for free in pool._free.values() for *_, block in free)
