"""The question of ``llmcalc memory``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import option
from estimator.questions.parts import Adapted, OnCard, Sequences, Served, Sharded, Stacked, StepOptions
from estimator.records import dataclass
from estimator.trace import value_of


@dataclass(frozen=True, kw_only=True)
class Memory(Served, OnCard, Sharded, Stacked, Adapted, StepOptions, Sequences):
    """Memory of training or inference, moment by moment, and whether it fits."""

    mode: Any = option(None, "inference, or training: implied by a method or an option of training.", "NAME")
    new_tokens: Any = option(None, "Tokens generated after the prompt.", "TOKENS")
    dtype: Any = option(
        None, "Of the weights: bf16 (or as the file holds them), fp16, fp32; for inference also fp8 ...", "NAME"
    )
    kv_dtype: Any = option(None, "Of the KV cache; as the weights where not given.", "NAME")
    logits: Any = option("last", "last, or all positions of the prompt.", "NAME")
    loss: Any = option("full", "full (fp32 logits), chunked, fused; of divided words parallel or gathered.", "NAME")
    micro_batches: Any = option("1", "Forward and backward passes a step.", "N", of=("pipeline_parallel",))
    block_size: Any = option(None, "vLLM, SGLang: tokens a block of the cache.", "TOKENS", of=("engine",))

    allocator: Any = option("spread", "Reserved memory: a measured spread, or simulated, block by block.", "NAME")
    largest: Any = option(None, "The largest that fits: of batch-size, seq-len, rank, ctx-size, gpu-layers.", "NAME")
    plot: Any = option(False, "Draw the moments of the step: who holds the memory at each.", kind="flag")

    @property
    def training(self) -> bool:
        """Whether a training step is meant."""
        return bool(self.mode == "training")


def generating(q: Any, batch: Any, tokens: Any, new: Any) -> Memory:
    """What another command's question of serving asks of ``memory``: its model, storage and card at these sizes."""
    return Memory(
        model=q.model, mode="inference", batch_size=value_of(batch), seq_len=value_of(tokens),
        new_tokens=None if new is None else value_of(new), dtype=q.dtype, quantization=q.quantization, gpu=q.gpu,
        gpu_memory=q.gpu_memory,
    )  # fmt: skip
