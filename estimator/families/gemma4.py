"""Gemma 4's and Gemma 3n's text models: Gemma 3's norms around both branches, with q, k and v normalised; an input of
each layer's own beside the stream; the last layers may reuse the keys and values of earlier ones.

Gemma 4: full layers with wider heads, whose keys may be the values too, and where wanted experts beside the MLP. Gemma
3n: AltUp (four copies of the stream, mixed by small routers) and LAuReL (a low-rank branch). Source: transformers 5,
models/gemma4 and models/gemma3n, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import (
    EXPERT,
    MLP,
    ROUTER,
    Architecture,
    Attention,
    Copies,
    Extra,
    Layer,
    Linear,
    Lookup,
    MoE,
    Norm,
    SideChain,
)
from estimator.families.common import (
    FULL,
    SLIDING,
    Dims,
    decoder,
    gated_mlp,
    gqa,
    layer_count,
    layer_groups,
    layer_kinds,
    read_dims,
    shared_kv_layers,
    window_size,
)
from estimator.families.common_gguf import Gguf, Router
from estimator.families.common_moe import expert_sizes, optional_size
from estimator.records import NamedTuple

NORM_KIND = "rms_late"
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
ROLES = ("input", "post_mixer", "pre_mlp", "post_mlp")
SPARSE = 10  # layers of Gemma 3n that cut small gates off where the config lists none
GLOBAL_HEAD = 512  # Gemma 4's width of a full layer's head
GGUF = {
    "gemma3n_text": Gguf("gemma3n", windows=True, embed_rows=True, up_first=True, all_keys=True),
    "gemma4_text": Gguf(
        "gemma4", windows=True, embed_rows=True, layer_scale=True, table_first=True, rope_tables=1, full_factors=True,
        router=Router(joined=True, scaled=True),
    ),
}  # fmt: skip


class Kind(NamedTuple):
    """What sets a layer apart: its attention, whether it reuses keys and values, its head's width and heads, its MLP's
    width, and whether the MLP's gates are cut off."""

    attention: str
    reuses: bool
    d_h: Any
    h_kv: Any
    d_ff: Any
    sparse: bool


def build(c: Config, prefix: str = "model", **fields: Any) -> Architecture:
    """Gemma 4's or Gemma 3n's text model in module ``prefix``; ``fields`` go to the Architecture."""
    third = c.raw.get("model_type") == "gemma3n_text"
    D = (read_dims(_one_width(c), 2048, 8, 16384, 262400, 35, h_kv=2, d_h=256) if third
         else read_dims(c, 2304, 8, 9216, 262144, 30, h_kv=4, d_h=256))  # fmt: skip
    n = layer_count(c, D.L)
    kinds = _kinds(c, D, n, third)
    off = c.raw.get("hidden_size_per_layer_input") == 0
    own = None if off else optional_size(c, "hidden_size_per_layer_input", 256)
    layer = f"{prefix}.layers.{{i}}"
    norms = tuple(Norm(f"{layer}.{name}", D.d, NORM_KIND) for name in NORMS)
    chains = (*(_altup(c, layer, D.d) if third else ()), *(() if own is None else (_input(c, layer, D.d, own),)))
    layers = [
        Layer(times, _attention(c, layer, D, kind), _mlp(c, layer, D.d, kind, third), norms, ROLES,
              "altup" if third else "sandwich", indices=at, chains=chains)
        for kind, times, at in layer_groups(kinds, D.L, c.traced)
    ]  # fmt: skip
    beside: tuple[Any, ...] = ()
    final: tuple[Any, ...] = (Norm(f"{prefix}.norm", D.d, NORM_KIND),)
    if own is not None:
        rows = c.size("vocab_size_per_layer_input", 262144, letter="vocab_size")
        beside = (
            Lookup(f"{prefix}.embed_tokens_per_layer", rows, D.L * own, scaled=True),
            Linear(f"{prefix}.per_layer_model_projection", D.d, D.L * own),
            Norm(f"{prefix}.per_layer_projection_norm", own, NORM_KIND),
        )
    if third:
        beside += (_copies(c, f"{prefix}.altup_projections", D.d, True),)
        final = (_copies(c, f"{prefix}.altup_unembed_projections", D.d), *final)
    fields.setdefault("tied", c.flag("tie_word_embeddings", True))
    cap = c.raw.get("final_logit_softcapping", 30.0 if third else None)
    return decoder(
        c, (Lookup(f"{prefix}.embed_tokens", D.V, D.d, scaled=True),), layers,
        final, V=D.V, d=D.d, L=D.L,
        positions=c.plain("max_position_embeddings", 32768 if third else 131072),
        facts={"embed_scale": "table", "logit_softcap": cap is not None, "stores": True}, beside=beside, **fields,
    )  # fmt: skip


