"""The part of llamacpp_files.py that writes RWKV 6 and 7: llama.cpp's conversion/rwkv.py, build 11434."""

from __future__ import annotations

import re

from estimator.engines.llamacpp.model import ordered
from estimator.families.common_gguf import RESCALED

RWKV = {
    "attn_norm": "attn_norm", "ffn_norm": "attn_norm_2", "input_layernorm": "attn_norm", "post_attention_layernorm":
    "ffn_norm", "attn.r_proj": "time_mix_receptance", "attn.k_proj": "time_mix_key", "attn.v_proj": "time_mix_value",
    "attn.o_proj": "time_mix_output", "attn.g_norm": "time_mix_ln", "self_attn.time_mixer.ln_x": "time_mix_ln",
    "ffn.key": "channel_mix_key", "ffn.value": "channel_mix_value", "mlp.gate_proj": "ffn_gate", "mlp.up_proj":
    "ffn_up", "mlp.down_proj": "ffn_down", **{f"self_attn.time_mixer.{x}": f"time_mix_{x}" for x in
    ("receptance", "key", "value", "output")}, "ln1": "attn_norm", "ln2": "attn_norm_2", "self_attn.q_proj":
    "time_mix_receptance", "self_attn.k_proj": "time_mix_key", "self_attn.v_proj": "time_mix_value", "self_attn.gate":
    "time_mix_gate", "self_attn.o_proj": "time_mix_output", "attention.ln_x": "time_mix_ln",
    **{f"attention.{x}": f"time_mix_{x}" for x in ("receptance", "key", "value", "gate", "output")},
    **{f"feed_forward.{x}": f"channel_mix_{x}" for x in ("receptance", "key", "value")},
}  # fmt: skip


def of_finch(block, stem, end, shape):
    """[(name in the file, shape)] of a parameter without a module of RWKV 6 or QRWKV 6."""
    if stem == "feed_forward":
        return [(f"{block}channel_mix_lerp_{end[-1]}.weight", shape[-1:])]
    if end == "time_maa_w2":
        return [(f"{block}time_mix_w2.weight", (shape[0], shape[2], shape[1]))]
    if end == "time_maa_w":
        return [(f"{block}time_mix_lerp_fused.weight", (5, 1, 1, shape[-1]))]
    if end[:9] == "time_maa_" and end[9:] in ("k", "v", "r", "g"):
        return []
    file = {"time_maa_x": "lerp_x", "time_maa_w1": "w1", "time_faaaa": "first"}.get(end, end[5:])
    turned = shape if end == "time_faaaa" else shape[-1:] if len(shape) == 3 else shape[::-1]
    return [(f"{block}time_mix_{file}.weight", turned)]


def of_rwkv(arch, block, name, shape, c):
    """[(name in the file, shape)] of a layer's tensor, ``name`` without the path to the layer."""
    stem, _, end = name.rpartition(".")
    wide = arch == "rwkv7" or (arch == "arwkv7" and c.get("wkv_has_gate", True))
    if c.get("lerp_fused") is False and re.fullmatch("time_maa_[wkvrg]", end) and stem == "attention":
        return [(f"{block}time_mix_lerp_{end[-1]}.weight", shape[-1:])]
    found = of_layer(block, stem, end, shape)
    return [(file, (5 + wide, *dims[1:]) if "lerp_fused" in file else dims) for file, dims in found]


def of_layer(block, stem, end, shape):
    """The same by the module and what it holds."""
    if stem in RWKV and end in ("weight", "bias"):
        return [(f"{block}{RWKV[stem]}.{end}", shape)]
    if end.startswith("time_"):
        return of_finch(block, stem, end, shape)
    pair = re.fullmatch(r"attn\.(\w)_lora\.lora\.(\d)", stem)
    if pair:
        at = 0 if end == "bias" else 1 + int(pair[2]) // 2
        return [(f"{block}time_mix_{pair[1]}{at}.weight", shape)]
    if end == "x_k" and stem == "ffn":
        return [(f"{block}channel_mix_lerp_k.weight", (1, 1, *shape))]
    if end[:2] == "x_":
        return [(f"{block}time_mix_lerp_fused.weight", (5, 1, 1, shape[-1]))] if end == "x_r" else []
    flat = shape[-1:] if len(shape) == 3 else (shape[0] * shape[1],) if end == "r_k" else shape
    return [(f"{block}time_mix_{end}.weight", flat if len(end) > 2 or end[1] == "0" else shape[::-1])]


def rwkv_metadata(name, arch, c):
    """The keys that the loader asks for."""
    m = next(x.mixer for x in ordered(arch))
    ranks = {k: int(v) for k, v in m.sizes.items() if not isinstance(v, str)}
    out = {
        "context_length": 1 << 20, "embedding_length": int(arch.hidden), "block_count": int(arch.num_layers),
        "feed_forward_length": int(arch.layers[0].mlp.width), "attention.head_count": 0, "vocab_size":
        int(arch.vocab), "attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": 1e-5,
        "wkv.head_size": ranks["head_dim"], "token_shift_count": int(m.conv_kernel),
    }  # fmt: skip
    if "rate" in ranks:
        out |= {"attention.decay_lora_rank": ranks["decay"], "attention.iclr_lora_rank": ranks["rate"],
                "attention.value_residual_mix_lora_rank": ranks["value"], "attention.gate_lora_rank":
                ranks["gate"]}  # fmt: skip
    else:
        out |= {"time_mix_extra_dim": ranks["mix"], "time_decay_extra_dim": ranks["decay"],
                "rescale_every_n_layers": arch.facts.get(RESCALED, 0)}  # fmt: skip
    if m.kind == "gated_linear":
        out["attention.head_count_kv"] = ranks["keys"]
    return out
