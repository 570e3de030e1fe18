"""What each GGUF architecture's keys are in its class's config, where llama.cpp and the class compute the same.

A reader takes a :class:`Meta` and gives the fields of a config.json. A family whose file states one, in ``GGUF``'s
``reader``, is found without a line here. Source: llama.cpp convert_hf_to_gguf.py, each model's set_gguf_parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.headers.gguf_meta import Lacks, Meta

Config = dict[str, Any]
Reader = Callable[[Meta], Config]


def base(m: Meta, kind: str) -> Config:
    """What nearly every architecture has: widths, layers, heads, vocabulary, whether the head is tied."""
    heads = m.size("attention.head_count")
    config: Config = {
        "model_type": kind, "hidden_size": m.size("embedding_length"), "num_hidden_layers": m.size("block_count"),
        "num_attention_heads": heads, "num_key_value_heads": m.size("attention.head_count_kv", heads, least=0) or heads,
        "vocab_size": m.vocabulary, "tie_word_embeddings": m.tied,
    }  # fmt: skip
    for key, field in (
        ("feed_forward_length", "intermediate_size"), ("context_length", "max_position_embeddings"),
        ("attention.key_length", "head_dim"), ("attention.sliding_window", "sliding_window"),
    ):  # fmt: skip
        value = m.optional(key)
        if value is not None:
            config[field] = value
    return config


def plain(kind: str, *, bias: bool = False, mlp_bias: bool = False, **fixed: Any) -> Reader:
    """A decoder without surprises; bias, mlp_bias: its class asks for them and the tensors say."""

    def read(m: Meta) -> Config:
        config = base(m, kind) | fixed
        if bias:
            config["attention_bias"] = m.has(".attn_q.bias")
        if mlp_bias:
            config["mlp_bias"] = m.has(".ffn_up.bias")
        return config

    return read


def renamed(config: Config, **names: str) -> Config:
    return {names.get(k, k): v for k, v in config.items()}


def experts(m: Meta, config: Config, count: str = "num_experts", width: str = "moe_intermediate_size") -> Config:
    """The experts' fields, under the names that the class gives them."""
    config |= {count: m.size("expert_count"), "num_experts_per_tok": m.size("expert_used_count")}
    config[width] = m.size("expert_feed_forward_length", m.size("feed_forward_length", 0, least=0) or None)
    return config


def _llama(m: Meta) -> Config:
    if m.optional("expert_count"):
        made = experts(m, base(m, "mixtral"), "num_local_experts", "intermediate_size")
        return {k: v for k, v in made.items() if k != "sliding_window"}
    return plain("llama", bias=True, mlp_bias=True)(m)


def _gpt2(m: Meta) -> Config:
    config = renamed(
        base(m, "gpt2"), hidden_size="n_embd", num_hidden_layers="n_layer", num_attention_heads="n_head",
        max_position_embeddings="n_positions", intermediate_size="n_inner",
    )  # fmt: skip
    config.pop("num_key_value_heads")
    return config


def _starcoder(m: Meta) -> Config:
    shape = m.shapes.get("position_embd.weight", ())
    config = _gpt2(m) | {"model_type": "gpt_bigcode", "multi_query": m.size("attention.head_count_kv", 1) == 1}
    return config | ({"n_positions": int(shape[0])} if len(shape) == 2 else {})


def _gptj(m: Meta) -> Config:
    return _gpt2(m) | {"model_type": "gptj", "rotary_dim": m.size("rope.dimension_count", 64)}


def partial(kind: str, **fixed: Any) -> Reader:
    """A class whose rotary embedding covers a part of each head."""

    def read(m: Meta) -> Config:
        config = base(m, kind) | fixed
        width = config.get("head_dim") or config["hidden_size"] // max(1, config["num_attention_heads"])
        rotary = m.optional("rope.dimension_count")
        if rotary:
            config["partial_rotary_factor"] = rotary / max(1, width)
        return config

    return read


def _falcon(m: Meta) -> Config:
    config = base(m, "falcon")
    new = m.has(".attn_norm_2.weight")
    kv = config.pop("num_key_value_heads")
    config |= {"new_decoder_architecture": new, "num_kv_heads": kv, "multi_query": kv == 1, "bias": False,
               "alibi": False, "parallel_attn": True, "tie_word_embeddings": True}  # fmt: skip
    return renamed(config, intermediate_size="ffn_hidden_size")