def _one_width(c: Config) -> Config:
    """The config with the first of ``intermediate_size``'s widths where it lists one for each layer."""
    given = c.raw.get("intermediate_size")
    if isinstance(given, list):
        return Config({**c.raw, "intermediate_size": given[0] if given else 1}, c.traced, c.where)
    return c


def _kinds(c: Config, D: Dims, n: int, third: bool) -> list[Kind]:
    """Every layer's kind; Gemma 4's last layer is full whatever the config says."""
    period = 5 if third else 6
    types = list(layer_kinds(c, D.L, lambda i: SLIDING if (i + 1) % period else FULL))
    if not third and types:
        types[-1] = FULL
    shared = shared_kv_layers(c, n, 15 if third else 0)
    if alone := {*types[n - shared :]} - {*types[: n - shared]}:
        raise InputError(f"{c.where}: num_kv_shared_layers {shared}: no layer before the last {shared} is of "
                         f"{min(alone)}, whose keys they would reuse")  # fmt: skip
    widths = c.raw.get("intermediate_size")
    given: Sequence[Any] = c.items("intermediate_size", n) or [] if isinstance(widths, list) else [D.d_ff] * n
    double = not third and c.flag("use_double_wide_mlp", False)
    overrides = {} if third else _overrides(c, D, types)
    sparse = _cut_off(c, n) if third else [False] * n
    out = []
    for i, kind in enumerate(types):
        d_h, h_kv = overrides.get(i, (D.d_h, D.h_kv))
        reuses = i >= n - shared
        out.append(Kind(kind, reuses, d_h, h_kv, given[i] * 2 if double and reuses else given[i],
                        sparse[i]))  # fmt: skip
    return out


def _cut_off(c: Config, n: int) -> list[bool]:
    """Which of ``n`` layers cut small gates off: the first ten, or those with a sparsity of their own."""
    given = c.raw.get("activation_sparsity_pattern")
    if isinstance(given, list):
        return [bool(x) for x in (c.items("activation_sparsity_pattern", n) or ())]
    return [n > SPARSE and i < SPARSE for i in range(n)] if given is None else [bool(given)] * n


def _overrides(c: Config, D: Dims, types: list[str]) -> dict[int, tuple[Any, Any]]:
    """(head width, key/value heads) of the layers that have their own: the full ones, or ``per_layer_config``'s."""
    given = c.raw.get("per_layer_config")
    if given is None:
        d_h = c.size("global_head_dim", GLOBAL_HEAD, letter="head_dim")
        h_kv = optional_size(c, "num_global_key_value_heads") if c.flag("attention_k_eq_v", False) else None
        return {i: (d_h, D.h_kv if h_kv is None else h_kv) for i, kind in enumerate(types) if kind == FULL}
    if not isinstance(given, Mapping):
        raise InputError(f"{c.where}: per_layer_config must be a mapping, got {str(given)[:40]!r}")
    out = {}
    for name, fields in given.items():
        if not str(name).isdigit() or not isinstance(fields, Mapping):
            raise InputError(f"{c.where}: per_layer_config holds {str(name)[:40]!r}, which is no layer")
        part = Config(fields, c.traced, f"{c.where}: per_layer_config.{name}")
        out[int(name)] = part.size("head_dim", D.d_h), part.size("num_key_value_heads", D.h_kv)
    return out


