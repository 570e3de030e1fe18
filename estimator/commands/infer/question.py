"""The question of ``llmcalc infer``."""

from __future__ import annotations

from typing import Any

from estimator.questions.base import Unsaid, again, option
from estimator.questions.parts import OnCard, Sequences, Served, Sharded
from estimator.records import dataclass


@dataclass(frozen=True, kw_only=True)
class Infer(Served, OnCard, Sequences):
    """Latency, throughput, memory and cost of serving a model."""

    new_tokens: Any = option(None, "Tokens generated after the prompt.", "TOKENS")
    gpu: Any = again(OnCard, "gpu", "h100-sxm")
    gpus: Any = option("1", "GPUs that share each layer; beside --tensor-parallel, in all (engines).", "N")
    dtype: Any = option(Unsaid("bf16"), "bf16, fp16 or fp8: what weights are stored and multiplied in.", "NAME")
    kv_dtype: Any = option(None, "bf16, fp16, fp32, fp8, int8 or int4; as the weights where not given.", "NAME")
    quantization: Any = option(
        None, "Of the weights (as the files say): none, nf4, int8, gptq-3bit-g128, awq, q4_k_m ...", "NAME", short="-q"
    )
    tensor_parallel: Any = again(Sharded, "tensor_parallel", "1")
    pipeline_parallel: Any = again(Sharded, "pipeline_parallel", "1", of=("engine",))
    expert_parallel: Any = option(
        None, "Engines: whole experts over all GPUs: alone, or their number.", "N", of=("engine",)
    )
    block_size: Any = option(None, "vLLM, SGLang: tokens a block of the cache.", "TOKENS", of=("engine",))
    graph: Any = option(True, "Replay decode steps from a CUDA graph.", kind="switch", flag="cuda-graph")
    price: Any = option(None, "USD a GPU-hour; the preset's median where not given.", "USD", kind="float")
    draft_model: Any = option(None, "Speculative decoding with this draft model.", "MODEL")
    alpha: Any = option(0.8, "Probability that a drafted token is accepted.", "X", kind="float", of=("draft_model",))
    gamma: Any = option(5, "Drafted tokens a pass.", "N", kind="int", of=("draft_model",))
    plot: Any = option(False, "Draw latency against throughput.", kind="flag")
