"""GLM-5.3-Flash: Kimi's delta rule in three of four layers, in the fourth latent attention without positions whose
indexer scores pools of keys; hyper-connections around every block, experts, and GLM-OCR's tower.

Source: transformers 5.24, models/glm5_next/modeling_glm5_next.py and configuration_glm5_next.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families import glm_ocr
from estimator.families.base import MLP, Architecture, Attention, Extra, Indexer, Layer, Linear, MoE, Norm, StateSpace
from estimator.families.common import FULL, gated_mlp, layer_count, layer_groups
from estimator.families.common_dense import ATTN, LAYER
from estimator.families.common_moe import DENSE, MOE, decoder, expert_sizes, layer_types, mlp_types, pre_norms, routed
from estimator.families.common_parts import Streams
from estimator.families.common_tower import alone, either_tied, part, wrapped
from estimator.families.deepseek_v2 import latent_attention
from estimator.families.deepseek_v3 import correction_bias, indexers
from estimator.families.deepseek_v4 import connections
from estimator.families.kimi_linear import LINEAR, delta_rule

TEXT, VISION = "glm5_next_text", "glm5_next_vision"
INDEXED, SHARED = "indexed_attention", "shared"
DENSE_FIRST, PERIOD = 3, 4


def build(c: Config) -> Architecture:
    """The whole model, its text or its tower alone; a file without ``text_config`` has the text's fields on top."""
    kind = c.text("model_type", "")
    if kind == VISION:
        made = glm_ocr.tower(c, "", inner=merger(c))
        return alone(c, made._replace(final=(*made.final, *made.bridge)))
    if kind == TEXT:
        return text_of(c)
    flat = {k: v for k, v in c.raw.items() if k not in ("model_type", "vision_config", "architectures")}
    text, vision = part(c, "text_config", TEXT, flat), part(c, "vision_config", VISION)
    tied = either_tied(c, text, False)
    text = Config({**text.raw, "tie_word_embeddings": tied}, c.traced, text.where)
    made_text = text_of(text)
    c.heed(text)
    return wrapped(c, made_text, (glm_ocr.tower(vision, "model.visual", inner=merger(vision)),))


def merger(c: Config) -> int:
    """Inner width of the merger's MLP."""
    return c.plain("projection_intermediate_size", 10240, least=1)


def text_of(c: Config) -> Architecture:
    """The text model."""
    d, h = c.size("hidden_size", 4096), c.size("num_attention_heads", 64)
    L, act, n = c.size("num_hidden_layers", 45), c.text("hidden_act", "silu"), c.size("hc_mult", 4)
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 288, 8)
    width, at = c.size("moe_intermediate_size", 2048), f"{LAYER}.mlp"
    beside = gated_mlp(f"{at}.shared_experts", d, c.plain("n_shared_experts", 1, least=1) * width, act)
    mlps: dict[str, MLP | MoE] = {
        MOE: routed(
            at, d, width, E, k, act, routing="sigmoid_groups", shared=beside._replace(clamped=True), clamped=True
        ),
        DENSE: gated_mlp(at, d, c.size("intermediate_size", 12288), act)._replace(clamped=True),
    }
    full = latent_attention(c, d, h, "none", (1536, 512, 256, 0, 256), position="none")
    mixers: dict[str, Attention | StateSpace] = {
        LINEAR: delta_rule(c, d, act, bounded=True), INDEXED: full._replace(indexer=_indexer(c, d)), SHARED: full
    }  # fmt: skip
    types = [INDEXED if x == FULL else x for x in layer_types(c, L, (LINEAR, INDEXED, FULL), _default)]
    reuses = indexers(c, L)
    kinds = [SHARED if x == INDEXED and i in reuses else x for i, x in enumerate(types)]
    sparse = mlp_types(c, L, lambda i: DENSE if i < DENSE_FIRST else MOE)
    both = connections(n, d, c.plain("hc_sinkhorn_iters", 20, least=1))
    stack = [(kinds[i], sparse(i)) for i in range(layer_count(c, L))]
    layers = tuple(
        Layer(times, mixers[kind], mlps[mlp], *pre_norms(LAYER, d), wiring="streams", streams=both, indices=where)
        for (kind, mlp), times, where in layer_groups(stack, L, c.traced)
    )
    made = decoder(
        c, layers, d, L, 154880, 1048576, buffers=correction_bias(layers, E), facts={"streams": n}
    )  # fmt: skip
    return made._replace(final=(Streams((), n, d), Norm("model.norm", d)), model_type=TEXT)


def _default(i: int) -> str:
    return INDEXED if i % PERIOD == PERIOD - 1 else LINEAR


def _indexer(c: Config, d: Any) -> Indexer:
    heads, width, pool = c.size("index_n_heads", 32), c.size("index_head_dim", 128), c.plain("index_kpool", 16, least=1)
    at = f"{ATTN}.indexer"
    return Indexer(
        Linear(f"{at}.wq_b", c.size("q_lora_rank", 1536), heads * width), Linear(f"{at}.wk", d, width),
        Norm(f"{at}.k_norm", width, "layer", True), Linear(f"{at}.weights_proj", d, heads), heads, width, pool=pool,
        pooling=(
            Extra(f"{at}.index_kpool_compress_ape", (pool, width)),
            Extra(f"{at}.index_kpool_compress_gate", (width, d)),
        ),
    )  # fmt: skip
