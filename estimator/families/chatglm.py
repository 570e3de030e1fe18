"""ChatGLM 2 and 3, GLM-4-9B of the remote code: one matrix for q, k and v with few key/value groups, gate and up in
one matrix, half of each head turned in pairs.

ChatGLM-6B, the first, is another model: LayerNorms, biases, no gate, each half of a head turned by a position of its
own, scores written out; its jitted GELU counts as one kernel. Its modeling file adds a branch to what went into it, not
to the stream before the norm; both are kept for the gradients. Source: zai-org/chatglm-6b, chatglm3-6b and glm-4-9b,
modeling_chatglm.py and configuration_chatglm.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import HEAD, Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, plain_mlp

TOP = "transformer"
MLP_NAMES = ("dense_h_to_4h", "dense_4h_to_h")
FACTS = {"class": "ForConditionalGeneration"}  # published configs name ChatGLMModel, which holds the head
LAYER = f"{TOP}.encoder.layers.{{i}}"


def build(c: Config) -> Architecture:
    """ChatGLM from its config."""
    if c.raw.get("inner_hidden_size") is not None or c.raw.get("position_encoding_2d") is not None:
        return first(c)
    if not c.flag("rmsnorm", True) or c.flag("apply_residual_connection_post_layernorm", False):
        raise InputError(f"{c.where}: only layers with RMSNorm before their branches are described")
    d, h = c.size("hidden_size", 4096), c.size("num_attention_heads", 32)
    d_h, L = c.size("kv_channels", 128, letter="head_dim"), c.size("num_layers|num_hidden_layers", 28)
    grouped = c.flag("multi_query_attention", False)
    h_kv = c.size("multi_query_group_num", 1, letter="num_key_value_heads") if grouped else h
    V = c.size("padded_vocab_size|vocab_size", 65024, letter="vocab_size")
    every, attn = c.flag("add_bias_linear", False), f"{LAYER}.self_attention"
    attention = Attention(
        projections=(
            Linear(f"{attn}.query_key_value", d, (h + 2 * h_kv) * d_h, every or c.flag("add_qkv_bias", False)),
        ),
        out=Linear(f"{attn}.dense", h * d_h, d, every),
        heads=h, kv_heads=h_kv, head_dim=d_h, rope_dim=d_h // 2, rope_style="interleaved", rotary="joined",
    )  # fmt: skip
    d_ff = c.size("ffn_hidden_size", 13696, letter="intermediate_size")
    mlp = gated_mlp(f"{LAYER}.mlp", d, d_ff, "silu", every, MLP_NAMES)
    norms = (Norm(f"{LAYER}.input_layernorm", d), Norm(f"{LAYER}.post_attention_layernorm", d))
    last = (Norm(f"{TOP}.encoder.final_layernorm", d),) if c.flag("post_layer_norm", True) else ()
    made = decoder(
        c, (Lookup(f"{TOP}.embedding.word_embeddings", V, d),),
        (Layer(L, attention, mlp, norms, ("input", "pre_mlp")),), last, V=V, d=d, L=L, tied=False,
        positions=c.plain("seq_length", 2048), head_name=f"{TOP}.output_layer",
        facts=FACTS,
    )  # fmt: skip
    return made._replace(head=Linear(f"{TOP}.output_layer", d, V, role=HEAD))


def first(c: Config) -> Architecture:
    """ChatGLM-6B."""
    if c.raw.get("pre_seq_len"):
        c.notes.append("pre_seq_len: the trained prefix of P-tuning is not counted")
    d, h = c.size("hidden_size", 4096), c.size("num_attention_heads", 32)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    L, d_h, layer = c.size("num_layers|num_hidden_layers", 28), d // h, f"{TOP}.layers.{{i}}"
    V, d_ff = c.size("vocab_size", 150528), c.size("inner_hidden_size", 16384, letter="intermediate_size")
    attention = Attention(
        projections=(Linear(f"{layer}.attention.query_key_value", d, 3 * d, True),),
        out=Linear(f"{layer}.attention.dense", d, d, True),
        heads=h, kv_heads=h, head_dim=d_h, rope_dim=d_h, rotary="joined", taken="heads", sdpa=False,
    )  # fmt: skip
    mlp = plain_mlp(f"{layer}.mlp", d, d_ff, "gelu", names=MLP_NAMES)
    norms = tuple(Norm(f"{layer}.{n}", d, "layer", True) for n in ("input_layernorm", "post_attention_layernorm"))
    return decoder(
        c, (Lookup(f"{TOP}.word_embeddings", V, d),),
        (Layer(L, attention, mlp, norms, ("input", "pre_mlp"), residual_scale=True),),
        (Norm(f"{TOP}.final_layernorm", d, "layer", True),), V=V, d=d, L=L, tied=False,
        positions=c.plain("max_sequence_length", 2048), facts=FACTS,
    )  # fmt: skip
