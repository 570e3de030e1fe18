"""Which modules a method adapts where none are named: the peft library's tables, by model type.

Transcribed as data from peft 0.21.2, utils/constants.py, TRANSFORMERS_MODELS_TO_*_TARGET_MODULES_MAPPING. A key is
a list of module names separated by spaces (or one regular expression), its value the model types that use it.
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


def default_targets(method: str, model_type: str) -> str | None:
    """The names (separated by spaces, or one regular expression) that ``method`` adapts in a model type, or None."""
    for table in (OWN[method],) if method in OWN else (CHANGES.get(method, {}), LORA):
        for names, types in table.items():
            if model_type in types.split():
                return names
    return None
