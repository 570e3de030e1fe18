"""What many families share: grouped-query attention, MLPs, reading sizes, splitting a stack into groups."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from estimator.config import MAX_LAYERS, Config
from estimator.errors import InputError
from estimator.families.base import HEAD, MLP, Architecture, Attention, Extra, Layer, Linear
from estimator.records import dataclass
from estimator.trace import trace

FULL, SLIDING = "full_attention", "sliding_attention"
LETTERS = {FULL: "full_attention_layers", SLIDING: "sliding_attention_layers"}


def gqa(
    prefix: str,
    d: Any,
    h: Any,
    h_kv: Any,
    d_h: Any,
    *,
    bias: bool = False,
    out_bias: bool | None = None,
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
    **fields: Any,
) -> Attention:
    """Grouped-query attention with separate q, k, v: [d -> h*d_h], twice [d -> h_kv*d_h], and out.

    prefix    the attention module, e.g. ``model.layers.{i}.self_attn``
    bias      of q, k and v, and of out unless ``out_bias`` says otherwise
    fields    further fields of :class:`Attention`; ``rope_dim`` is d_h unless given or without rotary embedding
    """
    q, k, v, o = (f"{prefix}.{n}" for n in names)
    if fields.get("position", "rope") == "rope":
        fields.setdefault("rope_dim", d_h)
    else:
        fields.setdefault("rope_style", "none")
    return Attention(
        projections=(
            Linear(q, d, h * d_h, bias),
            Linear(k, d, h_kv * d_h, bias),
            Linear(v, d, h_kv * d_h, bias),
        ),
        out=Linear(o, h * d_h, d, bias if out_bias is None else out_bias),
        heads=h, kv_heads=h_kv, head_dim=d_h, **fields,
    )  # fmt: skip


def gated_mlp(
    prefix: str,
    d: Any,
    d_ff: Any,
    act: str = "silu",
    bias: bool = False,
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
) -> MLP:
    """down(act(gate(x)) * up(x)). Two ``names``: gate and up are one Linear [d -> 2*d_ff] (Phi-3, GLM)."""
    *first, down = (f"{prefix}.{n}" for n in names)
    fused = len(first) == 1
    up = tuple(Linear(n, d, 2 * d_ff if fused else d_ff, bias) for n in first)
    return MLP((*up, Linear(down, d_ff, d, bias)), d_ff, act, gated=True, fused=fused)


def plain_mlp(
    prefix: str, d: Any, d_ff: Any, act: str, bias: bool = True, names: tuple[str, str] = ("fc1", "fc2")
) -> MLP:
    """down(act(up(x))); ``prefix`` may be a layer's own path (OPT's ``fc1`` stands in no MLP module)."""
    up, down = (f"{prefix}.{n}" for n in names)
    return MLP((Linear(up, d, d_ff, bias), Linear(down, d_ff, d, bias)), d_ff, act, gated=False)


def layer_groups(
    kinds: Sequence[Hashable],
    L: Any = None,
    traced: bool = False,
    letters: Mapping[Any, str] = LETTERS,
) -> list[tuple[Any, Any, tuple[int, ...] | None]]:
    """Group equal layers: ``[(kind, times, indices)]`` in the order of first appearance.

    A homogeneous stack is one group of ``L`` (traced where ``L`` is) with indices None. In a mixed stack of a
    traced run ``times`` is traced under the letter that ``letters`` gives for the kind; where no kind has
    one, the groups but the first are plain ints and the first is L less them, so that what does not differ
    adds up to L.
    """
    where: dict[Hashable, list[int]] = {}
    for i, kind in enumerate(kinds):
        where.setdefault(kind, []).append(i)
    if len(where) == 1:
        return [(kinds[0], len(kinds) if L is None else L, None)]
    fields = [letters.get(kind) for kind in where]
    times: list[Any] = [
        trace(field, len(at)) if traced and field else len(at) for field, at in zip(fields, where.values(), strict=True)
    ]
    if traced and L is not None and not any(fields):
        times[0] = L - sum(times[1:])
    return [(kind, n, tuple(at)) for (kind, at), n in zip(where.items(), times, strict=True)]


def layer_count(c: Config, L: Any) -> int:
    """``L`` as an int for a stack described layer by layer; InputError where it is absurd."""
    if L > MAX_LAYERS:
        raise InputError(f"{c.where}: num_hidden_layers={int(L)} is out of range (at most {MAX_LAYERS:,})")
    return int(L)


@dataclass(frozen=True, slots=True)
class Dims:
    """The sizes that nearly every decoder has."""

    d: Any
    h: Any
    h_kv: Any
    d_h: Any
    d_ff: Any
    V: Any
    L: Any


def read_dims(
    c: Config, d: int, h: int, d_ff: int, V: int, L: int, h_kv: int | None = None, d_h: int | None = None
) -> Dims:
    """The sizes of a config in Llama's spelling; the arguments are the class's defaults.

    ``h_kv`` None: as many as query heads, which is also what an explicit null means in every class. ``d_h``
    None: d/h. InputError where the heads do not divide what they must.
    """
    width = c.size("hidden_size", d)
    heads = c.size("num_attention_heads", h)
    null = "num_key_value_heads" in c.raw and c.raw["num_key_value_heads"] is None
    kv = c.size("num_key_value_heads", heads if h_kv is None or null else h_kv)
    c.divides(kv, heads, "num_key_value_heads", "num_attention_heads")
    return Dims(
        width, heads, kv, head_width(c, width, heads, d_h), c.size("intermediate_size", d_ff),
        c.size("vocab_size", V), c.size("num_hidden_layers|num_layers", L, letter="num_hidden_layers"),
    )  # fmt: skip


def head_width(c: Config, d: Any, h: Any, default: int | None = None) -> Any:
    """``head_dim``, or d/h where the config and the class leave it open."""
    if c.raw.get("head_dim") is None and default is None:
        c.divides(h, d, "num_attention_heads", "hidden_size")
        return c.named("head_dim", d // h)
    return c.size("head_dim", default)


def rotary_width(c: Config, d_h: Any, default: float = 1.0, spelling: str = "partial_rotary_factor") -> Any:
    """The rotated part of a head, floor(d_h * factor), as ``compute_default_rope_parameters`` takes it.

    The factor stands in ``rope_parameters`` (or the older ``rope_scaling``), else at the top level under
    ``spelling``.
    """
    factor = c.number(spelling, default)
    for name in ("rope_parameters", "rope_scaling"):
        rope = c.raw.get(name)
        if isinstance(rope, Mapping) and rope.get("partial_rotary_factor") is not None:
            factor = Config(rope, where=f"{c.where}: {name}").number("partial_rotary_factor", factor)
    width = int(int(d_h) * factor)
    if not 0 < width <= d_h:
        raise InputError(f"{c.where}: {spelling}={factor:g} of head_dim={int(d_h)} leaves {width} rotary dimensions")
    ratio = Fraction(factor).limit_denominator(1000)
    exact = d_h * ratio.numerator // ratio.denominator if ratio != 1 else d_h
    return exact if exact == width else width


def layer_kinds(c: Config, L: Any, pattern: Callable[[int], str] | None = None) -> list[str]:
    """The kind of every layer: ``layer_types``, else ``pattern``; one entry for a homogeneous stack.

    InputError where ``layer_types`` is no list of "full_attention" and "sliding_attention" of the right
    length.
    """
    kinds = c.items("layer_types")
    if kinds is None:
        return [pattern(i) for i in range(layer_count(c, L))] if pattern else [FULL]
    c.items("layer_types", layer_count(c, L))
    for kind in kinds:
        if kind not in (FULL, SLIDING, "attention"):
            raise InputError(f"{c.where}: layer_types must be {FULL!r} or {SLIDING!r}, got {str(kind)[:40]!r}")
    return [FULL if kind == "attention" else kind for kind in kinds]


def every(period: int) -> Callable[[int], str]:
    """Sliding layers, every ``period``-th one full (Gemma, Cohere 2)."""
    return lambda i: SLIDING if (i + 1) % period else FULL


def window_size(c: Config, default: int | None) -> Any:
    """``sliding_window``: an explicit null means no window, absent means the class's default."""
    if "sliding_window" in c.raw and c.raw["sliding_window"] is None:
        return None
    return c.size("sliding_window", default)