def _mpt(m: Meta) -> Config:
    config = base(m, "mpt")
    d = config["hidden_size"]
    kept = {"d_model": d, "n_heads": config["num_attention_heads"], "n_layers": config["num_hidden_layers"],
            "vocab_size": config["vocab_size"], "max_seq_len": config.get("max_position_embeddings", 2048),
            "expansion_ratio": config.get("intermediate_size", 4 * d) // d}  # fmt: skip
    return {"model_type": "mpt", **kept, "tie_word_embeddings": True}


def deepseek(m: Meta) -> Config:
    """DeepSeek-V2 and V3: latent attention; the gate's function (sigmoid) or its bias tells them apart."""
    third = m.size("expert_gating_func", 1) == 2 or bool(m.which("exp_probs_b.bias"))
    config = experts(m, base(m, "deepseek_v3" if third else "deepseek_v2"), "n_routed_experts")
    rank, rope = m.size("attention.kv_lora_rank"), m.size("rope.dimension_count")
    whole = m.optional("attention.key_length_mla") or m.size("attention.key_length")
    config.pop("head_dim", None)
    return config | {
        "num_key_value_heads": config["num_attention_heads"], "q_lora_rank": m.optional("attention.q_lora_rank"),
        "kv_lora_rank": rank, "qk_rope_head_dim": rope, "qk_nope_head_dim": whole - rope,
        "v_head_dim": m.optional("attention.value_length_mla") or m.size("attention.value_length"),
        "first_k_dense_replace": m.size("leading_dense_block_count", 0, least=0),
        "n_shared_experts": m.size("expert_shared_count", 0, least=0) or None,
        "norm_topk_prob": m.raw("expert_weights_norm"), "routed_scaling_factor": m.raw("expert_weights_scale"),
        "n_group": m.size("expert_group_count", 1), "topk_group": m.size("expert_group_used_count", 1),
    }  # fmt: skip


def _glm4_moe(m: Meta) -> Config:
    config = experts(m, partial("glm4_moe")(m), "n_routed_experts")
    return config | {
        "num_hidden_layers": config["num_hidden_layers"] - m.size("nextn_predict_layers", 0, least=0),
        "n_shared_experts": m.size("expert_shared_count", 1), "use_qk_norm": m.has(".attn_q_norm.weight"),
        "first_k_dense_replace": m.size("leading_dense_block_count", 0, least=0),
        "attention_bias": m.has(".attn_q.bias"), "norm_topk_prob": m.raw("expert_weights_norm"),
        "routed_scaling_factor": m.raw("expert_weights_scale"),
    }  # fmt: skip


def qwen_moe(kind: str) -> Reader:
    def read(m: Meta) -> Config:
        config = experts(m, base(m, kind))
        shared = m.optional("expert_shared_feed_forward_length")
        return config | ({"shared_expert_intermediate_size": shared} if shared else {})

    return read


def _qwen3_next(m: Meta) -> Config:
    heads = m.size("ssm.time_step_rank")
    return qwen_moe("qwen3_next")(m) | {
        "linear_conv_kernel_dim": m.size("ssm.conv_kernel"), "linear_key_head_dim": m.size("ssm.state_size"),
        "linear_num_key_heads": m.size("ssm.group_count"), "linear_num_value_heads": heads,
        "linear_value_head_dim": m.size("ssm.inner_size") // heads,
        "full_attention_interval": m.size("full_attention_interval", 4),
    }  # fmt: skip


def one_width(kind: str, count: str = "num_experts") -> Reader:
    """A mixture of experts whose ``intermediate_size`` is an expert's."""
    return lambda m: experts(m, base(m, kind), count, "intermediate_size")


def _jamba(m: Meta) -> Config:
    """Which layers attend and which hold experts is read off the tensors."""
    config = base_without_heads(m, "jamba")
    layers, attends, mixes = config["num_hidden_layers"], m.which("attn_q.weight"), m.which("ffn_gate_inp.weight")
    kv = [n for n in m.layers("attention.head_count_kv") if n]
    if not attends or not kv or len(set(kv)) != 1:
        raise Lacks("jamba's attention layers have no heads in common")
    config |= {
        "num_attention_heads": m.size("attention.head_count"), "num_key_value_heads": kv[0],
        "attn_layer_offset": attends[0], "attn_layer_period": attends[1] - attends[0] if len(attends) > 1 else layers,
        "expert_layer_offset": mixes[0] if mixes else 0,
        "expert_layer_period": mixes[1] - mixes[0] if len(mixes) > 1 else layers,
        "num_experts": m.size("expert_count", 1), "num_experts_per_tok": m.size("expert_used_count", 1),
        "mamba_d_conv": m.size("ssm.conv_kernel"), "mamba_d_state": m.size("ssm.state_size"),
        "mamba_dt_rank": m.size("ssm.time_step_rank"),
        "mamba_expand": max(1, m.size("ssm.inner_size") // config["hidden_size"]),
        "intermediate_size": m.size("feed_forward_length"),
    }  # fmt: skip
    return config


def base_without_heads(m: Meta, kind: str) -> Config:
    return {
        "model_type": kind, "hidden_size": m.size("embedding_length"), "num_hidden_layers": m.size("block_count"),
        "vocab_size": m.vocabulary, "tie_word_embeddings": m.tied,
    }  # fmt: skip


def _mamba(m: Meta) -> Config:
    normed = m.raw("ssm.dt_b_c_rms") is True
    config = base_without_heads(m, "falcon_mamba" if normed else "mamba")
    inner = m.size("ssm.inner_size", 2 * config["hidden_size"])
    return config | {
        "conv_kernel": m.size("ssm.conv_kernel", 4), "state_size": m.size("ssm.state_size", 16),
        "time_step_rank": m.size("ssm.time_step_rank", -(-config["hidden_size"] // 16)),
        "intermediate_size": inner, "expand": max(1, inner // config["hidden_size"]),
    }  # fmt: skip


def _mamba2(m: Meta) -> Config:
    config = base_without_heads(m, "mamba2")
    inner, heads = m.size("ssm.inner_size"), m.size("ssm.time_step_rank")
    return config | {
        "conv_kernel": m.size("ssm.conv_kernel", 4), "state_size": m.size("ssm.state_size"),
        "n_groups": m.size("ssm.group_count", 1), "num_heads": heads, "head_dim": inner // heads,
        "expand": max(1, inner // config["hidden_size"]),
    }  # fmt: skip


def _bert(kind: str, cls: str) -> Reader:
    def read(m: Meta) -> Config:
        config = base(m, kind) | {"architectures": [cls]}
        config.pop("num_key_value_heads")
        for tensor, field in (("position_embd.weight", "max_position_embeddings"),
                              ("token_types.weight", "type_vocab_size")):  # fmt: skip
            shape = m.shapes.get(tensor, ())
            if len(shape) == 2:
                config[field] = int(shape[0])
        return config

    return read


def _t5(m: Meta) -> Config:
    gated, whole = any(n.startswith("enc.blk.0.ffn_gate") for n in m.shapes), m.arch == "t5"
    if not m.lists:  # of the published ones those with a gate are less than four times as wide
        gated = m.size("feed_forward_length") < 4 * m.size("embedding_length")
    each = any(n in m.shapes for n in ("enc.blk.1.attn_rel_b.weight", "dec.blk.1.attn_rel_b.weight"))
    config: Config = {
        "model_type": "umt5" if each else "t5", "n_positions": m.size("context_length", 512),
        "d_model": m.size("embedding_length"), "d_ff": m.size("feed_forward_length"),
        "num_layers": m.size("block_count"), "num_heads": m.size("attention.head_count"),
        "d_kv": m.size("attention.key_length"), "vocab_size": m.vocabulary, "tie_word_embeddings": m.tied,
        "relative_attention_num_buckets": m.size("attention.relative_buckets_count", 32),
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "architectures": [("UMT5" if each else "T5") + ("ForConditionalGeneration" if whole else "EncoderModel")],
    }  # fmt: skip
    return config | ({"num_decoder_layers": m.size("decoder_block_count", config["num_layers"])} if whole else {})


def _chatglm(m: Meta) -> Config:
    """ChatGLM 2 and 3, GLM-4-9B: the class of transformers has their q, k and v apart."""
    config = partial("glm")(m) | {"attention_bias": m.has(".attn_qkv.bias")}
    config.setdefault("head_dim", config["hidden_size"] // max(1, config["num_attention_heads"]))
    return config


def _baichuan(m: Meta) -> Config:
    """The 7B is a Llama whose q, k and v are parted; the 13B has ALiBi, which no graph here has beside RMSNorms."""
    if m.size("embedding_length") != BAICHUAN_TURNED:
        raise Lacks("a rotary embedding (a Baichuan of 13B)")
    return plain("llama")(m)


BAICHUAN_TURNED = 4096  # width of the models with rotary embedding, as llama.cpp tells them apart
READERS: dict[str, Reader] = {
    "baichuan": _baichuan, "chatglm": _chatglm, "internlm2": plain("llama"), "minicpm": plain("granite"),
    "llama": _llama, "mistral": plain("mistral"), "smollm3": plain("smollm3", bias=True), "qwen2": plain("qwen2"),
    "qwen3": plain("qwen3", bias=True), "qwen2moe": qwen_moe("qwen2_moe"), "qwen3moe": qwen_moe("qwen3_moe"),
    "qwen3next": _qwen3_next, "gemma": plain("gemma"), "gemma2": plain("gemma2"), "gemma3": plain("gemma3_text"),
    "phi2": partial("phi"), "phi3": partial("phi3"), "phimoe": one_width("phimoe", "num_local_experts"),
    "gpt2": _gpt2, "gptj": _gptj, "gptneox": partial("gpt_neox"), "starcoder": _starcoder,
    "starcoder2": plain("starcoder2"), "stablelm": partial("stablelm"), "falcon": _falcon, "bloom": plain("bloom"),
    "mpt": _mpt, "olmo": plain("olmo"), "olmoe": one_width("olmoe"),
    "gpt-oss": one_width("gpt_oss", "num_local_experts"), "granite": plain("granite", bias=True, mlp_bias=True),
    "command-r": plain("cohere"), "cohere2": plain("cohere2"), "deepseek2": deepseek, "glm4moe": _glm4_moe,
    "seed_oss": plain("seed_oss", bias=True), "apertus": plain("apertus"),
    "arcee": plain("arcee", bias=True, mlp_bias=True), "ernie4_5": plain("ernie4_5"),
    "hunyuan-dense": plain("hunyuan_v1_dense"), "nemotron": partial("nemotron"), "jamba": _jamba, "mamba": _mamba,
    "mamba2": _mamba2, "bert": _bert("bert", "BertModel"), "nomic-bert": _bert("nomic_bert", "NomicBertModel"),
    "t5": _t5, "t5encoder": _t5,
}  # fmt: skip
