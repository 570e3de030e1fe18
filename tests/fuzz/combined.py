"""Valid options together: what ``options``, which draws of all, seldom puts on one line that is answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from estimator.optimizers import OPTIMIZERS
from estimator.peft import METHODS
from estimator.recipes import RECIPES
from tests.fuzz.surface import gpus, models

Input = tuple[list[str], Path | None]
Drawn = tuple[str, tuple[str, ...], float]  # an option, its values (none: a switch), how often

STEP: tuple[Drawn, ...] = (
    ("--checkpointing", ("full", "full", "selective"), 0.5), ("--accumulation", ("2", "4"), 0.25),
    ("--gradients", ("kept",), 0.05), ("--autocast", ("bf16", "none"), 0.1), ("--dtype", ("fp32", "fp16", "bf16"), 0.1),
    ("--attention", ("eager",), 0.1), ("--seq-len", ("512", "777", "4k"), 0.3), ("--batch-size", ("4", "16"), 0.3),
    ("--transformers", ("4.45", "4.50", "4.57"), 0.1), ("--kernels", ("liger",), 0.15),
    ("--prepare-kbit", (), 0.05), ("--packing", (), 0.05), ("--compile", (), 0.07), ("--reentrant", (), 0.07),
    ("--activation-offload", (), 0.05), ("--hold-outputs", (), 0.05), ("--optimizer-in-backward", (), 0.05),
    ("--derive", (), 0.05), ("--detail", (), 0.2), ("--loss", ("fused", "chunked"), 0.05),
)  # fmt: skip
ADAPTER: tuple[Drawn, ...] = (
    ("--targets", ("all-linear",), 0.6), ("--quantization", ("nf4", "nf4-dq", "int8"), 0.25),
    ("--rank", ("4", "64"), 0.2),
)  # fmt: skip
SHARDED: tuple[Drawn, ...] = (
    ("--stage", ("0", "1", "2", "3", "3"), 0.7), ("--offload", ("optimizer", "all"), 0.2),
    ("--tensor-parallel", ("2",), 0.08), ("--pipeline-parallel", ("2",), 0.08), ("--context-parallel", ("2",), 0.05),
    ("--expert-parallel", ("2",), 0.05),
)  # fmt: skip
DEEPSPEED: tuple[Drawn, ...] = (
    ("--buckets", ("auto",), 0.3), ("--overlap-comm", ("off",), 0.2), ("--zero-pp", ("all", "qwz"), 0.05),
)  # fmt: skip
FSDP: tuple[Drawn, ...] = (
    ("--fsdp-version", ("1",), 0.15), ("--fsdp-wrap", ("tables",), 0.15), ("--fsdp-root", ("kept",), 0.15),
    ("--replicas", ("2",), 0.1),
)  # fmt: skip
SCORED: tuple[Drawn, ...] = (("--reference", ("policy", "precomputed"), 0.3), ("--answer-len", ("100",), 0.3))
ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp", "transformers", "tgi", "fused")
SERVER: tuple[Drawn, ...] = (
    ("--quantization", ("none", "fp8", "awq", "gptq", "int8", "nf4", "q4_k_m", "q8_0", "mxfp4"), 0.4),
    ("--kv-dtype", ("fp8", "q8_0", "bf16"), 0.2), ("--batch-size", ("1", "8", "64"), 0.4),
    ("--seq-len", ("1k", "8k", "100k"), 0.4), ("--tensor-parallel", ("2", "4", "8"), 0.3),
    ("--pipeline-parallel", ("2",), 0.1), ("--data-parallel", ("2",), 0.1), ("--expert-parallel", (), 0.1),
    ("--max-model-len", ("4k", "32k"), 0.2), ("--max-num-seqs", ("16", "256"), 0.15), ("--ctx-size", ("8k",), 0.2),
    ("--gpu-layers", ("10", "all"), 0.1), ("--cpu-moe", ("all",), 0.1), ("--derive", (), 0.05), ("--detail", (), 0.2),
    ("--gpu-memory-utilization", ("0.5", "0.95"), 0.1), ("--draft-model", ("llama-3.2-1b", "qwen3-0.6b"), 0.05),
    ("--new-tokens", ("100",), 0.1),
)  # fmt: skip


@cache
def _methods() -> tuple[str, ...]:
    return (*("lora",) * 20, *("qlora", "dora", "freeze") * 5, *METHODS)


def _some(rng: Random, drawn: tuple[Drawn, ...]) -> list[str]:
    """Words of some of the options."""
    out = []
    for flag, values, often in drawn:
        if rng.random() < often:
            out += [flag, rng.choice(values)] if values else [flag]
    return out


def steps(rng: Random, folder: Path) -> Input:
    """A training step of a preset: a recipe, an adapter, a sharding, and what goes with them."""
    argv = rng.choice((["memory", "--mode", "training"], ["memory", "--mode", "training"], ["train"]))
    recipe = rng.choice(("deepspeed", "deepspeed", "trainer", "torch", "sft", *RECIPES))
    argv = [*argv, "--model", rng.choice(models()), "--recipe", recipe]
    if rng.random() < 0.6:
        argv += ["--method", rng.choice(_methods()), *_some(rng, ADAPTER)]
    argv += _some(rng, STEP)
    if rng.random() < 0.3:
        argv += ["--optimizer", rng.choice(("adamw8bit", "adafactor", *OPTIMIZERS))]
    if rng.random() < 0.5:
        argv += ["--gpus", rng.choice(("2", "4", "8")), *_some(rng, SHARDED)]
        argv += _some(rng, DEEPSPEED if recipe == "deepspeed" else FSDP)
    if recipe in ("dpo", "grpo"):
        argv += _some(rng, SCORED)
    if rng.random() < 0.4:
        argv += ["--gpu", rng.choice(gpus())]
    return argv, None


def servers(rng: Random, folder: Path) -> Input:
    """A preset in a serving engine, as each of three commands asks it."""
    command = rng.choice((["memory"], ["infer"], ["kvcache"]))
    argv = [*command, "--model", rng.choice(models()), "--engine", rng.choice(ENGINES), *_some(rng, SERVER)]
    if command != ["kvcache"] or rng.random() < 0.5:
        argv += ["--gpu", rng.choice(gpus())]
    return argv, None
