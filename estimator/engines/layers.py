"""The layers of a model one by one, and which of them a pipeline stage holds."""

from __future__ import annotations

from estimator.errors import InputError
from estimator.families.base import Architecture, Layer


def decoder_layers(arch: Architecture) -> list[Layer]:
    """The decoder's layers in order, each as the group that it belongs to; two groups of the same indices are the
    halves of each."""
    found: dict[tuple[int, int], Layer] = {}
    halves: dict[tuple[int, ...], int] = {}
    for group in arch.layers:
        if group.side != "decoder" and arch.kind != "encoder":
            continue
        indices = group.indices or range(len(found), len(found) + int(group.times))
        at = tuple(indices)
        half = halves[at] = halves.get(at, -1) + 1
        found |= dict.fromkeys(((i, half) for i in at), group)
    return [found[i] for i in sorted(found)]


def stages(layers: int, degree: int) -> list[range]:
    """The layers of each pipeline stage: as many a stage, the rest one each to the stages before the last.

    Source: vLLM distributed/utils.py, get_pp_indices. InputError where there are more stages than layers.
    """
    if not 1 <= degree <= layers:
        raise InputError(f"--pipeline-parallel must be between 1 and {layers}, the model's layers, got {degree}")
    counts = [layers // degree] * degree
    for i in range(2, layers % degree + 2):
        counts[-i] += 1
    out, start = [], 0
    for n in counts:
        out.append(range(start, start + n))
        start += n
    return out
