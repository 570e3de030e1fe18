"""DeepSeek-V3 and Kimi K2, DeepSeek-V3.2 and GLM-5, GLM-4.7-Flash, Mistral 4: DeepSeek-V2's layers; the router's
correction bias is a buffer. Multi-token-prediction layers are not part of the built class.

Source: transformers 5, models/deepseek_v3, deepseek_v32, glm_moe_dsa, glm4_moe_lite and mistral4, modeling_*.py and
configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Indexer, Layer, Linear, MoE, Norm, Weight
from estimator.families.common import layer_count
from estimator.families.common_gguf import Gguf, Router, said_of_experts
from estimator.families.common_moe import DENSE, MOE, decoder, expert_sizes, mlp_types
from estimator.families.deepseek_v2 import LAYER, latent_attention, layers_of

_GGUF = Gguf("deepseek2", router=Router("sigmoid", normed=False, corrected=True))
GGUF = {
    "deepseek_v3": _GGUF, "kimi_k2": _GGUF, "glm4_moe_lite": _GGUF,
    "mistral4": Gguf("mistral4", router=Router(joined=True)), "deepseek_v32": _GGUF._replace(name="deepseek32"),
    "glm_moe_dsa": _GGUF._replace(name="glm-dsa"),
}  # fmt: skip


def correction_bias(layers: tuple[Layer, ...], E: Any, module: str = "mlp.gate") -> tuple[Weight, ...]:
    """The routers' ``e_score_correction_bias``: one number an expert, a persistent buffer, not a parameter."""
    name = f"model.layers.{{i}}.{module}.e_score_correction_bias"
    return tuple(Weight(name, (E,), x.times, layers=x.indices) for x in layers if isinstance(x.mlp, MoE))


def build(c: Config) -> Architecture:
    """One of them from its config."""
    kind = c.text("model_type", "")
    if kind in ("deepseek_v32", "glm_moe_dsa"):
        return sparse(c, kind == "glm_moe_dsa")
    if kind in ("glm4_moe_lite", "mistral4"):
        return smaller(c, kind == "mistral4")
    d, h = c.size("hidden_size", 7168), c.size("num_attention_heads", 128)
    L = c.size("num_hidden_layers", 61)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 256, 8)
    style = "interleaved" if c.flag("rope_interleave", True) else "half"
    attention = latent_attention(c, d, h, style)
    groups = (c.plain("n_group", 8, least=1), c.plain("topk_group", 4, least=1))
    layers = layers_of(
        c, d, L, E, k, attention, False, "sigmoid_groups", d_ff=18432, d_moe=2048, shared=1, first=3, groups=groups
    )  # fmt: skip
    facts = said_of_experts(c) | {"expert_groups": groups}
    return decoder(c, layers, d, L, 129280, 4096, buffers=correction_bias(layers, E), facts=facts)


def sparse(c: Config, glm: bool) -> Architecture:
    """DeepSeek-V3.2 and GLM-5: an indexer chooses the tokens that a query looks at; GLM-5's layers may share one."""
    d, h = (c.size(n, x[glm]) for n, x in (("hidden_size", (7168, 6144)), ("num_attention_heads", (128, 64))))
    L = c.size("num_hidden_layers", 78 if glm else 61)
    E, k = expert_sizes(c, "num_experts|n_routed_experts|num_local_experts", 256, 8)
    sizes = (2048, 512, 192, 64, 256) if glm else (1536, 512, 128, 64, 128)
    attention = latent_attention(c, d, h, "interleaved", sizes)
    heads, width = c.size("index_n_heads", 32 if glm else 64), c.size("index_head_dim", 128)
    at, rank = f"{LAYER}.self_attn.indexer", attention.projections[0].d_out
    own = attention._replace(
        indexer=Indexer(
            Linear(f"{at}.wq_b", rank, heads * width), Linear(f"{at}.wk", d, width),
            Norm(f"{at}.k_norm", width, "layer", True), Linear(f"{at}.weights_proj", d, heads), heads, width,
            top=c.plain("index_topk", 2048, least=1),
        )
    )  # fmt: skip
    first = c.plain("first_k_dense_replace", 3)
    kinds, shared = mlp_types(c, L, lambda i: MOE if i >= first else DENSE), indexers(c, L) if glm else None
    layers = layers_of(
        c, d, L, E, k, own, False, "sigmoid_groups", d_ff=12288 if glm else 18432, d_moe=2048,
        shared=1, first=first, sparse=kinds, other=None if shared is None else (attention, shared),
    )  # fmt: skip
    V, positions = (154880, 202752) if glm else (129280, 163840)
    groups = (c.plain("n_group", 1, least=1), c.plain("topk_group", 1, least=1))  # as the file says, or one
    facts = said_of_experts(c) | {"expert_groups": groups}
    return decoder(c, layers, d, L, V, positions, buffers=correction_bias(layers, E), facts=facts)


def indexers(c: Config, L: Any) -> frozenset[int]:
    """GLM-5's layers that reuse an earlier layer's choice: ``indexer_types``, a pattern of letters, or a period."""
    n = layer_count(c, L)
    given = c.raw.get("indexer_types") or c.raw.get("index_topk_pattern")
    if given is not None:
        known = ("full", "shared", "F", "S")
        if not isinstance(given, list | str) or len(given) != n or any(x not in known for x in given):
            raise InputError(f"{c.where}: indexer_types must name 'full' or 'shared' for each of the {n} layers")
        return frozenset(i for i, x in enumerate(given) if x in ("shared", "S"))
    every, offset = c.plain("index_topk_freq", 1, least=1), c.plain("index_skip_topk_offset", 2)
    return frozenset(i for i in range(n) if max(i - offset + 1, 0) % every)


def smaller(c: Config, mistral: bool) -> Architecture:
    """GLM-4.7-Flash, or Mistral 4, whose router takes a softmax and whose queries are scaled by their position."""
    d, h = (c.size(n, x[mistral]) for n, x in (("hidden_size", (2048, 4096)), ("num_attention_heads", (20, 32))))
    L = c.size("num_hidden_layers", 36 if mistral else 47)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 128 if mistral else 64, 4)
    style = "interleaved" if c.flag("rope_interleave", True) else "half"
    sizes = (1024, 256, 64, 64, 128) if mistral else (768, 512, 192, 64, 256)
    attention = latent_attention(c, d, h, style, sizes, query_scale="rotated" if mistral else "")
    sparse = None if mistral else mlp_types(c, L, lambda i: MOE if i else DENSE)
    d_ff, d_moe = (12288, 2048) if mistral else (10240, 1536)
    routing = "softmax" if mistral else "sigmoid_groups"
    layers = layers_of(
        c, d, L, E, k, attention, False, routing, d_ff=d_ff, d_moe=d_moe, shared=1, first=0, sparse=sparse
    )
    V, positions = (131072, 1048576) if mistral else (154880, 202752)
    buffers, facts = ((), {}) if mistral else (correction_bias(layers, E), said_of_experts(c))
    return decoder(c, layers, d, L, V, positions, buffers=buffers, facts=facts)
