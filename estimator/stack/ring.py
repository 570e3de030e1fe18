"""Context parallelism: what ring attention holds beside the kernel on the tokens of one GPU, keys and values of all of
a group's tokens gathered at once (PyTorch's rotate method "allgather", which torchtitan takes).

Source: torch 2.11 distributed/tensor/experimental/_context_parallel/_attention.py (_templated_ring_attention and its
backward, _AllGatherRotater, _SDPAMerger with convert_to_f32). All GPUs but the last of a group meet later keys, whose
half of the output is put behind the other (_partial_update).
"""

from __future__ import annotations

from typing import Any

from estimator.stack.tape import F32, Tape


def gathered(t: Tape, k: Any, v: Any, w: int, ways: Any) -> list[Any]:
    """Contiguous keys and values, the two in one piece, and those of the whole group."""
    out = [t.alloc(n, w, f"{x} of the ring") for n, x in ((k, "keys"), (v, "values"))]
    return [*out, t.alloc(k + v, w, "keys and values to send"), t.alloc(ways * (k + v), w, "gathered keys and values")]


def merged(t: Tape, n: Any) -> list[Any]:
    """The output so far in fp32, the block's, and their difference and sum."""
    return [t.alloc(n, F32, "output of the ring") for _ in range(4)]


def gradients(t: Tape, q: Any, k: Any, v: Any) -> list[Any]:
    """Gradients in fp32; those of keys and values travel: in one piece, and as they arrive."""
    own = [t.alloc(n, F32, f"fp32 gradient of {x}") for n, x in ((q, "q"), (k, "k"), (v, "v"))]
    return [*own, *(t.alloc(k + v, F32, "gradients that travel") for _ in range(2))]
