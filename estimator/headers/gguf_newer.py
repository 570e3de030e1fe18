"""The keys of the GGUF architectures that came later, as those of :mod:`estimator.headers.gguf_architectures`."""

from __future__ import annotations

from estimator.headers.gguf_architectures import (
    Config,
    Reader,
    base,
    base_without_heads,
    deepseek,
    experts,
    one_width,
    partial,
    plain,
    qwen_moe,
)
from estimator.headers.gguf_meta import MAX_LAYERS, Lacks, Meta

FULL, SLIDING = "full_attention", "sliding_attention"


def _types(m: Meta, n: int) -> Config:
    """``layer_types``, where the file lists which layers have a window."""
    pattern = m.raw("attention.sliding_window_pattern")
    if not isinstance(pattern, list) or len(pattern) < n or not all(type(x) in (bool, int) for x in pattern):
        return {}
    return {"layer_types": [SLIDING if x else FULL for x in pattern[:n]]}


def _windowed(read: Reader) -> Reader:
    """The same with the layers that have a window; none where the file has no window."""

    def wrapped(m: Meta) -> Config:
        config = read(m)
        config.setdefault("sliding_window", None)
        return config | _types(m, config["num_hidden_layers"])

    return wrapped


def _sigmoid(kind: str, shared: str = "n_shared_experts", dense: str = "first_k_dense_replace") -> Reader:
    """Experts behind leading dense layers, with shared ones beside them."""

    def read(m: Meta) -> Config:
        config = experts(m, partial(kind)(m), "num_experts" if shared == "num_shared_experts" else "n_routed_experts")
        lead = m.size("leading_dense_block_count", 0, least=0)
        config["num_hidden_layers"] -= m.size("nextn_predict_layers", 0, least=0)
        return config | {shared: m.size("expert_shared_count", 0, least=0), dense: lead}

    return read


def _mistral3(m: Meta) -> Config:
    """Ministral 3 scales its queries by their position; other files of the architecture do not."""
    return plain("ministral3" if m.raw("attention.temperature_scale") else "mistral")(m)


def _exaone4(m: Meta) -> Config:
    """Windows in three of four layers of the 32B alone."""
    config = plain("exaone4")(m)
    if "sliding_window" not in config:
        return config | {"sliding_window": None}
    return config | {"sliding_window_pattern": "LLLG"} | _types(m, config["num_hidden_layers"])


def _olmo2(m: Meta) -> Config:
    """OLMo 2, or OLMo 3 where there is a window, in three of four layers."""
    config = plain("olmo2", bias=True)(m)
    if "sliding_window" not in config:
        return config
    return config | {"model_type": "olmo3"} | _types(m, config["num_hidden_layers"])


def _ernie(m: Meta) -> Config:
    config = experts(m, base(m, "ernie4_5_moe"), "moe_num_experts")
    config["moe_k"] = config.pop("num_experts_per_tok")
    return config | {
        "moe_num_shared_experts": m.size("expert_shared_count", 0, least=0), "use_bias": m.has(".attn_q.bias"),
        "moe_layer_start_index": m.size("leading_dense_block_count", 0, least=0),
        "moe_layer_interval": m.size("interleave_moe_layer_step", 1),
    }  # fmt: skip


def _hunyuan_moe(m: Meta) -> Config:
    config = experts(m, base(m, "hunyuan_v1_moe"))
    config["moe_topk"] = config.pop("num_experts_per_tok")
    return config | {"intermediate_size": config.pop("moe_intermediate_size")}


def _granite_moe(m: Meta) -> Config:
    config = one_width("granitemoe", "num_local_experts")(m)
    shared = m.optional("expert_shared_feed_forward_length")
    return config | ({"model_type": "granitemoeshared", "shared_intermediate_size": shared} if shared else {})


