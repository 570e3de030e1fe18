"""Steps of large jobs whose layouts were published, with every degree that their reports name, against their speeds.

Llama 3: Grattafiori et al. 2024, arXiv 2407.21783, table 4 (BF16, TFLOP/s a GPU over 989.4; section 3.3: interleaved
stages, sequence parallelism, 16 M tokens a step). NVIDIA-NeMo Megatron-Bridge, docs/performance-summary.md (25.11):
fp8, 70B with TP4 PP8 VP5, 405B with TP8 PP8 CP2 VP8. Its recipes overlap tensor-parallel collectives: taken as hidden
(``--tp-comm-overlap``) the two would be 15% and 24% too fast; with none of them hidden they are 3% too fast.
"""

from __future__ import annotations

from statistics import median

LLAMA = (
    "train llama-3.1-405b --recipe megatron --gpu h100-sxm --tensor-parallel 8 --pipeline-parallel 16 --stage 2 -b 1 "
    "--sequence-parallel --schedule interleaved --virtual-stages 8 --pipeline-split ends --attention-flops causal "
)
BRIDGE = (
    "train llama-3-70b --recipe megatron --gpu h100-sxm --gpus 64 --tensor-parallel 4 --pipeline-parallel 8 "
    "--dtype fp8 --sequence-parallel --schedule interleaved --virtual-stages 5 -b 1 -s 8192 "
    "--accumulation 64"
)
PUBLISHED = {
    "8,192 GPUs": (LLAMA + "--gpus 8192 -s 8192 --accumulation 32", "mfu", 430 / 989.4),
    "16,384 GPUs": (LLAMA + "--gpus 16384 -s 8192 --accumulation 16", "mfu", 400 / 989.4),
    "131,072 tokens over 16": (
        LLAMA + "--gpus 16384 -s 131072 --context-parallel 16 --accumulation 16", "mfu", 380 / 989.4,
    ),
    "fp8": (BRIDGE, "tokens_per_second_per_gpu", 1602),
    "fp8, 405B": (
        LLAMA.replace("--stage 2", "--dtype fp8").replace("--pipeline-parallel 16", "--pipeline-parallel 8")
        + "--gpus 1024 -s 8192 --context-parallel 2 --accumulation 64", "tokens_per_second_per_gpu", 292,
    ),
}  # fmt: skip


def test_published_layouts(llmcalc):
    """Within 15% (median) and 25% (worst) of what was published; the first two, of 8,192 tokens in bf16, within 8%."""
    far = {}
    for name, (line, key, want) in PUBLISHED.items():
        far[name] = abs(llmcalc(f"{line} --steps 1 --format json").results[key] / want - 1)
    print(far)
    assert median(far.values()) < 0.15
    assert max(far.values()) < 0.25
    assert max(far["8,192 GPUs"], far["16,384 GPUs"]) < 0.08
    assert max(far["fp8"], far["fp8, 405B"]) < 0.1
