"""What transformers' tensor parallelism leaves whole on every GPU, where a class's plan does not name it.

Source: transformers 5.17, models/*/configuration_*.py, base_model_tp_plan; tests/data/tp_plans.json.gz holds the plans.
Classes that are not listed have all of it divided, or no plan at all: those are divided by hand, as the others are.
"""

from __future__ import annotations

ATTENTION, EXPERTS, SHARED = "attention", "routed experts", "shared experts"

WHOLE: dict[str, tuple[str, ...]] = {
    "cohere2_moe": (EXPERTS, SHARED),
    "deepseek_v3": (ATTENTION,),
    "ernie4_5_vl_moe": (EXPERTS,),
    "ernie4_5_vl_moe_text": (EXPERTS,),
    "exaone_moe": (EXPERTS, SHARED),
    "glm4_moe_lite": (SHARED,),
    "glm4v_moe": (EXPERTS, SHARED),
    "glm4v_moe_text": (EXPERTS, SHARED),
    "kimi_k2": (ATTENTION,),
    "kimi_k25": (ATTENTION,),
    "kimi_linear": (ATTENTION,),
    "minimax_m3_vl": (SHARED,),
    "minimax_m3_vl_text": (SHARED,),
    "mistral4": (ATTENTION,),
    "qwen2_moe": (EXPERTS, SHARED),
    "qwen3_vl_moe": (EXPERTS,),
    "qwen3_vl_moe_text": (EXPERTS,),
    "solar_open": (SHARED,),
    "step3p5": (SHARED,),
    "step3p7": (SHARED,),
}


def left_whole(model_type: str) -> tuple[str, ...]:
    """What every GPU has of each layer."""
    return WHOLE.get(model_type, ())
