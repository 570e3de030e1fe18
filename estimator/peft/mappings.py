"""What the peft library knows by model type: which modules a method adapts where none are named, and its exceptions.

Transcribed as data from peft 0.21.2, utils/constants.py, TRANSFORMERS_MODELS_TO_*_TARGET_MODULES_MAPPING. A key is
a list of module names separated by spaces (or one regular expression), its value the model types that use it.
utils/transformers_weight_conversion.py says what transformers 5's stacked experts make of names that were written for
transformers 4.
"""

from __future__ import annotations

Table = dict[str, str]

LORA: Table = {
    "q v": "t5 mt5",
    "q_proj v_proj": (
        "bart opt gptj gpt_neo llama llama4 mistral mixtral stablelm gemma gemma2 gemma3_text qwen2 qwen3"
    ),
    "c_attn": "gpt2 gpt_bigcode",
    "query_key_value": "bloom gpt_neox chatglm RefinedWebModel RefinedWeb falcon",
    "q v q_proj v_proj": "blip-2",
    "query value": "bert roberta xlm-roberta electra layoutlm",
    "query_proj value_proj": "deberta-v2",
    "in_proj": "deberta",
    "Wqkv": "mpt",
    "c_proj c_attn": "btlm",
    "qkv_proj": "codegen",
    "q_proj v_proj fc1 fc2": "phi",
    r".*language_model\..*\.(q_proj|v_proj)": "gemma4",
    "q_proj k_proj v_proj o_proj": "nemotron_h",
    "key value receptance output": "rwkv",
    "r_proj k_proj v_proj o_proj key value": "rwkv7",
}
ADALORA: Table = {
    "q k v o wi wo": "t5",
    "q k v o wi_0 wi_1 wo": "mt5",
    "q_proj k_proj v_proj out_proj fc1 fc2": "bart opt",
    "c_attn": "gpt2 gpt_bigcode",
    "query_key_value": "bloom gpt_neox",
    "q_proj v_proj": "gptj gpt_neo llama llama4 gemma gemma2 gemma3_text qwen2 qwen3",
    "query value": "bert",
    "query key value dense": "roberta",
    "query_proj key_proj value_proj dense": "deberta-v2",
    "in_proj": "deberta",
    r".*language_model\..*\.(q_proj|v_proj)": "gemma4",
    "q_proj k_proj v_proj o_proj": "nemotron_h",
}
BEFT: Table = {
    "v": "t5 mt5",
    "value": "roberta bert",
    "v_proj": "opt gptj gpt_neo bart llama llama4 mistral mixtral phi gemma gemma2 gemma3_text qwen2 qwen3",
    "value_proj": "deberta-v2",
}
IA3_FEEDFORWARD: Table = {
    "wo": "t5",
    "": "mt5",
    "mlp.c_proj": "gpt2 gpt_bigcode",
    "mlp.dense_4h_to_h": "bloom",
    "output.dense": "roberta bert deberta-v2 deberta",
    "fc2": "opt bart phi",
    "fc_out": "gptj",
    "dense_4h_to_h": "gpt_neox RefinedWeb RefinedWebModel falcon",
    "c_proj": "gpt_neo",
    "down_proj": "llama llama4 mistral gemma gemma2 gemma3_text qwen2 qwen3",
    "w2": "mixtral",
}
IA3: Table = {
    "k v wo": "t5",
    "k v wi_1": "mt5",
    "c_attn mlp.c_proj": "gpt2 gpt_bigcode",
    "query_key_value mlp.dense_4h_to_h": "bloom",
    "key value output.dense": "roberta bert",
    "q_proj k_proj fc2": "opt",
    "q_proj v_proj fc_out": "gptj",
    "query_key_value dense_4h_to_h": "gpt_neox RefinedWebModel RefinedWeb falcon",
    "q_proj v_proj c_proj": "gpt_neo",
    "q_proj v_proj fc2": "bart phi",
    "k_proj v_proj down_proj": "llama mistral",
    "q_proj v_proj down_proj": "llama4 gemma gemma2 gemma3_text qwen2 qwen3",
    "k_proj v_proj w2": "mixtral",
    "key_proj value_proj output.dense": "deberta-v2",
    "in_proj output.dense": "deberta",
}
LN_TUNING: Table = {
    "input_layernorm post_attention_layernorm norm": "llama mistral gemma",
    "input_layernorm post_attention_layernorm ln_f": "bloom falcon",
    "multi_modal_projector input_layernorm post_attention_layernorm norm embed_tokens lm_head": "llava",
    "layer_norm final_layer_norm": "t5 mt5",
    "self_attn_layer_norm encoder_attn_layer_norm final_layer_norm": "bart",
    "ln_1 ln_2 ln_f": "gpt2",
    "layernorm LayerNorm final_layer_norm self_attn_layer_norm": "blip-2",
    "ln_1 ln_f": "gptj",
    "input_layernorm final_layernorm": "phi",
    "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm norm": (
        "gemma2 gemma3_text"
    ),
    "post_attention_layernorm": "qwen2 qwen3",
}
OSF: Table = {
    "q_proj k_proj v_proj o_proj gate_proj down_proj up_proj": (
        "llama llama4 mistral mixtral gemma gemma2 gemma3_text qwen2 qwen3 phi"
    ),
    "c_attn c_proj": "gpt2 gpt_bigcode",
    "query_key_value dense_4h_to_h": "bloom gpt_neox falcon",
    "q_proj k_proj v_proj out_proj fc1 fc2": "opt",
    "q_proj k_proj v_proj out_proj fc_in fc_out": "gptj",
}
VBLORA: Table = {
    "q k v o wi wo": "t5",
    "q k v o wi_0 wi_1 wo": "mt5",
    "q_proj k_proj v_proj out_proj fc1 fc2": "bart opt",
    "c_attn": "gpt2 gpt_bigcode",
    "query_key_value": "bloom gpt_neox",
    "q_proj v_proj": "gptj gpt_neo llama llama4 gemma gemma2 gemma3_text qwen2 qwen3",
    "query value": "bert roberta",
    "query_proj key_proj value_proj dense": "deberta-v2",
    "in_proj": "deberta",
    r".*language_model\..*\.(q_proj|v_proj)": "gemma4",
    "q_proj k_proj v_proj o_proj": "nemotron_h",
}
WAVEFT: Table = {
    "q v": "t5 mt5",
    "q_proj v_proj": (
        "bart opt gptj gpt_neo llama llama4 mistral mixtral stablelm gemma gemma2 gemma3_text qwen2 qwen3"
    ),
    "mlp.c_proj": "gpt2 gpt_bigcode",
    "query_key_value": "bloom gpt_neox chatglm RefinedWebModel RefinedWeb falcon",
    "q v q_proj v_proj": "blip-2",
    "query value": "bert roberta xlm-roberta electra layoutlm",
    "query_proj value_proj": "deberta-v2",
    "in_proj": "deberta",
    "Wqkv": "mpt",
    "qkv_proj": "codegen",
    "q_proj v_proj fc1 fc2": "phi",
    r".*language_model\..*\.(q_proj|v_proj)": "gemma4",
    "q_proj k_proj v_proj o_proj": "nemotron_h",
}
# tables that are LoRA's but for these model types
CHANGES: dict[str, Table] = {
    "adamss": {"query value": "vit"},
    "c3a": {"mlp.c_proj": "gpt2 gpt_bigcode"},
    "fourierft": {"mlp.c_proj": "gpt2 gpt_bigcode"},
    "frod": {"q_proj v_proj": "phi", "query value": "vit"},
    "pvera": {"q_proj v_proj": "phi", "query value": "dinov2"},
    "shira": {"q_proj v_proj": "phi"},
    "vera": {"q_proj v_proj": "phi"},
}
OWN: dict[str, Table] = {
    "adalora": ADALORA, "beft": BEFT, "ia3": IA3, "ia3_feedforward": IA3_FEEDFORWARD, "ln_tuning": LN_TUNING,
    "osf": OSF, "vblora": VBLORA, "waveft": WAVEFT,
}  # fmt: skip


