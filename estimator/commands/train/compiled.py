"""torch.compile in a step's time: shares of the eager times that six measured steps were left with.

One H100, torch 2.11, inductor's default mode, fused AdamW, bf16 under autocast: Pythia 410M, SmolLM2 135M, Qwen3 0.6B,
Llama 3.2 1B, TinyLlama (checkpointed) and Qwen2.5 0.5B with LoRA; 12 steps of each, eager and compiled in turns
(tests/accuracy/compiled_times.json). Products, attention and the optimizer stay what they are. What elementwise kernels
take, and what is fixed a kernel, falls to the share that the five full steps were left with.
"""

from __future__ import annotations

from estimator.work.times import ELEMENTWISE, KERNELS, Times

SHARE, LEAST, MOST = 0.54, 0.46, 0.69  # the middle, the smallest and the largest of the five
HOST = 0.23  # of the host's time: no full step was bound by it, so that this is the most it can be (Qwen3)
HOST_ADAPTERS = 0.35  # LoRA's: the one step with adapters was
NOTE = (
    f"torch.compile: elementwise kernels take {SHARE:g} of their time ({LEAST:g} to {MOST:g} in five measured steps, "
    "torch 2.11), the host a quarter, with adapters a third; compiling itself takes a minute more"
)


def compiled(eager: Times, adapted: bool, share: float = SHARE) -> Times:
    """The times of a compiled step from those of an eager one."""
    parts = {k: v * share if k[0] in (ELEMENTWISE, KERNELS) else v for k, v in eager.parts.items()}
    host = eager.host * (HOST_ADAPTERS if adapted else HOST)
    return Times(parts, eager.flops, eager.launches, host, eager.ideal)
