"""Seconds of Megatron's recipes against what was published of them: fused kernels, FP8 with 16-bit attention."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator.commands.train.eight import CAST, cast_elements, in_fp8
from estimator.recipes import find_recipe
from estimator.stack.liger_mappings import TORCH, UNFUSED
from estimator.stack.moves import BACKWARD, FORWARD, Kernel
from estimator.work.product import HEAD, Product
from estimator.work.run import operations
from estimator.work.workload import PassSizes

# Megatron-Bridge docs/performance-summary.md (25.11); Llama 3, arXiv 2407.21783, table 4: TFLOP/s over 989.4
PUBLISHED = [
    ("llama-3-8b --gpus 8 --stage 3 --accumulation 16 --dtype fp8", "tokens_per_second_per_gpu", 14451),
    ("llama-3-70b --gpus 64 --tensor-parallel 4 --pipeline-parallel 8 --accumulation 64 --dtype fp8",
     "tokens_per_second_per_gpu", 1602),
    ("llama-3.1-405b --gpus 8192 --tensor-parallel 8 --pipeline-parallel 16 --accumulation 32 --stage 2", "mfu",
     430 / 989.4),
]  # fmt: skip


@pytest.mark.parametrize(("line", "key", "want"), PUBLISHED)
def test_published(llmcalc, line, key, want):
    found = llmcalc(f"train --recipe megatron --gpu h100-sxm -b 1 -s 8192 --steps 10 -m {line} --format json")
    assert found.results[key] == pytest.approx(want, rel=0.15)
    said = " ".join(found.json["assumptions"])
    assert "a norm, a rotation, a gated product is one kernel each" in said
    assert ("attention and the output matrix stay in bf16" in said) == ("fp8" in line)


def kernels(kinds):
    """Bytes and launches of one layer's kernels, by what they do and when."""
    from estimator.models import load_model

    arch = load_model("llama-3-8b").architecture
    return operations(arch, PassSizes("training", 1, 1024, kernels=kinds))


def test_a_kernel_each():
    """A norm reads and writes the stream; its gradient reads two and writes one; a gated product reads two halves."""
    tokens, d, wide = 1024, 4096, 14336
    log = [k for k in kernels(find_recipe("megatron").kernels) if isinstance(k, Kernel) and k.where != "head"]
    assert replace(find_recipe("megatron").kernels, attention=False, experts=False) == UNFUSED

    def moved(what, phase):
        return {k.moved for k in log if k.what == what and k.phase == phase}

    assert max(moved("norm output", FORWARD)) == 2 * tokens * d * 2
    assert moved("gradient of the norm", BACKWARD) == {3 * tokens * d * 2}
    assert moved("gated", FORWARD) == {3 * tokens * wide * 2}
    assert moved("gradient of the gated product", BACKWARD) == {5 * tokens * wide * 2}
    assert moved("rotation", FORWARD) == {2 * 2 * tokens * (32 + 8) * 128}
    plain = sum(k.launches * k.times for k in kernels(TORCH) if isinstance(k, Kernel))
    assert sum(k.launches * k.times for k in kernels(UNFUSED) if isinstance(k, Kernel)) < plain / 2


def test_what_is_cast():
    """A layer's four inputs, and the gradients of its four outputs; nothing of the output matrix or of attention."""
    products = [q for q in kernels(UNFUSED) if isinstance(q, Product)]
    assert not any(in_fp8(q) for q in products if q.part == HEAD or q.operator == "sdpa")
    elements, tensors = cast_elements(products)
    inputs, outputs = 3 * 4096 + 14336, (32 + 2 * 8) * 128 + 4096 + 2 * 14336 + 4096
    assert elements == 32 * 1024 * (inputs + outputs)
    assert tensors == 32 * 8
    assert CAST == 6
