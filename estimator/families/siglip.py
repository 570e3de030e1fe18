"""SigLIP's vision tower, as a list of weights: a patch convolution, learned positions and pre-norm layers.

Source: transformers 5, models/siglip/modeling_siglip.py and configuration_siglip.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.config import Config
from estimator.families.base import Layer, Linear, Norm
from estimator.families.common import gqa, plain_mlp
from estimator.inventory import CONV, OTHER, Weight


def weights(c: Config, prefix: str) -> Iterator[Weight]:
    """The weights of a tower standing in module ``prefix``, from its ``vision_config``.

    Its own tables are no token or position embeddings of the language model: their role is OTHER.
    """
    d = c.size("hidden_size", 768)
    h = c.size("num_attention_heads", 12)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    d_ff, L = c.size("intermediate_size", 3072), c.size("num_hidden_layers", 12)
    patch, channels = c.size("patch_size", 16), c.size("num_channels", 3)
    positions = (c.size("image_size", 224) // patch) ** 2
    yield Weight(f"{prefix}.embeddings.patch_embedding.weight", (d, channels, patch, patch), 1, CONV)
    yield Weight(f"{prefix}.embeddings.patch_embedding.bias", (d,), 1, CONV)
    yield Weight(f"{prefix}.embeddings.position_embedding.weight", (positions, d), 1, OTHER)
    layer = f"{prefix}.encoder.layers.{{i}}"
    attention = gqa(
        f"{layer}.self_attn", d, h, h, d // h, bias=True, position="learned", causal=False,
        names=("q_proj", "k_proj", "v_proj", "out_proj"),
    )  # fmt: skip
    mlp = plain_mlp(f"{layer}.mlp", d, d_ff, c.text("hidden_act", "gelu_pytorch_tanh"))
    norms = (Norm(f"{layer}.layer_norm1", d, "layer", True), Norm(f"{layer}.layer_norm2", d, "layer", True))
    yield from Layer(L, attention, mlp, norms, ("input", "pre_mlp"), side="encoder").weights()
    yield from Norm(f"{prefix}.post_layernorm", d, "layer", True).weights()
    if c.flag("vision_use_head", True):
        yield from _pooling_head(f"{prefix}.head", d, d_ff)


def _pooling_head(head: str, d: int, d_ff: int) -> Iterator[Weight]:
    """Attention pooling by one learned query: a torch MultiheadAttention, a norm and an MLP."""
    yield Weight(f"{head}.probe", (1, 1, d), 1, OTHER)
    yield Weight(f"{head}.attention.in_proj_weight", (3 * d, d), 1, OTHER)
    yield Weight(f"{head}.attention.in_proj_bias", (3 * d,), 1, OTHER)
    yield from Linear(f"{head}.attention.out_proj", d, d, True).weights()
    yield from Norm(f"{head}.layernorm", d, "layer", True).weights()
    for linear in plain_mlp(f"{head}.mlp", d, d_ff, "").linears:
        yield from linear.weights()
