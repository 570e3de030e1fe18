"""The moments of a step under torch.compile."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture
from estimator.moments.outcome import Live, Moment
from estimator.moments.workload import Workload
from estimator.optimizers import Trained, copy_bytes
from estimator.stack import compiled, compiled_sides
from estimator.stack.liger_mappings import TORCH
from estimator.trace import value_of


def described(arch: Architecture, load: Workload) -> bool:
    """Whether what inductor keeps of such a step is known."""
    if arch.kind != "decoder":
        whole = load.adapter is None and load.top is None and not load.quantization and load.kernels == TORCH
        return compiled_sides.known(arch, load.loss, load.offload, load.checkpointing, whole)
    return compiled.known(arch, load.loss, load.offload, load.checkpointing, load.width)


def compiled_moments(arch: Architecture, load: Workload, base: Live, trained: list[Trained]) -> list[Moment]:
    """Forward and backward of a compiled step: the backward pass peaks where it begins or where it ends."""
    tokens = load.b * load.s
    if arch.kind == "decoder":
        held = base | compiled.kept(arch, load, tokens)
        first = held | {("compiled graph", "gradients of the last layer"): compiled.transient(arch, load, tokens)}
    else:
        first = held = base | compiled_sides.kept(arch, load, tokens)
    grads: Any = sum((p.times * copy_bytes(p) for p in trained), 0)  # one graph returns them all, then they are added
    last = base | {
        ("gradients", "all"): grads, ("loss", "buffers of the logits' size"): compiled.to_the_end(arch, load, tokens),
        ("embedding", "gradient of the table in fp32"): compiled.table(arch, load),
    }  # fmt: skip
    most = max((first, last), key=lambda live: value_of(sum(live.values())))
    end = sum(base.values()) + (0 if load.kept_gradients else grads)
    return [
        Moment("moments.forward_bytes", "Forward and loss", sum(held.values()), sum(held.values()), held),
        Moment("moments.backward_bytes", "Backward", sum(most.values()), end, most),
    ]
