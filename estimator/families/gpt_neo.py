"""GPT-Neo: learned positions, LayerNorm, q/k/v without and o with a bias, alternating global and local
attention.

The local layers mask what lies outside their window, but compute and cache everything.
Source: transformers 5, models/gpt_neo/modeling_gpt_neo.py and configuration_gpt_neo.py.
"""

from __future__ import annotations

from estimator.config import MAX_LAYERS, Config
from estimator.errors import InputError
from estimator.families.base import POSITION, Architecture, Buffer, Classes, Layer, Lookup, Norm
from estimator.families.common import FULL, SLIDING, decoder, gqa, layer_groups, plain_mlp

LAYER = "transformer.h.{i}"


def build(c: Config) -> Architecture:
    """GPT-Neo from its config."""
    d = c.size("hidden_size", 2048)
    h = c.size("num_heads|num_attention_heads", 16, letter="num_attention_heads")
    c.divides(h, d, "num_heads", "hidden_size")
    L = c.size("num_layers|num_hidden_layers", 24, letter="num_hidden_layers")
    V, positions = c.size("vocab_size", 50257), c.size("max_position_embeddings", 2048)
    d_ff = c.size("intermediate_size", 4 * d)
    window = c.size("window_size", 256, letter="sliding_window")
    mlp = plain_mlp(f"{LAYER}.mlp", d, d_ff, c.text("activation_function", "gelu_new"), names=("c_fc", "c_proj"))
    norms = (Norm(f"{LAYER}.ln_1", d, "layer", True), Norm(f"{LAYER}.ln_2", d, "layer", True))
    layers = []
    for kind, times, at in layer_groups(_kinds(c, int(L)), L, c.traced):
        attention = gqa(
            f"{LAYER}.attn.attention", d, h, h, d // h, out_bias=True,
            names=("q_proj", "k_proj", "v_proj", "out_proj"), position="learned",
            window=window if kind == SLIDING else None, window_cached=kind != SLIDING,
            form="fp32_scores_masked", sdpa=False,
        )  # fmt: skip
        layers.append(Layer(times, attention, mlp, norms, ("input", "pre_mlp"), indices=at, keeps=("probs",)))
    tables = (Lookup("transformer.wte", V, d), Lookup("transformer.wpe", positions, d, POSITION))
    return decoder(
        c, tables, layers, (Norm("transformer.ln_f", d, "layer", True),), V=V, d=d, L=L,
        tied=c.flag("tie_word_embeddings", True), positions=int(positions), classes=Classes(tokens="classifier"),
        residual_dropout=("resid_dropout", 0.0),
        constants=(Buffer("causal mask", (int(positions), int(positions)), 1, L),),
    )  # fmt: skip


def _kinds(c: Config, n: int) -> list[str]:
    """``attention_types``, [[["global", "local"], 12]], spelled out for n layers."""
    kinds: list[str] = []
    for item in c.items("attention_types") or [[["global", "local"], 12]]:
        match item:
            case [list() as names, int() as repeats] if set(map(str, names)) <= {"global", "local"}:
                if len(names) * repeats > MAX_LAYERS:
                    raise InputError(f"{c.where}: attention_types describes more than {MAX_LAYERS:,} layers")
                kinds += [FULL if name == "global" else SLIDING for name in names] * repeats
            case _:
                raise InputError(
                    f"{c.where}: attention_types must look like [[['global', 'local'], 12]], got {str(item)[:40]!r}"
                )
    if len(kinds) != n:
        raise InputError(f"{c.where}: attention_types describes {len(kinds)} layers, num_layers is {n}")
    return kinds
