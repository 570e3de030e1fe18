"""The question of ``llmcalc kvcache``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import Unsaid, again, option
from estimator.questions.parts import OnCard, Sequences, Served, Sharded
from estimator.records import dataclass


@dataclass(frozen=True, kw_only=True)
class KVCache(Served, OnCard, Sequences):
    """Bytes of the KV cache of a model, and what fits on a GPU beside its weights."""

    new_tokens: Any = option(None, "Tokens generated after these.", "TOKENS")
    kv_dtype: Any = option(None, "bf16 (the default), fp16, fp32, fp8, int8 or int4; llama.cpp: f16, q8_0 ...", "NAME")
    cache: Any = option(
        "dynamic", "dynamic (grows), static (allocated in full), paged (vLLM) or quantized (transformers).", "NAME"
    )
    block_size: Any = option(None, "Tokens a block of a paged cache: 16.", "TOKENS")
    kv_group: Any = option(None, "Numbers that share a scale in an int8 or int4 cache.", "N")
    shared_prefix: Any = option(None, "Tokens that all sequences of the batch share.", "TOKENS")
    encoder_len: Any = option(None, "Encoder tokens of an encoder-decoder model.", "TOKENS")
    gpus: Any = again(Sharded, "gpus", None)
    tensor_parallel: Any = again(Sharded, "tensor_parallel", "1", of=("engine",))
    pipeline_parallel: Any = again(Sharded, "pipeline_parallel", "1", of=("engine",))
    expert_parallel: Any = option(
        None, "Engines: whole experts over all GPUs: alone, or their number.", "N", of=("engine",)
    )
    dtype: Any = option(Unsaid("bf16"), "Storage of the weights, for --gpu.", "NAME")
    quantization: Any = option(
        None, "Of the weights, for --gpu (as the files say): none, nf4, int8, awq, q4_k_m ...", "NAME", short="-q"
    )
    workspace: Any = option(
        "simulated", "Of a pass, for --gpu: simulated, none or a size such as 2GiB.", "SIZE", of=("gpu", "gpu_memory"),
    )  # fmt: skip
    complexity: Any = option(False, "Time and memory without and with a cache.", kind="flag")
    plot: Any = option(
        False, "Draw the growth with the context; --output FILE.svg for a picture.", kind="flag"
    )
