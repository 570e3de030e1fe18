"""InternLM 2: Llama's layer with q, k and v of a group of heads side by side in one matrix; names of its own.

Only remote code has the class. Source: InternLM/internlm2-chat-7b, modeling_internlm2.py.
"""

from __future__ import annotations

from estimator.config import Config
from estimator.families.base import HEAD, Architecture, Attention, Layer, Linear, Lookup, Norm
from estimator.families.common import decoder, gated_mlp, read_dims
from estimator.families.common_gguf import Gguf

LAYER = "model.layers.{i}"
GGUF = {"internlm2": Gguf("internlm2", split=True)}


def build(c: Config) -> Architecture:
    """InternLM 2 from its config."""
    D, bias = read_dims(c, 4096, 32, 11008, 103168, 32), c.flag("bias", True)
    attention = Attention(
        projections=(Linear(f"{LAYER}.attention.wqkv", D.d, (D.h + 2 * D.h_kv) * D.d_h, bias),),
        out=Linear(f"{LAYER}.attention.wo", D.h * D.d_h, D.d, bias),
        heads=D.h, kv_heads=D.h_kv, head_dim=D.d_h, rope_dim=D.d_h,
    )  # fmt: skip
    mlp = gated_mlp(f"{LAYER}.feed_forward", D.d, D.d_ff, c.text("hidden_act", "silu"), names=("w1", "w3", "w2"))
    norms = (Norm(f"{LAYER}.attention_norm", D.d), Norm(f"{LAYER}.ffn_norm", D.d))
    tied = c.flag("tie_word_embeddings", False)
    made = decoder(
        c, (Lookup("model.tok_embeddings", D.V, D.d),), (Layer(D.L, attention, mlp, norms, ("input", "pre_mlp")),),
        (Norm("model.norm", D.d),), V=D.V, d=D.d, L=D.L, tied=tied,
        positions=c.plain("max_position_embeddings", 2048), head_name="output",
    )  # fmt: skip
    return made if tied else made._replace(head=Linear("output", D.d, D.V, role=HEAD))
