"""A GGUF file without data from a config.json: the project's own tensors under gguf's names, and the metadata.

What llama.cpp's converter would write, so far as its loader asks for it: the loader refuses a file whose tensors have
other names, shapes or numbers than the architecture's, so that a file that loads checks the tensors too.
"""

from __future__ import annotations

import re

import gguf
import llamacpp_newer as newer
from llamacpp_files_rwkv import of_rwkv, rwkv_metadata

from estimator.engines.llamacpp.model import ordered
from estimator.storage.base import layers_of
from estimator.storage.gguf_tensors import _is_matrix, in_file
from estimator.trace import value_of

ARCHS = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
GRANITE = {"logit_scale": 8.0, "attention.scale": 0.0078125, "embedding_scale": 12.0, "residual_scale": 0.22}
LEAD = ("deepseek2", "dots1", "glm4moe", "exaone-moe", "afmoe", "lfm2moe", "minimax-m2", "mistral4", "hy_v3", "mimo2")
SCANS = ("granitehybrid", "nemotron_h", "falcon-h1")
# the end of a checkpoint's name -> of the file's, where gguf's own map lacks it
ENDS = {
    r"self_attn\.sinks": "attn_sinks.weight",
    r"e_score_correction_bias|expert_bias": "exp_probs_b.bias", r"(?:mlp|block_sparse_moe)\.(?:gate|router)\.weight":
    "ffn_gate_inp.weight", r"router\.(?:layer|proj)\.weight": "ffn_gate_inp.weight", r"A_log": "ssm_a",
    r"dt_bias": "ssm_dt.bias", r"(?:mamba|mixer)\.D": "ssm_d", r"router\.scale": "ffn_gate_inp.scale",
    r"per_expert_scale": "ffn_down_exps.scale", r"experts\.down_proj": "ffn_down_exps.weight",
    r"attn_sub_norm\.weight": "attn_sub_norm.weight", r"ffn_sub_norm\.weight": "ffn_sub_norm.weight",
    r"pre_ff_layernorm\.weight": "ffn_norm", r"laurel\.linear_left\.weight": "laurel_l.weight",
    r"laurel\.linear_right\.weight": "laurel_r.weight", r"post_laurel_norm\.weight": "laurel_post_norm.weight",
    r"altup\.router_norm\.weight": "altup_router_norm.weight", r"modality_router\.weight": "altup_router.weight",
    r"prediction_coefs\.weight": "altup_predict_coef.weight", r"correction_coefs\.weight": "altup_correct_coef.weight",
    r"correct_output_scale": "altup_correct_scale.weight", r"block_sparse_moe\.output_linear\.weight":
    "ffn_down_exps.weight",
}  # fmt: skip
WHOLE = {
    "lm_head.weight": "output.weight", "embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "per_layer_model_projection.weight": "per_layer_model_proj.weight", "final_layernorm.weight": "output_norm.weight",
    "per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}  # fmt: skip
NOMIC = {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj":
         "ffn_down", "post_attention_layernorm": "attn_output_norm",
         "post_mlp_layernorm": "layer_output_norm"}  # fmt: skip
DBRX = {"w1": "ffn_gate_exps", "v1": "ffn_up_exps", "w2": "ffn_down_exps"}
MIXER = {"conv1d": "ssm_conv1d", "down_proj": "ffn_down", "in_proj": "ssm_in", "k_proj": "attn_k", "q_proj": "attn_q",
         "o_proj": "attn_output", "out_proj": "ssm_out", "up_proj": "ffn_up", "v_proj": "attn_v"}  # fmt: skip


FP32 = ("ffn_gate_inp", "conv1d", "shortconv.conv", "time_mix_w", "time_mix_lerp", "time_mix_first", "time_mix_decay_w")


def plain(value):
    return int(value_of(value))


def halves(block, stem, shape):
    """Gate and up of a matrix that holds both."""
    *more, wide, d = shape
    return [(f"{block}ffn_{x}{stem}.weight", (*more, wide // 2, d)) for x in ("gate", "up")]


def renamed(arch, name, shape, c):
    """[(name in the file, shape)] where gguf's map lacks the name or the file holds the tensor in parts; else None."""
    layer = re.search(r"\.(\d+)\.", name)
    block = f"blk.{layer[1]}." if layer else ""
    heads, rank = c.get("num_attention_heads"), c.get("kv_lora_rank")
    if arch == "nomic-bert" and layer:
        stem, _, end = name.partition(f"layers.{layer[1]}.")[2].rpartition(".")
        if stem.endswith("q_proj"):  # with keys and values in one
            return [(f"{block}attn_qkv.{end}", (3 * shape[0], *shape[1:]))]
        return [(f"{block}{NOMIC[stem]}.{end}", shape)] if stem in NOMIC else []
    if "rwkv" in arch and layer and "pre_norm" not in name and "pre_ln" not in name:
        return of_rwkv(arch, block, name.partition(f".{layer[1]}.")[2], shape, c)
    later = newer.renamed(arch, name, shape, block)
    if later is not None:
        return later
    if name == "model.norm.weight":
        return [("output_norm.weight", shape)]
    for end, whole in WHOLE.items():
        if name.endswith(end):
            return [(whole, shape)]
    if "altup_projections" in name or "altup_unembed_projections" in name:
        stem = "altup_proj" if "altup_projections" in name else "altup_unembd_proj"
        return [(f"{stem}.weight", (c["altup_num_inputs"] - 1, *shape))]
    if name.endswith("wqkv.weight") or "W_pack" in name:
        h, kv, d = heads, c.get("num_key_value_heads") or heads, c["hidden_size"]
        sizes = (("q", h), ("k", kv), ("v", kv))
        return [(f"{block}attn_{x}.weight", (n * d // h, d)) for x, n in sizes]
    if arch == "dbrx" and ".experts.mlp." in name:
        width = c["ffn_config"]["ffn_hidden_size"]
        stem, each = DBRX[name[-2:]], (shape[0] // width, width, shape[1])
        return [(f"{block}{stem}.weight", each if stem != "ffn_down_exps" else (each[0], each[2], each[1]))]
    if arch == "dbrx" and "norm_attn_norm.norm_2" in name:
        return [(f"{block}attn_output_norm.weight", shape)]
    if "kv_b_proj" in name and arch != "minicpm3":
        nope, v = c["qk_nope_head_dim"], c["v_head_dim"]
        return [(f"{block}attn_k_b.weight", (heads, rank, nope)), (f"{block}attn_v_b.weight", (heads, v, rank))]
    if arch in ("gemma4", "mistral4") and name.endswith("experts.gate_up_proj"):
        return [(f"{block}ffn_gate_up_exps.weight", shape)]
    if name.endswith(("experts.gate_up_proj", "block_sparse_moe.input_linear.weight")):
        return halves(block, "_exps", shape)
    beside = "_shexp" if c.get("num_local_experts") or arch == "granitemoe" else ""
    if name.endswith("shared_mlp.input_linear.weight"):
        return halves(block, beside, shape)
    if name.endswith("shared_mlp.output_linear.weight"):
        return [(f"{block}ffn_down{beside}.weight", shape)]
    if "shared_expert_gate.weight" in name:
        return [(f"{block}ffn_gate_inp_shexp.weight", shape[-1:])]
    if arch in SCANS and re.search(r"(?:mamba|mixer)\.norm\.weight$", name):
        groups = c.get("mamba_n_groups") or c.get("n_groups")
        return [(f"{block}ssm_norm.weight", (groups, shape[0] // groups))]
    if arch in SCANS and re.search(r"\.(?:A_log|D)$", name):
        shape = (shape[0], 1)
    mixer = re.search(r"\.mixer\.(\w+)\.(weight|bias)$", name) if arch == "nemotron_h" else None
    if mixer and mixer[1] in MIXER:
        return [(f"{block}{MIXER[mixer[1]]}.{mixer[2]}", (shape[0], shape[2]) if len(shape) == 3 else shape)]
    if arch == "hy_v3" and name.endswith("e_score_correction_bias"):
        return [(f"{block}exp_probs_b", shape)]
    for end, file in ENDS.items():
        if re.search(rf"(?:^|\.)(?:{end})$", name) and (file != "ffn_norm" or arch == "falcon-h1"):
            return [(f"{block}{file}", shape)]
    return None


def tensors(name, arch, c):
    """[(name, dimensions innermost first, "w" for a matrix or "f32")] of the file."""
    arch, layers = in_file(arch), sum(plain(x.times) for x in arch.layers)
    names = gguf.get_tensor_name_map(ARCHS[newer.NAMED.get(name, name)], layers)
    out = {}
    for w in (*arch.weights(), *arch.buffers):
        for i in layers_of(w) if "{i}" in w.name else [None]:
            own = w.name if i is None else w.name.replace("{i}", str(i))
            shape = tuple(map(plain, w.shape))
            if len(shape) == 3 and ("conv1d.weight" in own or ".conv.conv.weight" in own):
                shape = (shape[0], shape[2])
            parts = renamed(name, own, shape, c)
            if parts is None:
                stem, dot, end = own.rpartition(".")
                found = names.get_name(stem) if end in ("weight", "bias") else names.get_name(own)
                parts = [(f"{found}{dot}{end}", shape)] if found else []
            for file, dims in parts:
                thin = any(x in file for x in FP32)
                matrix = _is_matrix(w) or "attn_rel_b" in file or re.search(r"time_mix_[avg][12]", file)
                kind = "w" if matrix and len(dims) > 1 and not thin else "f32"
                out[file] = (file, tuple(reversed(dims)) or (1,), kind)
    return [*out.values(), *_beside(name, arch, c)]


def _beside(name, arch, c):
    """Tensors that the file holds and the class does not."""
    n, d = c.get("num_hidden_layers"), c.get("head_dim")
    if name == "gemma4":
        scales = [(f"blk.{i}.layer_output_scale.weight", (1,), "f32") for i in range(n)]
        return [("rope_freqs.weight", (c["global_head_dim"] // 2,), "f32"), *scales]
    if name == "gemma3n":
        wide = c["num_key_value_heads"] * d
        keys = (("attn_k", (c["hidden_size"], wide), "w"), ("attn_v", (c["hidden_size"], wide), "w"),
                ("attn_k_norm", (d,), "f32"))  # fmt: skip
        reused = range(n - c["num_kv_shared_layers"], n)
        return [(f"blk.{i}.{x}.weight", dims, kind) for i in reused for x, dims, kind in keys]
    return []


def metadata(name, arch, c):
    """The keys that the loader asks for."""
    apart = _t5 if name in ("t5", "t5encoder") else rwkv_metadata if "rwkv" in name else None
    if apart is not None:
        return {f"{name}.{k}": v for k, v in apart(name, arch, c).items()}
    if name == "dbrx":
        attn, ffn = c["attn_config"], c["ffn_config"]
        c = c | {"num_attention_heads": c["n_heads"], "num_key_value_heads": attn["kv_n_heads"], "num_experts":
                 ffn["moe_num_experts"], "num_experts_per_tok": ffn["moe_top_k"], "intermediate_size":
                 ffn["ffn_hidden_size"], "max_position_embeddings": c["max_seq_len"]}  # fmt: skip
    heads = c.get("num_attention_heads") or 0
    own = [a for a in arch.attentions if a.mla is None]
    width = plain(own[0].head_dim) if own else c.get("head_dim") or plain(arch.hidden) // max(1, heads)
    m = {
        "context_length": c.get("max_position_embeddings", 4096), "embedding_length": plain(arch.hidden),
        "block_count": plain(arch.num_layers), "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size":
        plain(arch.vocab), "attention.layer_norm_epsilon": 1e-5, "feed_forward_length": c.get("intermediate_size", 0),
    }  # fmt: skip
    if heads:
        turned = c.get("partial_rotary_factor", 1.0)
        m |= {"attention.head_count": heads, "attention.head_count_kv": c.get("num_key_value_heads") or heads,
              "attention.key_length": width, "attention.value_length": width, "rope.freq_base": 10000.0,
              "rope.dimension_count": int(width * turned)}  # fmt: skip
    experts = next((c[k] for k in ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
                    if c.get(k)), 0)  # fmt: skip
    if experts:
        named = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
        chosen = next(c[k] for k in named if c.get(k))
        each = c.get("moe_intermediate_size") or c.get("intermediate_size")
        m |= {"expert_count": experts, "expert_used_count": chosen, "expert_feed_forward_length": each,
              "expert_weights_norm": True}  # fmt: skip
    if c.get("sliding_window"):
        m["attention.sliding_window"] = c["sliding_window"]
    m |= _of_family(name, arch, c, m)
    if name == "granitehybrid":
        m.pop("rope.dimension_count")
    own_keys = {f"{name}.{k}": v for k, v in m.items() if v is not None}
    if name == "apertus":
        own_keys |= {f"xielu.{k}": [1.0] * m["block_count"] for k in ("alpha_n", "alpha_p", "beta", "eps")}
    return own_keys


def _t5(name, arch, c):
    m = {
        "context_length": c.get("n_positions", 512), "embedding_length": c["d_model"], "block_count": c["num_layers"],
        "feed_forward_length": c["d_ff"], "attention.head_count": c["num_heads"], "attention.key_length": c["d_kv"],
        "attention.value_length": c["d_kv"], "attention.layer_norm_epsilon": 1e-6, "vocab_size": plain(arch.vocab),
        "attention.layer_norm_rms_epsilon": 1e-6, "attention.relative_buckets_count":
        c.get("relative_attention_num_buckets", 32),
    }  # fmt: skip
    whole = {"decoder_block_count": c.get("num_decoder_layers", c["num_layers"]), "decoder_start_token_id": 0}
    return m | (whole if name == "t5" else {})


def _of_family(name, arch, c, m):
    """What one architecture's loader asks for beside the common keys."""
    g, out = c.get, {}
    if "vl" in name or name.startswith("qwen35") or "glm4v" in c["model_type"]:
        out |= {"rope.dimension_sections": [16, 24, 24, 0], "n_deepstack_layers": 3 if name[:6] == "qwen3v" else 0}
    if g("kv_lora_rank"):
        rank, rope, nope, v = c["kv_lora_rank"], c["qk_rope_head_dim"], c["qk_nope_head_dim"], g("v_head_dim") or 64
        out |= {"attention.q_lora_rank": g("q_lora_rank"), "attention.kv_lora_rank": rank, "rope.dimension_count":
                rope, "attention.key_length": rank + rope, "attention.value_length": rank, "attention.head_count_kv":
                1, "attention.key_length_mla": nope + rope, "attention.value_length_mla": v}  # fmt: skip
    if name == "mimo2":
        each = [x.mixer for x in ordered(arch)]
        out |= {"attention.sliding_window": plain(next(a.window for a in each if a.window is not None)),
                "attention.sliding_window_pattern": [a.window is not None for a in each],
                "attention.head_count_kv": [plain(a.kv_heads) for a in each], "rope.freq_base_swa": 10000.0,
                "attention.value_length": c["v_head_dim"]}  # fmt: skip
    if name == "minicpm3":
        out |= {"attention.key_length": nope + rope, "attention.value_length": v, "attention.head_count_kv":
                c["num_attention_heads"]}  # fmt: skip
    if name in LEAD:
        out |= {"expert_shared_count": g("n_shared_experts") or g("num_shared_experts") or 0, "expert_gating_func": 2,
                "leading_dense_block_count": g("first_k_dense_replace", g("num_dense_layers", 1)),
                "expert_weights_scale": 1.0}  # fmt: skip
    if name == "ernie4_5-moe":
        shared = g("moe_num_shared_experts", 0)
        out |= {"interleave_moe_layer_step": 1, "leading_dense_block_count": g("moe_layer_start_index", 0),
                "expert_shared_count": shared, "expert_shared_feed_forward_length":
                shared * g("moe_intermediate_size", 0)}  # fmt: skip
    if name == "dbrx":
        out["attention.clamp_kqv"] = 8.0
    if name.startswith("granite"):
        out |= GRANITE
    beside = g("shared_intermediate_size") or g("shared_expert_intermediate_size")
    if beside or name == "hunyuan-moe":
        out["expert_shared_feed_forward_length"] = beside or c["intermediate_size"]
    if name.startswith("qwen35"):
        values = c["linear_num_value_heads"]
        out |= _scan(4, c["linear_key_head_dim"], c["linear_num_key_heads"], values,
                     values * c["linear_value_head_dim"])  # fmt: skip
        out |= {"full_attention_interval": 4, "rope.dimension_count": c["head_dim"] // 4}
    if g("mamba_d_conv"):
        inner = g("mamba_d_ssm") or g("mamba_expand", 2) * c["hidden_size"]
        out |= _scan(4, c["mamba_d_state"], c["mamba_n_groups"], c["mamba_n_heads"], inner)
    if name == "nemotron_h":
        inner, letters = c["mamba_num_heads"] * c["mamba_head_dim"], c["hybrid_override_pattern"]
        out |= _scan(4, c["ssm_state_size"], c["n_groups"], c["mamba_num_heads"], inner)
        out |= {"attention.head_count_kv": [c["num_key_value_heads"] if x == "*" else 0 for x in letters],
                "feed_forward_length": [c["intermediate_size"] if x == "-" else 0 for x in letters]}  # fmt: skip
    if name in ("granitehybrid", "lfm2moe"):
        kinds = c["layer_types"]
        out["attention.head_count_kv"] = [c["num_key_value_heads"] if "attention" in x else 0 for x in kinds]
    if name == "granitehybrid":
        out["rope.scaling.finetuned"] = any(a.position == "rope" for a in arch.attentions)
    if name == "lfm2moe":
        out["shortconv.l_cache"] = 3
    if name == "mistral3" and any(a.query_scale == "rotated" for a in arch.attentions):
        out |= {"attention.temperature_scale": 0.1, "rope.scaling.original_context_length": 4096}
    if name == "mamba":
        out |= {"ssm.conv_kernel": 4, "ssm.state_size": c["state_size"], "ssm.time_step_rank": c["time_step_rank"],
                "ssm.inner_size": c["intermediate_size"], "ssm.dt_b_c_rms": c["model_type"] == "falcon_mamba",
                "feed_forward_length": 0, "attention.head_count": 0}  # fmt: skip
    if arch.kind == "encoder":
        heads = plain(arch.attentions[0].heads)
        out |= {"attention.causal": False, "pooling_type": 1, "feed_forward_length": plain(arch.layers[0].mlp.width),
                "context_length": arch.max_positions, "attention.head_count": heads,
                "attention.head_count_kv": plain(arch.attentions[0].kv_heads)}  # fmt: skip
    if g("local_attention"):
        out |= {"attention.sliding_window": g("local_attention"), "rope.freq_base_swa": 10000.0,
                "attention.sliding_window_pattern": g("global_attn_every_n_layers", 3)}  # fmt: skip
    return out | newer.metadata(name, arch, c) | (_gemma(name, c) if name in ("gemma3n", "gemma4") else {})


def _scan(kernel, state, groups, rank, inner):
    return {"ssm.conv_kernel": kernel, "ssm.state_size": state, "ssm.group_count": groups, "ssm.time_step_rank": rank,
            "ssm.inner_size": inner}  # fmt: skip


def _gemma(name, c):
    near = [x != "full_attention" for x in c["layer_types"]]
    d, full, n = c["head_dim"], c["global_head_dim"], c["num_hidden_layers"]
    out = {"attention.shared_kv_layers": c["num_kv_shared_layers"], "embedding_length_per_layer_input":
           c["hidden_size_per_layer_input"], "attention.sliding_window_pattern": near, "final_logit_softcapping": 30.0,
           "rope.freq_base_swa": 10000.0}  # fmt: skip
    if name == "gemma3n":
        return out | {"attention.key_length": d, "attention.value_length": d, "rope.dimension_count": d,
                      "altup.num_inputs": 4, "altup.active_idx": 0, "activation_sparsity_scale": [0.0] * n,
                      "feed_forward_length": [c["intermediate_size"]] * n}  # fmt: skip
    far = c.get("num_global_key_value_heads") or c["num_key_value_heads"]
    return out | {"attention.key_length": full, "attention.value_length": full, "attention.key_length_swa": d,
                  "attention.value_length_swa": d, "rope.dimension_count": full, "rope.dimension_count_swa": d,
                  "attention.head_count_kv": [c["num_key_value_heads"] if x else far for x in near]}  # fmt: skip
