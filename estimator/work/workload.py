"""What one pass is asked to do, and which of a model's paths transformers takes for it."""

from __future__ import annotations

from typing import Any

from estimator.families.base import Architecture
from estimator.records import dataclass
from estimator.stack.liger_mappings import TORCH, Replaced
from estimator.stack.tape import F32, HALF


@dataclass(frozen=True, slots=True)
class PassSizes:
    """One pass.

    mode        "forward", "training" or "decode" (one new token a sequence after ``context`` cached ones)
    b, s        sequences and tokens each; encoder: encoder tokens (None: as many, or as ``context`` when decoding)
    last        True where only the last position's logits are computed (decoders; other classes always compute all)
    fused       True for the fused attention kernel
    checkpointing  True where every layer is recomputed in the backward pass (non-reentrant)
    dropout     the model's residual dropout probability in training
    engine      True for a serving engine's kernels: fused attention for every model, one kernel a norm ...
    fused_scan  True where recurrent layers run their fused kernels
    uncapped    True where SDPA runs soft-capped models too, without the cap, as transformers 5.17 does
    forced      True where a stack of its own has a fused kernel for every model
    caches      True where a pass over a prompt writes its keys and values into a cache
    kernels     what runs as one kernel, forward and backward: norms, rotation, gated product
    width       bytes of a number of the model, adapter_width: of an adapter; amp: autocast
    kbit        prepare_model_for_kbit_training was called; quantization: as bitsandbytes packs the weights, "" not
    """

    mode: str
    b: Any
    s: Any = 1
    context: Any = 0
    encoder: Any = None
    last: bool = False
    fused: bool = True
    checkpointing: bool = False
    dropout: float = 0.0
    engine: bool = False
    fused_scan: bool = False
    uncapped: bool = False
    forced: bool = False
    caches: bool = False
    width: int = HALF
    amp: bool = False
    adapter_width: int = F32
    kbit: bool = False
    quantization: str = ""
    kernels: Replaced = TORCH


def fused_scan_exists(arch: Architecture) -> bool:
    """Whether a library has a kernel for each of this model's recurrences: none for Griffin's."""
    return all(x.one_kernel for x in arch.state_spaces)


def fused_exists(arch: Architecture, uncapped: bool = False) -> bool:
    """Whether transformers has a fused attention path for this model: none with soft-capping, sinks or ALiBi.

    uncapped: as transformers 5.17 did, which runs SDPA without the cap.
    """
    mixers = arch.attentions
    return bool(mixers) and all(a.sdpa and (uncapped or not a.softcap) for a in mixers)
