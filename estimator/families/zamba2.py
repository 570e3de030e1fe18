"""Zamba 2: Mamba 2's mixer in every layer; before some of them a transformer block reads the stream beside the
embeddings, its weights shared by every ``num_mem_blocks``-th of these layers, each with a low rank of its own.

Source: transformers 5.24, models/zamba2/modeling_zamba2.py and configuration_zamba2.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Layer, Linear, Norm
from estimator.families.common import gated_mlp, gqa, layer_count
from estimator.families.common_moe import decoder, layer_types
from estimator.families.common_ssm import chunked
from estimator.families.feeds import Ahead
from estimator.families.recorded import WAY_OUT

LAYER = "model.layers.{i}"
LINEAR, HYBRID = "linear_attention", "hybrid"
OLDER = {"mamba": LINEAR, "m": LINEAR, "g": HYBRID}  # spellings of older files
DEFAULT = [LINEAR] + ([LINEAR] * 5 + [HYBRID]) * 7 + [LINEAR] * 4 + [HYBRID] + [LINEAR] * 3 + [HYBRID] + [LINEAR] * 2


def build(c: Config) -> Architecture:
    """Zamba 2 from its config."""
    if not c.flag("tie_word_embeddings", True):
        raise InputError(f"{c.where}: tie_word_embeddings=false: transformers 5.24 unties the shared blocks with it; "
                         f"{WAY_OUT}")  # fmt: skip
    d, L = c.size("hidden_size", 2560), c.size("num_hidden_layers", 54)
    kinds = _kinds(c, L)
    hybrid = [i for i, kind in enumerate(kinds) if kind == HYBRID]
    plain = [i for i, kind in enumerate(kinds) if kind != HYBRID]
    blocks = c.plain("num_mem_blocks", 1, least=1)
    layers = [_layer(c, d, LAYER, plain, None)] if plain else []
    for block in range(min(blocks, len(hybrid))):
        at = hybrid[block::blocks]
        ahead = _ahead(c, d, at[0], tuple(range(block, len(hybrid), blocks)))
        layers.append(_layer(c, d, f"{LAYER}.mamba_decoder", at, ahead))
    return decoder(c, tuple(layers), d, L, 32000, 4096, tied=True, norm=Norm("model.final_layernorm", d))


def _kinds(c: Config, L: Any) -> list[str]:
    name = "layers_block_type" if c.raw.get("layers_block_type") is not None else "layer_types"
    given = [OLDER.get(x, x) if isinstance(x, str) else x for x in c.items(name) or ()]
    raw, n = Config({"layer_types": given or None}, where=c.where), layer_count(c, L)
    return layer_types(raw, L, (LINEAR, HYBRID), lambda i: DEFAULT[i] if n <= len(DEFAULT) else LINEAR)


def _layer(c: Config, d: Any, at: str, where: list[int], ahead: Ahead | None) -> Layer:
    h, inner = c.size("n_mamba_heads", 8, letter="num_attention_heads"), c.plain("mamba_expand", 2, least=1) * d
    c.divides(h, inner, "n_mamba_heads", "mamba_expand * hidden_size")
    mixer = chunked(
        f"{at}.mamba", d, h, inner // h, c.size("mamba_d_state", 64, letter="state_size"),
        c.plain("mamba_ngroups", 1, least=1), c.size("mamba_d_conv", 4), c.plain("chunk_size", 256, least=1), "silu",
        bias=c.flag("add_bias_linear", False), conv_bias=True,
    )  # fmt: skip
    norm = Norm(f"{at}.input_layernorm", d)
    return Layer(len(where), mixer, None, (norm,), ("input",), wiring="mixer", indices=tuple(where), ahead=ahead)


def _ahead(c: Config, d: Any, first: int, ordinals: tuple[int, ...]) -> Ahead:
    """The shared block, whose weights stand in layer ``first``; ``ordinals``: which of the hybrid layers share it."""
    at, h = f"model.layers.{first}.shared_transformer", c.size("num_attention_heads", 32)
    c.divides(h, 2 * d, "num_attention_heads", "2 * hidden_size")
    d_h, kv = 2 * d // h, c.size("num_key_value_heads", h)
    position = "rope" if c.flag("use_mem_rope", False) else "none"
    attention = gqa(f"{at}.self_attn", 2 * d, h, kv, d_h, position=position)
    attention = attention._replace(out=Linear(f"{at}.self_attn.o_proj", h * d_h, d))
    d_ff, rank = c.size("intermediate_size", 4 * d), c.size("adapter_rank", 128)
    feed = f"{at}.feed_forward"
    mlp = gated_mlp(
        feed, d, d_ff, c.text("hidden_act", "gelu"), c.flag("add_bias_linear", False), ("gate_up_proj", "down_proj")
    )
    own = [(f"{at}.self_attn.linear_{x}_adapter_list", 2 * d, 2 * d) for x in "qkv"]
    own = own if c.flag("use_shared_attention_adapter", False) else []
    pairs = tuple(
        (Linear(f"{name}.{{i}}.0", d_in, rank), Linear(f"{name}.{{i}}.1", rank, d_out))
        for name, d_in, d_out in (*own, (f"{feed}.gate_up_proj_adapter_list", d, 2 * d_ff))
    )
    norms = Norm(f"{at}.input_layernorm", 2 * d), Norm(f"{at}.pre_ff_layernorm", d)
    return Ahead(attention, mlp, norms, Linear(f"{LAYER}.linear", d, d), pairs, ordinals)