def shared_kv_layers(c: Config, layers: Any, default: int = 0) -> int:
    """``num_kv_shared_layers``: how many of the last of ``layers`` reuse the keys and values of earlier ones.

    InputError where no layer is left that keeps its own (transformers 5 finds none to reuse when it builds the model).
    """
    shared = c.plain("num_kv_shared_layers", default)
    if shared and shared >= layers:
        least = f"must be less than the {int(layers)} layers"
        raise InputError(f"{c.where}: num_kv_shared_layers {least}, got {shared}")
    return shared


def windowed(c: Config, kinds: list[str], window: Any) -> list[str]:
    """``kinds``, with sliding layers read as full ones, and a note, where the config has no window."""
    if window is not None or SLIDING not in kinds:
        return kinds
    c.notes.append("layer_types names sliding layers but no sliding window is in force: taken as full attention")
    return [FULL] * len(kinds)


def no_cross_attention(c: Config) -> None:
    """InputError where a GPT-2-like config asks for cross-attention to an encoder it does not describe."""
    if c.flag("add_cross_attention", False):
        raise InputError(f"{c.where}: add_cross_attention is not supported: the config describes no encoder")


def decoder(
    c: Config,
    embeddings: tuple[Any, ...],
    layers: Sequence[Layer],
    final: tuple[Any, ...],
    *,
    V: Any,
    d: Any,
    L: Any,
    tied: bool,
    positions: int | None,
    head_width: Any = None,
    head_bias: bool = False,
    facts: dict[str, Any] | None = None,
    **fields: Any,
) -> Architecture:
    """A decoder with an output matrix ``lm_head`` [d -> V], whose weight is the token table where ``tied``.

    A tied head that has a bias keeps it: the bias is then among ``head_extras``. ``head_width``: input of the
    head where it is not d; ``positions``: the config's longest sequence; ``fields``: further fields of the
    Architecture.
    """
    head = Linear("lm_head", d if head_width is None else head_width, V, head_bias, role=HEAD)
    extras = (Extra("lm_head.bias", (V,), HEAD),) if tied and head_bias else ()
    return Architecture(
        model_type=c.text("model_type", ""), embeddings=embeddings, layers=tuple(layers), final=final,
        head=None if tied else head, head_extras=extras, tied=tied, vocab=V, hidden=d, num_layers=L,
        max_positions=positions, facts=facts or {}, **fields,
    )  # fmt: skip
