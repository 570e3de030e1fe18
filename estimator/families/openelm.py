"""OpenELM: every layer has heads and an MLP of its own size; q, k and v are one matrix, gate and up another.

Its class is remote code. Source: apple/corenet, projects/openelm; configs as the repositories on the hub hold them;
elements as the published files hold them.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, layer_count
from estimator.families.common_moe import pattern

LAYER = "transformer.layers.{i}"
ACTIVATIONS = {"swish": "silu"}


def build(c: Config) -> Architecture:
    """OpenELM from its config."""
    if not c.flag("ffn_with_glu", True):
        raise InputError(f"{c.where}: ffn_with_glu must be true, as every published OpenELM has it")
    d = c.size("model_dim", 2048, letter="hidden_size")
    L = c.size("num_transformer_layers", 12, letter="num_hidden_layers")
    d_h, V = c.size("head_dim", 128), c.size("vocab_size", 32000)
    heads, shared = (_numbers(c, name, L) for name in ("num_query_heads", "num_kv_heads"))
    wide = _widths(c, d, L)
    normed = c.flag("normalize_qk_projections", True)
    act = c.text("activation_fn_name", "swish")

    def attention(h: int, h_kv: int) -> Attention:
        at = f"{LAYER}.attn"
        if h_kv < 1 or h % h_kv:
            raise InputError(f"{c.where}: num_query_heads={h} is not a multiple of num_kv_heads={h_kv}")
        return Attention(
            projections=(Linear(f"{at}.qkv_proj", d, (h + 2 * h_kv) * d_h),), out=Linear(f"{at}.out_proj", h * d_h, d),
            heads=h, kv_heads=h_kv, head_dim=d_h, rope_dim=d_h, taken="heads", normed="transposed",
            norms=tuple(Norm(f"{at}.{n}_norm", d_h) for n in "qk") if normed else (),
        )  # fmt: skip

    layers = pattern(
        c, L,
        lambda i: (f"{heads[i]} of {shared[i]}", str(wide[i])),
        lambda kind: Layer(
            1, attention(*(int(x) for x in kind[0].split(" of "))),
            gated_mlp(f"{LAYER}.ffn", d, int(kind[1]), ACTIVATIONS.get(act, act), names=("proj_1", "proj_2")),
            (Norm(f"{LAYER}.attn_norm", d), Norm(f"{LAYER}.ffn_norm", d)), ("input", "pre_mlp"),
        ),
    )  # fmt: skip
    return decoder(
        c, (Lookup("transformer.token_embeddings", V, d),), layers, (Norm("transformer.norm", d),), V=V, d=d, L=L,
        tied=c.flag("share_input_output_layers", True), positions=c.plain("max_context_length", 2048),
    )  # fmt: skip


def _numbers(c: Config, name: str, L: Any) -> list[int]:
    """A whole number for every layer."""
    found = c.items(name, layer_count(c, L))
    if found is None or any(type(x) is not int or not 0 < x < 10**6 for x in found):
        raise InputError(f"{c.where}: {name} must list a whole number for each layer, got {str(found)[:40]!r}")
    return found


def _widths(c: Config, d: Any, L: Any) -> list[int]:
    """Of each MLP: its multiple of the model's width, rounded to a multiple of ffn_dim_divisor."""
    divisor, given = c.plain("ffn_dim_divisor", 256, least=1), c.items("ffn_multipliers", layer_count(c, L))
    if given is None or any(isinstance(x, bool) or not isinstance(x, int | float) or not 0 < x < 1000 for x in given):
        raise InputError(f"{c.where}: ffn_multipliers must list a number for each layer, got {str(given)[:40]!r}")
    out = []
    for asked in (x * int(d) for x in given):
        made = max(divisor, int(asked + divisor / 2) // divisor * divisor)
        out.append(made if made >= 0.9 * asked else made + divisor)
    return out
