"""OLMo 1 to 3 and FlexOlmo. OLMo 1: Llama's layer with LayerNorms that have no weights. OLMo 2: RMSNorms over q and k
as a whole, and after the attention and the MLP, on the branch, with none before them. OLMo 3: three windowed layers to
a full one. FlexOlmo: OLMo 2 with experts.

Source: transformers 5, models/olmo, olmo2, olmo3 and flex_olmo, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import MLP, Architecture, Attention, Layer, Lookup, MoE, Norm
from estimator.families.common import FULL, decoder, every, gated_mlp, gqa, read_dims
from estimator.families.common_dense import ATTN, LAYER, POST, PRE, dense, sliding
from estimator.families.common_gguf import Gguf
from estimator.families.common_moe import expert_sizes, routed

PERIOD = 4  # OLMo 3: the last of every four layers sees all tokens


GGUF = {"olmo": Gguf("olmo"), "olmo2": Gguf("olmo2"), "olmo3": Gguf("olmo2", windows=True)}


def build(c: Config) -> Architecture:
    """An OLMo from its config."""
    kind = c.text("model_type", "")
    return first(c) if kind == "olmo" else later(c, kind == "olmo3", kind == "flex_olmo")


def first(c: Config) -> Architecture:
    """OLMo 1."""
    D = read_dims(c, 4096, 32, 11008, 50304, 32)
    norms = tuple(Norm(f"{LAYER}.{n}", D.d, "none", affine=False) for n in PRE.names)
    attention = gqa(ATTN, D.d, D.h, D.h_kv, D.d_h, bias=c.flag("attention_bias", False), rotary="promoted")
    mlp = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, c.text("hidden_act", "silu"))
    return decoder(
        c, (Lookup("model.embed_tokens", D.V, D.d),), (Layer(D.L, attention, mlp, norms, PRE.roles),),
        (Norm("model.norm", D.d, "none", affine=False),),
        V=D.V, d=D.d, L=D.L, tied=c.flag("tie_word_embeddings", False),
        positions=c.plain("max_position_embeddings", 2048),
        facts={"clip_qkv": c.raw.get("clip_qkv") is not None},
    )  # fmt: skip


def later(c: Config, windows: bool, experts: bool) -> Architecture:
    """OLMo 2, with windows OLMo 3, with experts FlexOlmo."""
    D = read_dims(c, 4096, 32, 11008, 100352 if experts else 50304, 32)
    widths = (("q", D.h * D.d_h), ("k", D.h_kv * D.d_h))
    norms = tuple(Norm(f"{ATTN}.{n}_norm", width, "rms_late") for n, width in widths)
    bias, act = c.flag("attention_bias", False), c.text("hidden_act", "silu")
    mlp: MLP | MoE = gated_mlp(f"{LAYER}.mlp", D.d, D.d_ff, act)
    if experts:
        E, k = expert_sizes(c, "num_experts|num_local_experts", 7, 5)
        mlp = routed(f"{LAYER}.mlp", D.d, D.d_ff, E, k, act, normed=c.flag("norm_topk_prob", False))
    kinds, window = sliding(c, D.L, 4096, every(PERIOD)) if windows else ([FULL], lambda kind: None)

    def attention(kind: str) -> Attention:
        return gqa(
            ATTN, D.d, D.h, D.h_kv, D.d_h, bias=bias, norms=norms, rotary="promoted", window=window(kind)
        )

    return dense(
        c, D, attention, mlp, kinds=kinds, frame=POST, norm="rms_late", positions=4096 if experts else 2048,
        facts={} if experts or windows else {"clip_qkv": False},
    )  # fmt: skip
