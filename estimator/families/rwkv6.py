"""RWKV 6 (Finch) and QRWKV 6, which puts its time mixing in the place of Qwen 2.5's attention.

How far a token is mixed with the one before, and how fast the state decays, depends on both tokens. Both classes come
with their checkpoints and compute in kernels of their own, which are not described: their weights are, and what
llama.cpp makes of them. Source: llama.cpp build 11434, conversion/rwkv.py and gguf-py/gguf/tensor_mapping.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import HEAD, MLP, Architecture, Extra, Layer, Linear, Lookup, Norm, StateSpace
from estimator.families.common import decoder, gated_mlp
from estimator.families.common_gguf import PLAIN_MLP, RESCALED, Gguf
from estimator.headers.gguf_meta import Meta

OTHERS = ("expand_k", "proj_low_rank_dim")  # fields of flash-linear-attention's RWKV6ForCausalLM, which is another
WIDE = 4096  # hidden_size from which on the thin matrices are twice as wide
MIX, DECAY = 32, 64
READINGS = "wkvrg"
FUSED = "lerp_fused"  # files of llama.cpp hold what mixes the five readings in one tensor, those of 2024 in five
QWEN = "rwkv6qwen2"


def read(m: Meta) -> dict[str, Any]:
    """The config of a file of architecture ``rwkv6``."""
    return _read(m) | {
        "model_type": "rwkv6", "head_size": m.size("wkv.head_size"),
        "rescale_every": m.size("rescale_every_n_layers", 0, least=0),
        "time_mix_extra_dim": m.size("time_mix_extra_dim"), "time_decay_extra_dim": m.size("time_decay_extra_dim"),
        FUSED: m.has(".time_mix_lerp_fused.weight", unknown=True),
    }  # fmt: skip


def read_qwen(m: Meta) -> dict[str, Any]:
    """The config of a file of architecture ``rwkv6qwen2``."""
    heads = m.size("embedding_length") // m.size("wkv.head_size")
    return _read(m) | {
        "model_type": QWEN, "num_attention_heads": heads,
        "num_key_value_heads": m.size("attention.head_count_kv", heads, least=0) or heads,
        "lora_rank_tokenshift": m.size("time_mix_extra_dim"), "lora_rank_decay": m.size("time_decay_extra_dim"),
        "attention_bias": m.has(".time_mix_key.bias", unknown=True),
    }  # fmt: skip


def _read(m: Meta) -> dict[str, Any]:
    return {
        "hidden_size": m.size("embedding_length"), "num_hidden_layers": m.size("block_count"),
        "intermediate_size": m.size("feed_forward_length"), "vocab_size": m.vocabulary,
    }  # fmt: skip


GGUF = {
    "rwkv6": Gguf("rwkv6", quantizer=(PLAIN_MLP,), graph_alone=True, reader=read),
    QWEN: Gguf(QWEN, graph_alone=True, reader=read_qwen),
}


def _ranks(c: Config, d: Any, mix: str, decay: str) -> tuple[Any, Any]:
    """Widths of the thin matrices: those that mix, and those of the decay."""
    wide = int(d) == WIDE if mix == "time_mix_extra_dim" else int(d) >= WIDE
    return c.size(mix, MIX * (1 + wide)), c.size(decay, DECAY * (1 + wide))


def _thin(at: str, d: Any, mix: Any, decay: Any) -> tuple[Extra, ...]:
    """What decides how far tokens are mixed and how fast the state decays."""
    return (
        *(Extra(f"{at}.time_maa_{x}", (1, 1, d)) for x in f"x{READINGS}"), Extra(f"{at}.time_maa_w1", (d, 5 * mix)),
        Extra(f"{at}.time_maa_w2", (5, mix, d)), Extra(f"{at}.time_decay", (1, 1, d)),
        Extra(f"{at}.time_decay_w1", (d, decay)), Extra(f"{at}.time_decay_w2", (decay, d)),
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """RWKV 6 from its config."""
    if any(x in c.raw for x in OTHERS):
        raise InputError(f"{c.where}: flash-linear-attention's RWKV6ForCausalLM is not described; Rwkv6ForCausalLM is")
    if c.text("model_type", "") == QWEN:
        return _qwen(c)
    d, L, V = c.size("hidden_size"), c.size("num_hidden_layers"), c.size("vocab_size", 65536)
    head = c.size("head_size", 64, letter="head_dim")
    c.divides(head, d, "head_size", "hidden_size")
    if int(c.size("attention_hidden_size", d)) != int(d):
        raise InputError(f"{c.where}: attention_hidden_size other than hidden_size is not described")
    d_ff = c.size("intermediate_size", int(d) * 7 // 2 // MIX * MIX)
    mix, decay = _ranks(c, d, "time_mix_extra_dim", "time_decay_extra_dim")
    at, feed = "rwkv.blocks.{i}.attention", "rwkv.blocks.{i}.feed_forward"
    mixer = StateSpace(
        kind="wkv6", linears=tuple(Linear(f"{at}.{x}", d, d) for x in ("receptance", "key", "value", "gate", "output")),
        extras=(*_thin(at, d, mix, decay), Extra(f"{at}.time_faaaa", (d // head, head))),
        norms=(Norm(f"{at}.ln_x", d, "layer", True),), inner=d, state=head, conv_width=d, conv_kernel=2,
        sizes={"heads": d // head, "head_dim": head, "groups": 1, "keys": d // head, "mix": mix, "decay": decay,
               "apart": not c.flag(FUSED, True)},
    )  # fmt: skip
    mlp = MLP(
        (Linear(f"{feed}.key", d, d_ff), Linear(f"{feed}.value", d_ff, d)), d_ff, "relu2", False,
        extras=tuple(Extra(f"{feed}.time_maa_{x}", (1, 1, d)) for x in "kr"),
        receptance=Linear(f"{feed}.receptance", d, d),
    )  # fmt: skip
    norms = tuple(Norm(f"rwkv.blocks.{{i}}.ln{i}", d, "layer", True) for i in (1, 2))
    tied = c.flag("tie_word_embeddings", False)
    return Architecture(
        model_type=c.text("model_type", ""), tied=tied, vocab=V, hidden=d, num_layers=L, head_name="head",
        embeddings=(Lookup("rwkv.embeddings", V, d), Norm("rwkv.blocks.0.pre_ln", d, "layer", True)),
        layers=(Layer(L, mixer, mlp, norms, ("input", "pre_mlp")),), final=(Norm("rwkv.ln_out", d, "layer", True),),
        head=None if tied else Linear("head", d, V, role=HEAD), counted_only=True,
        facts={RESCALED: c.plain("rescale_every", 6)},
    )  # fmt: skip


def _qwen(c: Config) -> Architecture:
    """QRWKV 6 from its config: no norm of the heads, no bonus of the present token, keys and values of few heads."""
    d, L, V = c.size("hidden_size"), c.size("num_hidden_layers"), c.size("vocab_size", 152064)
    h = c.size("num_attention_heads")
    h_kv = c.size("num_key_value_heads", h)
    c.divides(h, d, "num_attention_heads", "hidden_size")
    c.divides(h_kv, h, "num_key_value_heads", "num_attention_heads")
    mix, decay = _ranks(c, d, "lora_rank_tokenshift", "lora_rank_decay")
    head, bias, at = d // h, c.flag("attention_bias", True), "model.layers.{i}.self_attn"
    mixer = StateSpace(
        kind="gated_linear",
        linears=(
            Linear(f"{at}.q_proj", d, d, bias), *(Linear(f"{at}.{x}_proj", d, h_kv * head, bias) for x in "kv"),
            Linear(f"{at}.gate", d, d), Linear(f"{at}.o_proj", d, d),
        ),
        extras=_thin(at, d, mix, decay), norms=(), inner=d, state=head, conv_width=d, conv_kernel=1,
        sizes={"heads": h, "head_dim": head, "groups": 1, "keys": h_kv, "mix": mix, "decay": decay},
    )  # fmt: skip
    norms = tuple(Norm(f"model.layers.{{i}}.{x}_layernorm", d, "rms") for x in ("input", "post_attention"))
    mlp = gated_mlp("model.layers.{i}.mlp", d, c.size("intermediate_size"), "silu")
    return decoder(
        c, (Lookup("model.embed_tokens", V, d),), [Layer(L, mixer, mlp, norms, ("input", "pre_mlp"))],
        (Norm("model.norm", d, "rms"),), V=V, d=d, L=L, tied=c.flag("tie_word_embeddings", False), positions=None,
        counted_only=True,
    )  # fmt: skip