# model types whose experts transformers 5 stacks, and how LoRA then reads the names of transformers 4:
# _MOE_TARGET_MODULE_MAPPING and transformers' conversion_mapping._MODEL_TO_CONVERSION_PATTERN
MOE_FAMILIES: dict[str, tuple[str, dict[str, str], dict[str, list[str]]]] = {
    "mixtral": (
        "minimax minimax_m2 mixtral",
        {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
        {"gate_up_proj": ["w1", "w3"]},
    ),
    "qwen2_moe": (
        "afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe "
        "glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash mellum olmoe qwen3_moe qwen3_next "
        "qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker solar_open",
        {"gate": "gate.weight", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj"},
        {"gate_up_proj": ["gate_proj", "up_proj"]},
    ),
}
# PEFT types that refuse these modules of a Mamba model, and the model types: _check_lora_target_modules_mamba
MAMBA_TYPES = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
MAMBA_REFUSED = {"out_proj", "conv1d"}
# fields that peft reads under names which these configs do not have
UNREAD = {"num_attention_heads": "mpt mamba falcon_mamba", "token_dim": "distilbert"}
# configs without a num_key_value_heads field though their keys and values are grouped: peft takes the model's width
NO_GROUPS = "falcon mpt"
# the only types that adaption_prompt has, and their attention modules: tuners/adaption_prompt/config.py
ADAPTION_PROMPT = {"llama": "self_attn", "mistral": "self_attn", "gpt2": "attn"}


def default_targets(method: str, model_type: str) -> str | None:
    """The names (separated by spaces, or one regular expression) that ``method`` adapts in a model type, or None."""
    for table in (OWN[method],) if method in OWN else (CHANGES.get(method, {}), LORA):
        for names, types in table.items():
            if model_type in types.split():
                return names
    return None


def moe_mapping(model_type: str) -> tuple[dict[str, str], dict[str, list[str]]] | None:
    """How LoRA renames targets of a model whose experts transformers 5 stacks; None for every other model."""
    for types, mapping, fused in MOE_FAMILIES.values():
        if model_type in types.split():
            return mapping, fused
    return None
