"""What liger-kernel 0.8.5 replaces in which model types: transformers/monkey_patch.py, MODEL_TYPE_TO_APPLY_LIGER_FN."""

from __future__ import annotations

from dataclasses import replace

from estimator.records import dataclass


@dataclass(frozen=True)
class Replaced:
    """What is replaced: norms (whose backward overwrites the incoming gradient), rotation, gated product, loss; heads:
    the norms of queries and keys too; adapters: LoRA, as functions of its own (stack/nn.py, fused_lora); attention: a
    fused kernel for every model, which leaves out what a window hides; experts: as Megatron-Core deals tokens to them
    (stack/dispatched.py)."""

    norms: bool = True
    in_place: bool = True
    rotary: bool = True
    mlp: bool = True
    loss: bool = True
    heads: bool = True
    adapters: bool = False
    attention: bool = False
    experts: bool = False


TORCH = Replaced(False, False, False, False, False)
ALL = Replaced()
NEW_GRADIENT = replace(ALL, in_place=False)
NO_ROTARY = replace(ALL, rotary=False)
UNFUSED = replace(ALL, loss=False)
NEITHER = replace(ALL, rotary=False, in_place=False)

MODELS = {
    ALL: (
        "gemma llama mistral ministral mixtral phi3 qwen2 qwen3 qwen3_moe qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe "
        "smollm3 llama4 llama4_text llava internvl mllama mllama_text_model"
    ),
    NEW_GRADIENT: "gemma2 gemma3 gemma3_text exaone4 paligemma",
    replace(NEW_GRADIENT, heads=False): "olmo2 olmo3",
    replace(ALL, heads=False): "hunyuan_v1_dense hunyuan_v1_moe",
    NO_ROTARY: "deepseek_v2 deepseek_v3 smolvlm",
    NEITHER: "glm4 glm4v glm4v_moe gemma4 gemma4_text qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text",
    replace(ALL, mlp=False): "gpt_oss",
    replace(NO_ROTARY, mlp=False): "deepseek_v4",
    UNFUSED: "granite",  # fused_linear_cross_entropy=False by default
    Replaced(False, False, False, False, True): "nemotron",
}


def liger_kernels(model_type: str) -> Replaced:
    """What the Trainer's use_liger_kernel replaces in a model: nothing where Liger does not know its type."""
    return next((k for k, types in MODELS.items() if model_type in types.split()), TORCH)
