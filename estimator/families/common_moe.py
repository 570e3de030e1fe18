"""Blocks that mixture-of-experts decoders share: their sizes, routed experts, layer patterns, and the whole decoder.

Source: transformers 5, which stores the routed experts of a layer stacked: ``gate_up_proj`` [E, 2*width, d] and
``down_proj`` [E, d, width] (models/mixtral/modeling_mixtral.py, MixtralExperts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import (
    EXPERT,
    HEAD,
    MLP,
    ROUTER,
    Architecture,
    Extra,
    Layer,
    Linear,
    Lookup,
    MoE,
    Norm,
)
from estimator.families.common import FULL, SLIDING, layer_count, layer_groups

MOE, DENSE, SSM = "moe", "dense", "ssm"
SPARSE = {"sparse": MOE, "dense": DENSE}  # what ``mlp_layer_types`` calls them
MIXER_LETTERS = {FULL: "full_attention_layers", SLIDING: "sliding_attention_layers", SSM: "state_space_layers"}
MLP_LETTERS = {MOE: "moe_layers", DENSE: "dense_layers"}
BOTH_LETTERS = {FULL: "full_attention", SLIDING: "sliding_attention", SSM: "state_space"}

Kind = tuple[str, str]  # (FULL, SLIDING or SSM; MOE or DENSE)


def optional_size(c: Config, names: str, default: int | None = None, letter: str | None = None) -> Any:
    """A size that may be switched off: None where it is null, or absent with no default."""
    first = names.split("|")[0]
    if all(c.raw.get(n) is None for n in names.split("|")) and (first in c.raw or default is None):
        return None
    return c.size(names, default, letter=letter)


def attention_sizes(
    c: Config, hidden: int, heads: int, kv: int | None, head_dim: int | None = None, whole: bool = True
) -> tuple[Any, Any, Any, Any]:
    """(d, h, h_kv, d_h) with the class's defaults; ``kv`` None: as many as heads; ``head_dim`` None: d / h, which must
    be ``whole`` or is rounded down.
    """
    d = c.size("hidden_size", hidden)
    h = c.size("num_attention_heads", heads)
    h_kv = c.size("num_key_value_heads", h if kv is None or "num_key_value_heads" in c.raw else kv)
    c.divides(h_kv, h, "num_key_value_heads", "num_attention_heads")
    if c.raw.get("head_dim") is None and (head_dim is None or "head_dim" in c.raw):
        if whole:
            c.divides(h, d, "num_attention_heads", "hidden_size")
        return d, h, h_kv, c.named("head_dim", d // h)
    return d, h, h_kv, c.size("head_dim", head_dim)


def rotary_dim(c: Config, d_h: Any, default: float) -> Any:
    """The rotary part of a head: floor(head_dim * partial_rotary_factor)."""
    nested = c.raw.get("rope_parameters")
    inner = Config(nested, where=c.where) if isinstance(nested, dict) else c
    factor = inner.number("partial_rotary_factor", c.number("partial_rotary_factor", default))
    if not 0 < factor <= 1:
        raise InputError(f"{c.where}: partial_rotary_factor must be in (0, 1], got {factor}")
    part = Fraction(factor).limit_denominator(1024)
    return d_h * part.numerator // part.denominator


def expert_sizes(
    c: Config,
    names: str,
    experts: int | None,
    per_token: int | None,
    least: int = 1,
    chosen: str = "num_experts_per_tok",
) -> tuple[Any, Any]:
    """(experts, experts a token), from the fields ``names`` and ``chosen``; None: no default.

    InputError where a token wants more experts than there are.
    """
    letter = "num_experts"
    E = c.size(names, letter=letter) if experts is None else c.size(names, experts, letter=letter, least=least)
    letter = "num_experts_per_tok"
    k = c.size(chosen, letter=letter) if per_token is None else c.size(chosen, per_token, letter=letter)
    if E > 0 and k > E:
        raise InputError(
            f"{c.where}: num_experts_per_tok={int(k)} is more than the {int(E)} experts of {names.split('|')[0]}"
        )
    return E, k


def routed(
    prefix: str,
    d: Any,
    width: Any,
    E: Any,
    k: Any,
    act: str,
    router: str = "gate",
    shared: MLP | None = None,
    shared_gate: Linear | None = None,
    **fields: Any,
) -> MoE:
    """E gated experts of ``width`` under ``prefix.experts``, k a token, chosen by ``prefix.<router>``.

    shared: the MLP beside them, left out where its width is 0; fields: further fields of the MoE.
    """
    return MoE(
        experts=(
            Extra(f"{prefix}.experts.gate_up_proj", (E, 2 * width, d), EXPERT),
            Extra(f"{prefix}.experts.down_proj", (E, d, width), EXPERT),
        ),
        router=(Linear(f"{prefix}.{router}", d, E, role=ROUTER),),
        num=E, per_token=k, width=width, d=d, act=act,
        shared=None if shared is None or shared.width == 0 else shared, shared_gate=shared_gate, **fields,
    )  # fmt: skip


def pre_norms(
    layer: str, d: Any, kind: str = "rms", second: str = "post_attention_layernorm"
) -> tuple[tuple[Norm, ...], tuple[str, ...]]:
    """(norms, roles) of a pre-norm layer; ``layer`` norms have a bias."""
    bias = kind == "layer"
    return (
        (Norm(f"{layer}.input_layernorm", d, kind, bias), Norm(f"{layer}.{second}", d, kind, bias)),
        ("input", "pre_mlp"),
    )


def pattern(c: Config, L: Any, kind_of: Callable[[int], Kind], make: Callable[[Kind], Layer]) -> tuple[Layer, ...]:
    """The layer groups of a stack whose layer i is of ``kind_of(i)``; ``make`` builds one layer of a kind.

    Group sizes are traced as L where all layers are alike, else under the letter of what differs.
    """

    kinds: Sequence[Kind] = [kind_of(i) for i in range(layer_count(c, L))]
    mixers, mlps = {k[0] for k in kinds}, {k[1] for k in kinds}

    def letter(kind: Kind) -> str | None:
        if kind[0] not in MIXER_LETTERS:
            return None
        if len(mixers) == 1:
            return MLP_LETTERS[kind[1]]
        return MIXER_LETTERS[kind[0]] if len(mlps) == 1 else f"{BOTH_LETTERS[kind[0]]}_{kind[1]}_layers"

    groups = layer_groups(kinds, L, c.traced, {k: name for k in kinds if (name := letter(k))})
    return tuple(make(kind)._replace(times=times, indices=at) for kind, times, at in groups)


def layer_types(c: Config, L: Any, allowed: tuple[str, ...], default: Callable[[int], str]) -> list[str]:
    """The mixer of each layer: ``layer_types`` where given (each one of ``allowed``), else ``default(i)``."""
    n = layer_count(c, L)
    given = c.items("layer_types", n)
    if given is None:
        return [default(i) for i in range(n)]
    for t in given:
        if t not in allowed:
            raise InputError(f"{c.where}: layer_types holds {str(t)[:40]!r}; known: {', '.join(allowed)}")
    return given


def mlp_types(
    c: Config, L: Any, default: Callable[[int], str], names: Mapping[str, str] = SPARSE
) -> Callable[[int], str]:  # fmt: skip
    """MOE or DENSE of a layer: ``mlp_layer_types`` where given, read by two ``names``, else ``default``."""
    given = c.items("mlp_layer_types", layer_count(c, L))
    if given is None:
        return default
    for t in given:
        if t not in tuple(names):  # a list has no hash
            known = " or ".join(map(repr, names))
            raise InputError(f"{c.where}: mlp_layer_types must be {known}, got {str(t)[:40]!r}")
    return lambda i: names[given[i]]


def sparse_layers(c: Config, L: Any, E: Any) -> Callable[[int], str]:
    """Qwen's rule: layer i has experts unless it is in ``mlp_only_layers`` or (i + 1) % decoder_sparse_step != 0."""
    step = c.plain("decoder_sparse_step", 1, least=1)
    only = c.items("mlp_only_layers") or []
    for i in only:
        if isinstance(i, bool) or not isinstance(i, int) or i < 0:
            raise InputError(f"{c.where}: mlp_only_layers holds {str(i)[:40]!r}, not a layer of 0 to {int(L) - 1}")
    dense = frozenset(only)
    if only and max(only) >= L:  # as transformers does; a stack cut short by --set keeps its list
        c.notes.append(f"mlp_only_layers names layers beyond the {int(L)} there are: left out")
    return lambda i: MOE if E > 0 and i not in dense and (i + 1) % step == 0 else DENSE


def decoder(
    c: Config,
    layers: tuple[Layer, ...],
    d: Any,
    L: Any,
    vocab: int,
    positions: int,
    *,
    tied: bool = False,
    norm: Norm | None = None,
    head_bias: bool = False,
    **fields: Any,
) -> Architecture:
    """A causal language model around ``layers``: ``model.embed_tokens``, ``model.norm`` (or ``norm``), ``lm_head``.

    vocab, positions, tied are the class's defaults.
    """
    V = c.size("vocab_size", vocab)
    is_tied = c.flag("tie_word_embeddings", tied)
    return Architecture(
        model_type=c.text("model_type", ""),
        embeddings=(Lookup("model.embed_tokens", V, d),),
        layers=layers,
        final=(norm or Norm("model.norm", d),),
        head=None if is_tied else Linear("lm_head", d, V, head_bias, role=HEAD),
        head_extras=(Extra("lm_head.bias", (V,), HEAD),) if is_tied and head_bias else (),
        tied=is_tied, vocab=V, hidden=d, num_layers=L,
        max_positions=c.plain("max_position_embeddings", positions),
        **fields,
    )  # fmt: skip