def _attention(c: Config, layer: str, D: Dims, kind: Kind) -> Attention:
    attn, sliding, bias = f"{layer}.self_attn", kind.attention == SLIDING, c.flag("attention_bias", False)
    both_ways = c.raw.get("use_bidirectional_attention") == "all"
    window = window_size(c, 512) if sliding else None
    if both_ways and window is not None:
        window = window // 2 + 1
    names = ("q",) if kind.reuses else ("q", "k", "v")
    made = gqa(
        attn, D.d, D.h, kind.h_kv, kind.d_h, bias=bias, window=window, causal=not both_ways, reuses=kind.reuses,
        norms=tuple(Norm(f"{attn}.{x}_norm", kind.d_h, NORM_KIND, affine=x != "v") for x in names),
    )  # fmt: skip
    same = not sliding and c.flag("attention_k_eq_v", False)
    return made._replace(projections=made.projections[: 1 if kind.reuses else 2 if same else 3])


def _mlp(c: Config, layer: str, d: Any, kind: Kind, third: bool) -> MLP | MoE:
    """The MLP, with ``enable_moe_block`` beside experts."""
    act = c.text("hidden_activation", "gelu_pytorch_tanh")
    mlp = gated_mlp(f"{layer}.mlp", d, kind.d_ff, act)._replace(sparse=kind.sparse, named=third)
    if not c.flag("enable_moe_block", False):
        return mlp
    E, k = expert_sizes(c, "num_experts", None, None, chosen="top_k_experts")
    width = c.size("moe_intermediate_size")
    return MoE(
        experts=(
            Extra(f"{layer}.experts.gate_up_proj", (E, 2 * width, d), EXPERT),
            Extra(f"{layer}.experts.down_proj", (E, d, width), EXPERT),
        ),
        router=(
            Linear(f"{layer}.router.proj", d, E, role=ROUTER),
            Extra(f"{layer}.router.scale", (d,)),
            Extra(f"{layer}.router.per_expert_scale", (E,)),
        ),
        num=E, per_token=k, width=width, d=d, act=act, shared=mlp, shared_first=True, router_linear=True,
        norms=(
            Norm(f"{layer}.post_feedforward_layernorm_1", d, NORM_KIND),
            Norm(f"{layer}.pre_feedforward_layernorm_2", d, NORM_KIND),
            Norm(f"{layer}.post_feedforward_layernorm_2", d, NORM_KIND),
            Norm(f"{layer}.router.norm", d, NORM_KIND, affine=False),
        ),
    )  # fmt: skip


def _input(c: Config, layer: str, d: Any, own: Any) -> SideChain:
    """The layer's own input, gated by the stream and projected onto it."""
    return SideChain(
        (
            Linear(f"{layer}.per_layer_input_gate", d, own),
            Linear(f"{layer}.per_layer_projection", own, d),
            Norm(f"{layer}.post_per_layer_input_norm", d, NORM_KIND),
        ),
        act=c.text("hidden_activation", "gelu_pytorch_tanh"), scaled=True,
    )  # fmt: skip


def _altup(c: Config, layer: str, d: Any) -> tuple[SideChain, ...]:
    """Gemma 3n's LAuReL and AltUp, whose router runs before and after the branches and mixes all copies."""
    copies, rank = c.plain("altup_num_inputs", 4, least=1), c.size("laurel_rank", 64)
    at = f"{layer}.altup"
    return (
        SideChain(
            (
                Linear(f"{layer}.laurel.linear_left", d, rank),
                Linear(f"{layer}.laurel.linear_right", rank, d),
                Norm(f"{layer}.laurel.post_laurel_norm", d, NORM_KIND),
            )
        ),
        SideChain(
            (
                Norm(f"{at}.router_norm", d, NORM_KIND),
                Linear(f"{at}.modality_router", d, copies),
                Linear(f"{at}.prediction_coefs", copies, copies * copies),
                Linear(f"{at}.correction_coefs", copies, copies),
                Extra(f"{at}.correct_output_scale", (d,)),
            )
        ),
    )


def _copies(c: Config, module: str, d: Any, opens: bool = False) -> Copies:
    """The matrices of all copies of the stream but the first."""
    matrix = Linear(f"{module}.{{i}}", d, d)
    return Copies((matrix,) * (c.plain("altup_num_inputs", 4, least=1) - 1), opens)
