"""Names of options as people write them: any case, ``-`` or ``_``, the words of the libraries that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import unknown

# option -> other spellings of its values, after case and ``-``/``_`` are folded. Names are the Trainer's
# (transformers/training_args.py, OptimizerNames), from_pretrained's and BitsAndBytesConfig's.
ALIASES: dict[str, dict[str, str]] = {
    "recipe": {"amp": "torch-mixed", "mixed": "torch-mixed", "bf16": "torch-bf16", "fp32": "torch-fp32",
               "hf": "trainer", "transformers": "trainer"},
    "optimizer": {
        "adam": "adamw", "adamw-torch": "adamw", "adamw-hf": "adamw", "adamw-foreach": "adamw",
        "adamw-torch-fused": "adamw-fused", "adamw-8bit": "adamw8bit", "adamw-bnb-8bit": "adamw8bit",
        "paged-adamw-8bit": "paged-adamw8bit", "paged-adamw-32bit": "paged-adamw", "momentum": "sgd-momentum",
        "lion-32bit": "lion", "lion-8bit": "lion8bit", "paged-lion-8bit": "paged-lion8bit",
        "paged-lion-32bit": "paged-lion", "ademamix-8bit": "ademamix8bit", "ademamix-32bit": "ademamix",
        "paged-ademamix-8bit": "paged-ademamix8bit", "rmsprop-bnb-8bit": "rmsprop8bit",
        "paged-ademamix-32bit": "paged-ademamix", "rmsprop-bnb-32bit": "rmsprop-bnb",
        "galore-adamw": "galore", "apollo-adamw": "apollo", "schedule-free-adamw": "schedule-free",
        "adamw-torch-8bit": "ao-adamw8bit", "adamw-torch-4bit": "ao-adamw4bit",
    },
    "attention": {
        "flash": "sdpa", "flash-attn": "sdpa", "flash-attention": "sdpa", "flash-attention-2": "sdpa",
        "flash-attention-3": "sdpa", "fa2": "sdpa", "fa3": "sdpa", "math": "eager",
    },
    "checkpointing": {"true": "full", "false": "none"},
    "quantization": {
        "": "none", "4bit": "nf4", "bnb-4bit": "nf4", "bnb-nf4": "nf4", "bitsandbytes": "nf4",
        "load-in-4bit": "nf4", "8bit": "int8", "bnb-8bit": "int8", "llm.int8": "int8", "load-in-8bit": "int8",
        "nf4dq": "nf4-dq", "qlora": "nf4-dq", "fp8-128x128": "fp8-block", "gptq-4bit": "gptq", "awq-4bit": "awq",
        "w4a16": "int4", "4-bit": "nf4", "8-bit": "int8", "awq-int4": "awq", "int4-awq": "awq", "gptq-int4": "gptq",
        "gptq-int8": "gptq-8bit", "awq-marlin": "awq", "gptq-marlin": "gptq",
        "q3-k": "q3_k_m", "q4-k": "q4_k_m", "q5-k": "q5_k_m",  # llama-quantize's own: tools/quantize/quantize.cpp
    },
    "method": {
        "none": "full", "full-finetuning": "full", "bone": "miss", "rslora": "lora", "llama-adapter": "adaption_prompt",
        "ptuning": "p_tuning", "soft-prompt": "soft-prompt",
    },
    "engine": {"llamacpp": "llama.cpp", "llama-cpp": "llama.cpp", "ollama": "llama.cpp", "hf": "transformers",
               "trtllm": "tensorrt-llm", "trt-llm": "tensorrt-llm",
               "text-generation-inference": "tgi"},
}  # fmt: skip
FOLDED = (*ALIASES, "mode", "logits", "loss", "cache", "offload", "offload_to", "stage", "attention_flops", "schedule",
          "pipeline_split", "part", "kernels", "largest", "autocast", "gradients", "reference", "allocator", "buckets",
          "flash_attn", "fsdp_wrap", "fsdp_root", "overlap_comm")  # fmt: skip


def read(name: str, value: str) -> Any:
    """The value of option ``name`` in the project's own spelling; texts that are no names stay as they are."""
    if name not in FOLDED:
        return value
    text = value.strip().lower()
    if not text and name != "quantization":
        return value.strip()
    dashed = text.replace("_", "-")
    known = ALIASES.get(name, {})
    if dashed in known:
        return known[dashed]
    if name in ("optimizer", "recipe", "attention", "checkpointing", "engine", "schedule"):
        return dashed
    return text.replace("-", "_") if name == "method" else text


def choice(value: str, flag: str, options: Sequence[str]) -> str:
    """``value`` if it is one of ``options``; InputError with the nearest otherwise."""
    if value not in options:
        raise unknown(flag, value, options)
    return value
