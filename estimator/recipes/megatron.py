"""Megatron-LM: 16-bit weights, fp32 master weights, main gradients and moments; Korthikanti's activations."""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.base import Recipe
from estimator.stack.liger_mappings import UNFUSED

RECIPE = Recipe(
    "megatron", "Megatron-LM mixed precision, activations of Korthikanti et al.",
    Citation("Korthikanti et al. 2022, arXiv 2205.05198, table 2; Megatron-LM, docs on memory: 18 bytes a parameter"),
    weights=2, gradients=4, master=4, states=8, kind="megatron",
    optimizer="adamw-fused",  # apex's FusedAdam
    # TE's RMSNorm, fused_apply_rotary_pos_emb and attention, Megatron-Core's bias_swiglu_fusion and token dispatcher
    kernels=replace(UNFUSED, attention=True, experts=True),
    # between published runs on H100: 11% more in the median of NVIDIA's dense ones, 4% less to as much in Llama 3's
    # report (tests/accuracy/test_published_runs.py, test_published_layouts.py)
    slower=1.05,
    narrow=True,  # Megatron-Bridge, peft/utils.py, ParallelLinearAdapter: the params_dtype of the model
    note="16-bit weights, fp32 main gradients, fp32 master weights and two fp32 moments",
)  # fmt: skip
