"""What towers and the models that wrap them share: reading the parts of a config, the pre-norm layer of a vision
transformer, putting a text model and its towers together.

A wrapper's text is a family of its own, its towers are; the wrapper adds the projection between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Extra, Layer, Linear, Norm
from estimator.families.common import gated_mlp, gqa, plain_mlp
from estimator.families.common_gguf import TEXT_TYPE
from estimator.families.towers import Conv, Tower

SELF_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
CHANNELS = 3  # red, green, blue


def part(c: Config, field: str, default_type: str, absent: Mapping[str, Any] | None = None) -> Config:
    """The config in ``field``, with ``default_type`` where it names no model_type; ``absent``: what transformers puts
    there where there is none.
    """
    raw = c.raw.get(field)
    if raw is None:
        raw = {} if absent is None else absent
    if not isinstance(raw, Mapping):
        raise InputError(f"{c.where}: {field} must be a mapping, got {str(raw)[:40]!r}")
    return Config({"model_type": default_type, **raw}, False, f"{c.where}: {field}")


def pair(c: Config, names: str, default: int) -> tuple[int, int]:
    """(height, width) of a field that holds one number for both, or two."""
    for name in names.split("|"):
        value = c.raw.get(name)
        if isinstance(value, Mapping):  # {"height": 448, "width": 448}
            value = [value.get("height"), value.get("width")]
        if isinstance(value, list | tuple):
            if len(value) != 2 or any(isinstance(x, bool) or not isinstance(x, int) or x < 1 for x in value):
                raise InputError(f"{c.where}: {name} must be a size or two, got {str(value)[:40]!r}")
            return value[0], value[1]
    one = c.plain(names, default, least=1)
    return one, one


def patches(size: tuple[int, int], patch: tuple[int, int]) -> int:
    """Whole patches of an image."""
    return (size[0] // patch[0]) * (size[1] // patch[1])


def layer_norm(name: str, width: Any, bias: bool = True) -> Norm:
    """A torch LayerNorm with weight and bias."""
    return Norm(name, width, "layer", bias)


def vit_layer(
    c: Config,
    at: str,
    d: int,
    d_ff: int,
    L: int,
    act: str,
    *,
    heads: str = "num_attention_heads",
    default_heads: int = 16,
    attn: str = "self_attn",
    names: tuple[str, str, str, str] = SELF_ATTENTION,
    qkv: tuple[str, str] | None = None,
    bias: bool = True,
    out_bias: bool = True,
    mlp: str = "mlp",
    fc: tuple[str, ...] = ("fc1", "fc2"),
    mlp_bias: bool = True,
    norms: tuple[str, str] = ("layer_norm1", "layer_norm2"),
    norm_kind: str = "layer",
    extras: tuple[str, ...] = (),
    norms_qk: tuple[Norm, ...] = (),
    **fields: Any,
) -> Layer:
    """``L`` layers: norm, attention without a mask, add, norm, MLP, add.

    at: the layer's module; qkv: (the fused projection, the output's) in place of ``names``; fc: two names, or three of
    a gated MLP; extras: loose weights of width d, such as layer scales; norms_qk, fields: norms and further fields of
    the Attention.
    """
    h = c.plain(heads, default_heads, least=1)
    c.divides(h, d, heads.split("|")[0], "hidden_size")
    fields = {"position": "learned", "causal": False, "head_dim": d // h, "norms": norms_qk, **fields}
    d_h = fields.pop("head_dim")
    attention = gqa(f"{at}.{attn}", d, h, h, d_h, bias=bias, out_bias=out_bias, names=names, **fields)
    if qkv is not None:
        fused = Linear(f"{at}.{attn}.{qkv[0]}", d, 3 * h * d_h, bias)
        out = Linear(f"{at}.{attn}.{qkv[1]}", h * d_h, d, out_bias)
        attention = attention._replace(projections=(fused,), out=out)
    inner = (
        plain_mlp(f"{at}.{mlp}", d, d_ff, act, mlp_bias, (fc[0], fc[1]))
        if len(fc) == 2
        else gated_mlp(f"{at}.{mlp}", d, d_ff, act, mlp_bias, fc)
    )
    both = tuple(Norm(f"{at}.{n}", d, norm_kind, norm_kind == "layer") for n in norms)
    loose = tuple(Extra(f"{at}.{x}", (d,)) for x in extras)
    return Layer(L, attention, inner, both, ("input", "pre_mlp"), side="encoder", extras=loose)


def patch_conv(name: str, c: Config, d: int, patch: tuple[int, int], bias: bool = True, frames: int | None = None,
               channels: str = "num_channels") -> Conv:  # fmt: skip
    """The convolution that makes a vector of width d of every patch; over ``frames`` images of a video where given."""
    kernel = patch if frames is None else (frames, *patch)
    return Conv(name, c.plain(channels, CHANNELS, least=1), d, kernel, bias)


def pooling_head(head: str, d: int, d_ff: int, act: str) -> tuple[Any, ...]:
    """Attention pooling by one learned query: a torch MultiheadAttention, a norm and an MLP."""
    return (
        Extra(f"{head}.probe", (1, 1, d)),
        Extra(f"{head}.attention.in_proj_weight", (3 * d, d)),
        Extra(f"{head}.attention.in_proj_bias", (3 * d,)),
        Linear(f"{head}.attention.out_proj", d, d, True),
        layer_norm(f"{head}.layernorm", d),
        *plain_mlp(f"{head}.mlp", d, d_ff, act).linears,
    )


def two_layers(at: str, d_in: int, d_out: int, bias: bool = True, names: tuple[str, str] = ("linear_1", "linear_2"),
               inner: int | None = None) -> tuple[Linear, Linear]:  # fmt: skip
    """A projector of two matrices, [d_in -> inner] and [inner -> d_out]."""
    middle = d_out if inner is None else inner
    return Linear(f"{at}.{names[0]}", d_in, middle, bias), Linear(f"{at}.{names[1]}", middle, d_out, bias)


def encoder_of(tower: Tower, model_type: str = "", pooler: tuple[Any, ...] = (), **fields: Any) -> Architecture:
    """The tower as an encoder of one image, without the projection behind it."""
    layers = tuple(x for x in tower.layers if isinstance(x, Layer))
    extra = 0 if tower.grid is None else tower.grid.extra
    stem = tuple(x._replace(beside=extra) if isinstance(x, Conv) else x for x in tower.stem)
    return Architecture(
        model_type=model_type, embeddings=stem, layers=layers, final=tower.final, head=None,
        tied=False, vocab=0, hidden=width_of(tower), num_layers=sum(x.times for x in layers), has_head=False,
        kind="encoder", pooler=pooler, max_positions=positions(tower),
        facts={"class": "Model", **fields.pop("facts", {})}, **fields,
    )  # fmt: skip


def alone(c: Config, tower: Tower, pooler: tuple[Any, ...] = (), **fields: Any) -> Architecture:
    """The tower as a model of its own."""
    return encoder_of(tower, c.text("model_type", ""), (*tower.pooled, *pooler), **fields)


def positions(tower: Tower) -> int | None:
    """Tokens that the tower sees of one image, where its size is fixed."""
    grid = tower.grid
    return None if grid is None or grid.size is None else patches(grid.size, grid.patch) + grid.extra


def text_model(c: Config, text: Config, tied: bool | None = None) -> Architecture:
    """The text's architecture by its own family, as a causal language model; ``tied``: what the wrapper says of it."""
    from estimator.families import build

    raw = {k: v for k, v in text.raw.items() if k != "architectures"}
    if tied is not None:
        raw["tie_word_embeddings"] = tied
    inner = Config(raw, c.traced, text.where)
    made = build(inner)
    c.heed(inner)
    return made


