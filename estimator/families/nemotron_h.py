"""Nemotron-H and Nemotron 3: every layer is one block, a Mamba 2 mixer, an attention, an MLP or experts, after one
norm.

The experts are not gated and may work in a width of their own. Multi-token-prediction layers are not part of the
class. Source: transformers 5, models/nemotron_h/modeling_nemotron_h.py and configuration_nemotron_h.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import MAX_LAYERS, Config
from estimator.errors import InputError
from estimator.families.base import (
    EXPERT,
    HEAD,
    ROUTER,
    Architecture,
    Extra,
    Layer,
    Linear,
    Lookup,
    MoE,
    NoMixer,
    Norm,
)
from estimator.families.common import gqa, layer_groups, plain_mlp
from estimator.families.common_gguf import HEADS_BY_LAYER, Gguf
from estimator.families.common_moe import expert_sizes, optional_size
from estimator.families.common_ssm import chunked
from estimator.families.deepseek_v3 import correction_bias

AT = "model.layers.{i}.mixer"
SSM, FULL, DENSE, MOE = "linear_attention", "full_attention", "mlp", "moe"
LETTERS = {"M": SSM, "*": FULL, "-": DENSE, "E": MOE}
OLDER = {"mamba": SSM, "attention": FULL}
UP_DOWN = ("up_proj", "down_proj")
GGUF = {"nemotron_h": Gguf("nemotron_h", quantizer=(HEADS_BY_LAYER,))}


def kinds_of(c: Config) -> list[str]:
    """The block of every layer: ``layers_block_type``, or the letters of ``hybrid_override_pattern``."""
    given = c.items("layers_block_type|layer_types")
    letters = c.raw.get("hybrid_override_pattern")
    if given is None and isinstance(letters, str):
        given = [LETTERS.get(x, x) for x in letters]
    kinds = [OLDER.get(str(x), str(x)) for x in given or (SSM, MOE, FULL, DENSE)]
    wrong = [x for x in kinds if x not in LETTERS.values()]
    if wrong or not 0 < len(kinds) <= MAX_LAYERS:
        known = ", ".join(LETTERS.values())
        raise InputError(f"{c.where}: layers_block_type holds {(wrong or kinds)[:1]!r}; known: {known}")
    return kinds


def build(c: Config) -> Architecture:
    """Nemotron-H from its config; as many layers as it lists blocks. The class never ties its head."""
    d, V = c.size("hidden_size", 4096), c.size("vocab_size", 131072)
    kinds = kinds_of(c)
    norm = (Norm("model.layers.{i}.norm", d),)
    L = c.named("num_hidden_layers", len(kinds))
    layers = tuple(
        _layer(c, kind, d, norm)._replace(times=times, indices=at) for kind, times, at in layer_groups(kinds, L)
    )
    E = next((x.mlp.num for x in layers if isinstance(x.mlp, MoE)), 0)
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=(Lookup("model.embeddings", V, d),), layers=layers, final=(Norm("model.norm_f", d),),
        head=Linear("lm_head", d, V, role=HEAD), tied=False, vocab=V, hidden=d, num_layers=L,
        max_positions=c.plain("max_position_embeddings", 4096), buffers=correction_bias(layers, E, "mixer.gate"),
    )  # fmt: skip


def _layer(c: Config, kind: str, d: Any, norm: tuple[Norm, ...]) -> Layer:
    """One layer of a kind."""
    if kind == FULL:
        h, h_kv = c.size("num_attention_heads", 32), c.size("num_key_value_heads", 8)
        c.divides(h_kv, h, "num_key_value_heads", "num_attention_heads")
        d_h = c.size("head_dim|attention_head_dim", 128, letter="head_dim")
        attention = gqa(AT, d, h, h_kv, d_h, position="none")
        return Layer(1, attention, None, norm, ("input",))
    if kind == SSM:
        h = c.size("mamba_num_heads", 128, letter="num_attention_heads")
        mixer = chunked(
            AT, d, h, c.size("mamba_head_dim", 64, letter="head_dim"),
            c.size("ssm_state_size", 128, letter="state_size"),
            c.plain("mamba_n_groups|n_groups", 8, least=1), c.size("mamba_d_conv|conv_kernel", 4),
            c.plain("mamba_chunk_size|chunk_size", 128, least=1), c.text("mamba_hidden_act", "silu"),
            bias=c.flag("use_bias", False), conv_bias=c.flag("mamba_conv_bias|use_conv_bias", True),
        )  # fmt: skip
        return Layer(1, mixer, None, norm, ("input",))
    bias, act = c.flag("mlp_bias", False), c.text("mlp_hidden_act", "relu2")
    if kind == DENSE:
        mlp = plain_mlp(AT, d, c.size("intermediate_size", 21504), act, bias, UP_DOWN)
        return Layer(1, NoMixer(), mlp, norm, ("pre_mlp",), "feed")
    return Layer(1, NoMixer(), experts(c, d, act, bias), norm, ("pre_mlp",), "feed")


def experts(c: Config, d: Any, act: str, bias: bool) -> MoE:
    """The routed experts and the shared one; ``moe_latent_size``: the routed ones' own width."""
    E, k = expert_sizes(c, "n_routed_experts|num_local_experts", 8, 2)
    width, latent = c.size("moe_intermediate_size", 7688), optional_size(c, "moe_latent_size")
    inner = d if latent is None else latent
    beside = c.size("moe_shared_expert_intermediate_size", 7688, letter="shared_expert_intermediate_size")
    return MoE(
        experts=(
            Extra(f"{AT}.experts.up_proj", (E, width, inner), EXPERT),
            Extra(f"{AT}.experts.down_proj", (E, inner, width), EXPERT),
        ),
        router=(Linear(f"{AT}.gate", d, E, role=ROUTER),),
        num=E, per_token=k, width=width, d=inner, act=act, gated=False, routing="sigmoid_groups",
        shared=plain_mlp(f"{AT}.shared_experts", d, beside, act, bias, UP_DOWN),
        latent=() if latent is None else (
            Linear(f"{AT}.fc1_latent_proj", d, latent, bias), Linear(f"{AT}.fc2_latent_proj", latent, d, bias),
        ),
    )  # fmt: skip