def _mamba2(m: Meta) -> Config:
    heads, inner = m.size("ssm.time_step_rank"), m.size("ssm.inner_size")
    return {
        "mamba_d_conv": m.size("ssm.conv_kernel"), "mamba_d_state": m.size("ssm.state_size"),
        "mamba_n_groups": m.size("ssm.group_count"), "mamba_n_heads": heads, "mamba_d_head": inner // heads,
        "mamba_expand": max(1, inner // m.size("embedding_length")),
    }  # fmt: skip


def _hybrid(m: Meta, kind: str, attends: str, other: str, field: str = "layer_types") -> Config:
    """Attention in the layers where the file counts key heads."""
    kv = m.layers("attention.head_count_kv")
    heads = {n for n in kv if n}
    if len(heads) > 1:
        raise Lacks(f"{kind}'s attention layers have no heads in common")
    types = [attends if n else other for n in kv]
    width = m.optional("attention.key_length")
    return base_without_heads(m, kind) | {
        "num_attention_heads": m.size("attention.head_count"), "num_key_value_heads": max(heads, default=1),
        field: types, **({"head_dim": width} if width else {}),
        **({"max_position_embeddings": n} if (n := m.optional("context_length")) else {}),
    }  # fmt: skip


def _granite_hybrid(m: Meta) -> Config:
    config = _hybrid(m, "granitemoehybrid", "attention", "mamba") | _mamba2(m)
    count = m.size("expert_count", 0, least=0)
    rope = m.raw("rope.scaling.finetuned") is True
    wide = m.size("feed_forward_length")
    return config | {
        "num_local_experts": count, "num_experts_per_tok": m.size("expert_used_count", 0, least=0),
        "intermediate_size": wide, "position_embedding_type": "rope" if rope else "nope",
        "shared_intermediate_size": m.size("expert_shared_feed_forward_length", wide if not count else 0, least=0),
    }  # fmt: skip


def _nemotron_h(m: Meta) -> Config:
    """Each layer is attention, an MLP or a scan, as the file's heads and widths say."""
    config = _hybrid(m, "nemotron_h", "attention", "", "layers_block_type")
    wide = m.layers("feed_forward_length")
    kinds = [a or ("mlp" if n else "mamba") for a, n in zip(config["layers_block_type"], wide, strict=False)]
    scan = _mamba2(m)
    return config | {
        "layers_block_type": kinds, "intermediate_size": max(wide), "tie_word_embeddings": False,
        "mamba_num_heads": scan["mamba_n_heads"], "mamba_head_dim": scan["mamba_d_head"],
        "n_groups": scan["mamba_n_groups"], "ssm_state_size": scan["mamba_d_state"],
        "conv_kernel": scan["mamba_d_conv"],
        "mlp_bias": bool(m.which("ffn_up.bias")), "use_bias": bool(m.which("ssm_in.bias")),
    }  # fmt: skip


def _falcon_h1(m: Meta) -> Config:
    return base(m, "falcon_h1") | _mamba2(m) | {"mamba_d_ssm": m.size("ssm.inner_size")}


def _lfm2(kind: str) -> Reader:
    def read(m: Meta) -> Config:
        config = _hybrid(m, kind, FULL, "conv") | {
            "conv_L_cache": m.size("shortconv.l_cache"), "intermediate_size": m.size("feed_forward_length"),
            "block_auto_adjust_ff_dim": False, "tie_word_embeddings": True,
        }  # fmt: skip
        if kind == "lfm2":
            return config
        return experts(m, config) | {"num_dense_layers": m.size("leading_dense_block_count", 0, least=0)}

    return read


def _llama4(m: Meta) -> Config:
    config = experts(m, base(m, "llama4_text"), "num_local_experts")
    return config | {
        "intermediate_size_mlp": config.pop("intermediate_size", config["moe_intermediate_size"]),
        "intermediate_size": config.pop("moe_intermediate_size"),
        "interleave_moe_layer_step": m.size("interleave_moe_layer_step", 1),
        "use_qk_norm": config["num_hidden_layers"] == LLAMA4_SCOUT,
    }  # fmt: skip


LLAMA4_SCOUT = 48  # layers of the model without norms over q and k: llama.cpp, src/models/llama4.cpp


def _minimax(m: Meta) -> Config:
    config = one_width("minimax_m2", "num_local_experts")(m)
    return config | {"rotary_dim": m.size("rope.dimension_count")}


def _afmoe(m: Meta) -> Config:
    return _windowed(_sigmoid("afmoe", "num_shared_experts", "num_dense_layers"))(m) | {"mup_enabled": True}


def _qwen35(kind: str) -> Reader:
    def read(m: Meta) -> Config:
        heads = m.size("ssm.time_step_rank")
        config = qwen_moe(kind)(m) if kind.endswith("moe_text") else base(m, kind)
        config["num_hidden_layers"] -= m.size("nextn_predict_layers", 0, least=0)
        return config | {
            "linear_conv_kernel_dim": m.size("ssm.conv_kernel"), "linear_key_head_dim": m.size("ssm.state_size"),
            "linear_num_key_heads": m.size("ssm.group_count"), "linear_num_value_heads": heads,
            "linear_value_head_dim": m.size("ssm.inner_size") // heads,
            "full_attention_interval": m.size("full_attention_interval", 4),
        }  # fmt: skip

    return read


def _gemma_layers(m: Meta, kind: str) -> Config:
    """What Gemma 3n and Gemma 4 share: windows by layer, an input of each layer's own, layers that reuse keys."""
    config = base_without_heads(m, kind) | {
        "num_attention_heads": m.size("attention.head_count"), "max_position_embeddings": m.size("context_length"),
        "hidden_size_per_layer_input": m.size("embedding_length_per_layer_input", 0, least=0),
        "num_kv_shared_layers": m.size("attention.shared_kv_layers", 0, least=0),
        "sliding_window": m.size("attention.sliding_window"), "head_dim": m.size("attention.key_length"),
    }  # fmt: skip
    rows = m.shapes.get("per_layer_token_embd.weight", ())
    config |= {"vocab_size_per_layer_input": int(rows[0])} if rows else {}
    return config | _types(m, config["num_hidden_layers"])


def _gemma3n(m: Meta) -> Config:
    wide = m.raw("feed_forward_length")
    return _gemma_layers(m, "gemma3n_text") | {
        "num_key_value_heads": m.size("attention.head_count_kv"), "altup_num_inputs": m.size("altup.num_inputs", 4),
        "intermediate_size": wide if isinstance(wide, list) else m.size("feed_forward_length"),
    }  # fmt: skip


def _gemma4(m: Meta) -> Config:
    config = _gemma_layers(m, "gemma4_text")
    types = config.get("layer_types", [])
    kv, wide = m.raw("attention.head_count_kv"), m.raw("feed_forward_length")
    kv = kv if isinstance(kv, list) else [m.size("attention.head_count_kv")] * config["num_hidden_layers"]
    wide = wide if isinstance(wide, list) else [m.size("feed_forward_length")]
    near = {n for n, t in zip(kv, types, strict=False) if t == SLIDING}
    far = {n for n, t in zip(kv, types, strict=False) if t == FULL}
    if not near or not far or len(near | far) > 2:
        raise Lacks("gemma4's layers with and without a window have no key heads in common")
    own = len(types) - config["num_kv_shared_layers"]
    alone = {i for i, t in enumerate(types) if t == FULL and i < own} - set(m.which("attn_v.weight"))
    config |= {
        "global_head_dim": config["head_dim"], "head_dim": m.size("attention.key_length_swa", config["head_dim"]),
        "num_key_value_heads": max(near), "num_global_key_value_heads": max(far), "intermediate_size": min(wide),
        "use_double_wide_mlp": max(wide) == 2 * min(wide),
        "attention_k_eq_v": bool(alone),
    }  # fmt: skip
    if m.optional("expert_count"):
        config |= {
            "enable_moe_block": True, "num_experts": m.size("expert_count"),
            "top_k_experts": m.size("expert_used_count"), "moe_intermediate_size": m.size("expert_feed_forward_length"),
        }  # fmt: skip
    return config


def _minicpm3(m: Meta) -> Config:
    config, rope = base(m, "minicpm3"), m.size("rope.dimension_count")
    return config | {
        "q_lora_rank": m.size("attention.q_lora_rank"), "kv_lora_rank": m.size("attention.kv_lora_rank"),
        "qk_rope_head_dim": rope, "qk_nope_head_dim": m.size("attention.key_length") - rope,
    }  # fmt: skip


def _depth(m: Meta) -> int:
    """Layers of the file but those that predict further tokens."""
    n = m.size("block_count") - m.size("nextn_predict_layers", 0, least=0)
    if not 1 <= n <= MAX_LAYERS:
        raise Lacks(f"{m.arch} has {n:,} layers, not 1 to {MAX_LAYERS}")
    return n


def _sparse(kind: str) -> Reader:
    """DeepSeek-V3's keys, and those of the indexer."""

    def read(m: Meta) -> Config:
        config = deepseek(m) | {
            "model_type": kind, "index_n_heads": m.size("attention.indexer.head_count"),
            "index_head_dim": m.size("attention.indexer.key_length"), "index_topk": m.size("attention.indexer.top_k"),
        }  # fmt: skip
        n, own = _depth(m), m.which("indexer.attn_k.weight")
        types = ["full" if i in own else "shared" for i in range(n)]
        return config | {"num_hidden_layers": n, "indexer_types": types}

    return read


def _kimi_linear(m: Meta) -> Config:
    """Latent attention where the file counts key heads, a delta net elsewhere."""
    kv, rope = m.layers("attention.head_count_kv"), m.size("rope.dimension_count")
    heads = m.size("attention.head_count")
    config = base_without_heads(m, "kimi_linear") | {
        "num_attention_heads": heads, "kv_lora_rank": m.size("attention.kv_lora_rank"), "qk_rope_head_dim": rope,
        "qk_nope_head_dim": m.size("attention.key_length_mla") - rope,
        "v_head_dim": m.size("attention.value_length_mla"), "intermediate_size": m.size("feed_forward_length"),
        "first_k_dense_replace": m.size("leading_dense_block_count", 0, least=0),
        "num_shared_experts": m.size("expert_shared_count", 1), "routed_scaling_factor": m.raw("expert_weights_scale"),
        "layer_types": [FULL if n else "linear_attention" for n in kv], "linear_num_heads": heads,
        "linear_head_dim": m.size("kda.head_dim"), "linear_conv_kernel_dim": m.size("ssm.conv_kernel"),
        "model_max_length": m.size("context_length"),
    }  # fmt: skip
    return experts(m, config)


def _step35(m: Meta) -> Config:
    """Windowed layers have query heads of their own number."""
    n = _depth(m)
    kv, heads, types = set(m.layers("attention.head_count_kv")[:n]), m.layers("attention.head_count"), _types(m, n)
    pairs = list(zip(heads, types.get("layer_types", ()), strict=False))
    each = {t: {h for h, x in pairs if x == t} for t in (FULL, SLIDING)}
    if not heads or len(kv) != 1 or any(len(found) > 1 for found in each.values()):
        raise Lacks("step35's layers of a kind have no heads in common")
    mixes = m.which("ffn_gate_inp.weight")
    near = max(each[SLIDING], default=heads[0])
    return experts(m, base_without_heads(m, "step3p5"), "n_routed_experts") | types | {
        "num_hidden_layers": n, "num_attention_heads": max(each[FULL], default=near), "num_key_value_heads": kv.pop(),
        "num_sliding_attention_heads": near, "head_dim": m.size("attention.key_length"),
        "sliding_window": m.size("attention.sliding_window"), "intermediate_size": m.size("feed_forward_length"),
        "share_expert_dim": m.size("expert_shared_feed_forward_length"),
        "mlp_layer_types": ["sparse" if i in mixes else "dense" for i in range(n)],
        "norm_expert_weight": m.raw("expert_weights_norm"), "moe_router_scaling_factor": m.raw("expert_weights_scale"),
        "swiglu_limits": m.raw("swiglu_clamp_exp"), "swiglu_limits_shared": m.raw("swiglu_clamp_shexp"),
        "max_position_embeddings": m.size("context_length"),
    }  # fmt: skip


def _glm4(m: Meta) -> Config:
    """GLM-4-0414, or the text of GLM-4V, whose positions have sections."""
    return partial("glm4v_text" if m.raw("rope.dimension_sections") else "glm4")(m)


def _qwen(m: Meta) -> Config:
    config = base(m, "qwen")
    return config | {"kv_channels": config["hidden_size"] // config["num_attention_heads"]}


NEWER: dict[str, Reader] = {
    "mistral3": _mistral3, "qwen2vl": plain("qwen2_5_vl_text"), "qwen3vl": plain("qwen3_vl_text"),
    "qwen3vlmoe": qwen_moe("qwen3_vl_moe_text"), "qwen35": _qwen35("qwen3_5_text"),
    "qwen35moe": _qwen35("qwen3_5_moe_text"), "glm4": _glm4, "exaone": plain("exaone"), "exaone4": _exaone4,
    "exaone-moe": _windowed(_sigmoid("exaone_moe", "num_shared_experts")), "olmo2": _olmo2, "jais2": plain("jais2"),
    "qwen": _qwen, "bitnet": plain("bitnet"), "minicpm3": _minicpm3, "ernie4_5-moe": _ernie,
    "hunyuan-moe": _hunyuan_moe,
    "dots1": _sigmoid("dots1"), "granitemoe": _granite_moe, "granitehybrid": _granite_hybrid,
    "nemotron_h": _nemotron_h, "falcon-h1": _falcon_h1, "lfm2": _lfm2("lfm2"), "lfm2moe": _lfm2("lfm2_moe"),
    "llama4": _llama4, "minimax-m2": _minimax, "afmoe": _afmoe, "gemma3n": _gemma3n, "gemma4": _gemma4,
    "deepseek32": _sparse("deepseek_v32"), "glm-dsa": _sparse("glm_moe_dsa"), "kimi-linear": _kimi_linear,
    "step35": _step35,
}  # fmt: skip
