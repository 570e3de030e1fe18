"""Llama, SmolLM3, EXAONE 3, InternLM 1 and 3: RMSNorm, rotary grouped-query attention, a gated MLP.

SmolLM3 leaves every fourth layer without rotary embedding, and may window those layers.
transformers builds EXAONE 3 and InternLM 3 as Llamas, whose own fields it maps. Source: transformers 5, models/llama,
smollm3, exaone and internlm3, modeling_*.py and configuration_*.py; of the first InternLM internlm/internlm-7b.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Classes, Layer, Lookup, Norm
from estimator.families.common import (
    FULL,
    SLIDING,
    Dims,
    decoder,
    gated_mlp,
    gqa,
    layer_count,
    layer_groups,
    layer_kinds,
    read_dims,
    window_size,
)
from estimator.families.common_gguf import SEVENTY_GROUPED, Gguf

LAYER = "model.layers.{i}"
POSITIONS = {"smollm3": 32768, "exaone": 4096, "internlm": 2048, "internlm3": 32768}  # the classes' defaults


_GGUF = Gguf("llama", quantizer=(SEVENTY_GROUPED,))
GGUF = {"llama": _GGUF, "internlm3": _GGUF, "exaone": Gguf("exaone"), "smollm3": Gguf("smollm3")}


def build(c: Config) -> Architecture:
    """A Llama-like decoder from its config."""
    kind = c.text("model_type", "")
    smol, positions = kind == "smollm3", POSITIONS.get(kind, 2048)
    D = _dims(c, kind)
    a_bias, m_bias = c.flag("attention_bias|qkv_bias", False), c.flag("mlp_bias|bias", False)
    if kind == "internlm":  # the first InternLM: biases of the attention alone
        a_bias, m_bias = c.flag("bias", True), False
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act|activation_function", "silu"), m_bias)
    norms = (Norm(f"{LAYER}.input_layernorm", D.d), Norm(f"{LAYER}.post_attention_layernorm", D.d))
    window = window_size(c, None) if smol and c.flag("use_sliding_window", False) else None
    layers = []
    for (kind, rope), times, at in layer_groups(_kinds(c, D, window) if smol else [(FULL, True)], D.L, c.traced):
        attention = gqa(
            f"{LAYER}.self_attn", D.d, D.h, D.h_kv, D.d_h, bias=a_bias,
            window=window if kind == SLIDING else None, position="rope" if rope else "none",
        )  # fmt: skip
        layers.append(Layer(times, attention, mlp, norms, ("input", "pre_mlp"), indices=at))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), layers, (Norm("model.norm", D.d),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", smol),
        positions=c.plain("max_position_embeddings", positions), classes=Classes(bare="transformer"),
    )  # fmt: skip


def _dims(c: Config, kind: str) -> Dims:
    """The sizes, with the defaults of the class."""
    if kind == "smollm3":
        return read_dims(c, 2048, 16, 11008, 128256, 36, h_kv=4)
    if kind == "exaone":
        return read_dims(c, 4096, 32, 14336, 102400, 32, h_kv=8)
    if kind == "internlm":
        return read_dims(c, 4096, 32, 11008, 103168, 32)
    if kind == "internlm3":
        return read_dims(c, 4096, 32, 10240, 128512, 48, h_kv=2, d_h=128)
    return read_dims(c, 4096, 32, 11008, 32000, 32)


def _kinds(c: Config, D: Dims, window: object) -> list[tuple[str, bool]]:
    """SmolLM3: (attention, with rotary embedding) of every layer."""
    n, period = layer_count(c, D.L), c.plain("no_rope_layer_interval", 4, least=1)
    given = c.items("no_rope_layers")
    if given is not None and (len(given) < n or any(x not in (0, 1) for x in given)):
        raise InputError(f"{c.where}: no_rope_layers must be a list of {n} zeros and ones")
    rope = [bool(x) for x in given[:n]] if given is not None else [(i + 1) % period != 0 for i in range(n)]
    kinds = layer_kinds(c, D.L, lambda i: FULL if rope[i] or window is None else SLIDING)
    return [(FULL if window is None else kind, r) for kind, r in zip(kinds, rope, strict=True)]