def tower_of(vision: Config, prefix: str, **options: Any) -> Tower:
    """The tower that the config's model_type names, standing in module ``prefix``."""
    from importlib import import_module

    from estimator.families import FAMILIES

    kind = vision.text("model_type", "")
    module: Any = import_module(f"estimator.families.{FAMILIES[kind]}") if kind in FAMILIES else None
    if not hasattr(module, "tower"):
        from estimator.errors import unknown

        known = [k for k, name in FAMILIES.items() if k.endswith(("vision", "vision_model")) or name in ("pixtral",)]
        raise unknown(f"{vision.where}: model_type", kind, known, "To add one: llmcalc docs extending", every=False)
    made: Tower = module.tower(vision, prefix, **options)
    return made


def width_of(tower: Tower) -> int:
    """Width of the tower's layers, or of what its stem makes where it has none."""
    if not tower.layers:
        return next((int(x.d_out) for x in reversed(tower.stem) if isinstance(x, Linear)), 0)
    first = tower.layers[0]
    return int(first.mixer.out.d_out) if isinstance(first, Layer) and isinstance(first.mixer, Attention) else 0


def feature_layers(c: Config) -> int:
    """How many of the tower's layers the projection reads: ``vision_feature_layer`` may be a list of them."""
    value = c.raw.get("vision_feature_layer")
    return len(value) if isinstance(value, list | tuple) and value else 1


def either_tied(c: Config, text: Config, default: bool, inner: bool = False) -> bool:
    """The wrapper's word on the head, or the text's where the wrapper's says untied."""
    return c.flag("tie_word_embeddings", default) or text.flag("tie_word_embeddings", inner)


def wrapped(
    c: Config, text: Architecture, towers: tuple[Tower, ...], at: str | None = "model.language_model"
) -> Architecture:
    """The whole model: the text moved into module ``at`` (None: it stands where it stood), and its towers."""
    from estimator.families.classes import moved

    inner: Architecture = text if at is None else moved(f"{at}.", text)
    facts = {**inner.facts, TEXT_TYPE: text.model_type}
    return inner._replace(model_type=c.text("model_type", ""), towers=towers, facts=facts)
