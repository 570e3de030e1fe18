"""llama.cpp's quantisation mixes: which ggml type each tensor of a ``Q4_K_M`` file gets.

A mix has a default type; the output layer, the values, the down projections and the first and last layers get more
bits. Rules: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl, tensor_allows_quantization and
tensor_type_fallback, without an importance matrix except for the iq1 and iq2 mixes, which require one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from estimator.dtypes import FORMATS
from estimator.families.base import Architecture, Attention
from estimator.families.common_gguf import FALCON, HEADS_BY_LAYER, SEVENTY, SEVENTY_GROUPED, blocks, traits
from estimator.inventory import EMBEDDING, EXPERT, HEAD
from estimator.records import NamedTuple, dataclass
from estimator.storage.base import Storage, Stored, layers_of, moe_of
from estimator.storage.gguf_tensors import (
    DOWN,
    GATE,
    HALF,
    OUT,
    PLAIN,
    QKV,
    UP,
    GgufPiece,
    K,
    Q,
    Ranks,
    V,
    pieces,
    ranks,
)

# mix -> default type (llama.cpp llama-quant.cpp, llama_ftype_get_default_type)
MIXES = {
    "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0", "q5_1": "q5_1", "q8_0": "q8_0",
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k",
    "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_k_s": "q5_k", "q5_k_m": "q5_k", "q6_k": "q6_k",
    "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs", "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s",
    "iq3_xxs": "iq3_xxs", "iq3_xs": "iq3_s", "iq3_s": "iq3_s", "iq3_m": "iq3_s", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs",
    "mxfp4_moe": "mxfp4",
    "q2_k_l": "q2_k", "q3_k_xl": "q3_k", "q4_k_l": "q4_k", "q5_k_l": "q5_k", "q6_k_l": "q6_k",
}  # fmt: skip
# llama-quantize with --token-embedding-type and --output-tensor-type q8_0: bartowski's files of these names. Five files
# differ from their bases by just that (huggingface.co/bartowski/Qwen_Qwen3-1.7B-GGUF at dcb1915)
LARGE = {"q2_k_l": "q2_k", "q3_k_xl": "q3_k_l", "q4_k_l": "q4_k_m", "q5_k_l": "q5_k_m", "q6_k_l": "q6_k"}
NEEDS_IMATRIX = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m")
PLAIN_TYPES = {"f16": "fp16", "bf16": "bf16", "f32": "fp32"}  # as the converter writes them
BY_IMATRIX = ("iq3_xxs", "iq4_nl", "iq4_xs", "q4_0", "q5_0")
# types of a fused q, k and v in the quantizers of 2023 to 2025 (llama_tensor_get_type, attn_qkv.weight)
FUSED = {"q3_k_m": "q4_k", "q3_k_l": "q4_k", "iq3_m": "q4_k", "q4_k_m": "q5_k", "q5_k_m": "q6_k"}
BIG = 80  # layers of what llama.cpp's loader calls a 70B model
# a type whose blocks do not divide a row -> the type used instead (tensor_type_fallback)
_FALLBACK = {
    "q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules ask about a model. ``values``: how many layers have value projections."""

    layers: int
    values: int
    grouped: bool  # at least 4 query heads a key head
    experts: int
    early_spared: bool  # the quantizer's rules for Falcon
    is_70b: bool
    tied: bool
    imatrix: bool
    fused_apart: bool  # q, k and v in one matrix have rules of their own (builds before 2026), else those of values


def more_bits(i: int, n: int) -> bool:
    """llama.cpp's use_more_bits: the first and last eighth of n layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


class Typed(NamedTuple):
    """A tensor of one layer: its type, and its bytes there."""

    piece: GgufPiece
    layer: int
    type: str
    bytes: Any
    odd: bool = False


def typed(
    arch: Architecture, mix: str, imatrix: bool = False, fused_apart: bool = False, mla_whole: bool = False
) -> Iterator[Typed]:
    """Every tensor of the file, layer by layer, with its type in ``mix`` (or in a plain type: f16, bf16, f32)."""
    parts = list(pieces(arch, mla_whole))
    counted = ranks(parts)
    facts = _facts(arch, parts, imatrix or mix in NEEDS_IMATRIX, fused_apart)
    for p in parts:
        w, m = p.weight, p.matrices
        if p.kind == PLAIN:
            yield from (Typed(p, i, "fp32", FORMATS["fp32"].bytes(w.elements)) for i in layers_of(w))
            continue
        for i in layers_of(w):
            chosen, odd = (PLAIN_TYPES[mix], False) if mix in PLAIN_TYPES else _type(mix, p, i, counted, facts)
            yield Typed(p, i, chosen, m.count * m.n_out * FORMATS[chosen].bytes(m.n_in), odd)


def mix_storage(arch: Architecture, mix: str, imatrix: bool = False) -> Storage:
    """The weights of ``arch`` in a llama.cpp mix, tensor by tensor; ``imatrix``: with an importance matrix."""
    counts: Counter[tuple[GgufPiece, str]] = Counter()
    each: dict[tuple[GgufPiece, str], Any] = {}
    odd: set[str] = set()
    for t in typed(arch, mix, imatrix):
        counts[t.piece, t.type] += 1
        each[t.piece, t.type] = t.bytes
        odd |= {t.piece.weight.name} if t.odd else set()
    parts = tuple(Stored(p.weight, kind, n * each[p, kind]) for (p, kind), n in counts.items())
    return Storage(parts, tuple(mix_notes(mix, imatrix, odd)), mix)


def mix_notes(mix: str, imatrix: bool, odd: set[str]) -> list[str]:
    """What a size in ``mix`` rests on; ``odd``: weights whose rows do not divide into blocks."""
    notes = [f"{mix} as llama.cpp's quantizer mixes types, norms, biases, routers and convolutions in fp32"]
    if mix in LARGE:
        notes.append(f"{mix}: {LARGE[mix]} with embeddings and output layer in q8_0, as bartowski's files of this name")
    if mix in NEEDS_IMATRIX:
        notes.append(f"{mix} needs an importance matrix; the types are those used with one")
    elif mix in BY_IMATRIX:
        notes.append(f"{mix} {'with' if imatrix else 'without'} an importance matrix (--imatrix), which changes types")
    if odd:
        which = f"rows of {len(odd)} weights ({sorted(odd)[0]} ...)"
        notes.append(f"{which} do not divide into blocks; llama.cpp's fallback types were used")
    return notes


def _facts(arch: Architecture, parts: list[GgufPiece], imatrix: bool, fused_apart: bool) -> Facts:
    known = traits(arch)
    rules = known.quantizer
    layers = blocks(arch)
    order = sorted((layer.indices[0] if layer.indices else 0, n) for n, layer in enumerate(arch.layers))
    mixers = [arch.layers[n].mixer for _, n in order]
    if HEADS_BY_LAYER in rules:
        mixers = mixers[:1]  # the file says 0 heads for a first layer without attention
    first = next((m for m in mixers if isinstance(m, Attention)), None)
    heads, kv = (int(first.heads), int(first.kv_heads)) if first is not None else (1, 1)
    if first is not None and first.mla is not None and not known.whole_mla:
        kv = 1
    moe = moe_of(arch)
    return Facts(
        layers,
        sum(len(list(layers_of(p.weight))) for p in parts if p.kind in (V, QKV)),
        heads // max(1, kv) >= 4,
        int(moe.num) if moe else 0,
        FALCON in rules,
        layers == BIG and (SEVENTY in rules or (SEVENTY_GROUPED in rules and heads != kv)),
        arch.head is None,
        imatrix,
        fused_apart,
    )


def _type(mix: str, p: GgufPiece, i: int, ranks: Ranks, f: Facts) -> tuple[str, bool]:
    """The ggml type of one tensor of layer i, and whether it is a fallback for rows that do not divide."""
    default, w = MIXES[mix], p.weight
    n_in = int(p.matrices.n_in)
    if p.kind == HALF:
        return "fp16", False
    large, mix = mix in LARGE, LARGE.get(mix, mix)
    if large and w.role in (HEAD, EMBEDDING):
        chosen = "q8_0"
    elif w.role == HEAD or (w.role == EMBEDDING and f.tied):
        chosen = _output(mix, default, f, n_in)
    elif mix == "mxfp4_moe":
        chosen = "mxfp4" if w.role == EXPERT or int(p.matrices.count) > 1 else "q8_0"
    elif w.role == EMBEDDING:
        chosen = _embedding(mix, default)
    elif mix in NEEDS_IMATRIX:
        chosen = _iq12(mix, default, p.kind, ranks.downs.get(p.place(i), 0), f)
    elif p.kind in (V, QKV):
        chosen = _layer_type(mix, default, p.kind, ranks.values.get(p.place(i), 0), f)
    else:
        at = ranks.downs.get(p.place(i), i) if p.side else i
        chosen = _layer_type(mix, default, p.kind, at, f)
    if n_in % FORMATS[chosen].block == 0:
        return chosen, False
    chosen = _FALLBACK.get(chosen, "fp16")
    return ("fp16" if n_in % FORMATS[chosen].block else chosen), True


def _output(mix: str, default: str, f: Facts, n_in: int) -> str:
    if mix == "mxfp4_moe" or f.early_spared or n_in % FORMATS[default].block:
        return "q8_0"
    if mix in NEEDS_IMATRIX or mix == "iq3_xxs":
        return "q5_k"
    return default if default == "q8_0" else "q6_k"


def _embedding(mix: str, default: str) -> str:
    if mix in ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"):
        return "q2_k"
    return "iq3_s" if mix in ("iq2_s", "iq2_m", "iq3_xxs") else default


def _layer_type(mix: str, default: str, kind: str, i: int, f: Facts) -> str:
    if kind == QKV and f.fused_apart:
        return FUSED.get(mix, default)
    if kind in (V, QKV):
        return _values(mix, default, i, f)
    if kind in (Q, K):
        if kind == K and f.experts == 8:
            return "q8_0"
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(mix, default)
    if kind == DOWN:
        return _down(mix, default, i, f)
    if kind == OUT:
        return _out(mix, default, f)
    if kind in (GATE, UP) and mix == "iq3_xs" and f.layers // 8 <= i < 7 * f.layers // 8:
        return "iq3_xxs"
    return default


def _iq12(mix: str, default: str, kind: str, i: int, f: Facts) -> str:
    small = "iq3_s" if mix in ("iq2_s", "iq2_m") else "q2_k"
    if kind in (V, QKV):
        return "q4_k" if f.grouped or f.experts >= 4 else small
    if kind == K and f.experts == 8:
        return "q4_k"
    if kind == DOWN and i < f.layers // 8:
        return small
    if kind == OUT:
        if f.experts == 8:
            return "q5_k"
        return {"iq1_s": "iq2_xxs", "iq1_m": "iq2_xxs", "iq2_s": "iq3_s", "iq2_m": "iq3_s"}.get(mix, default)
    return default


def _values(mix: str, default: str, i: int, f: Facts) -> str:
    chosen = default
    if mix == "q2_k":
        chosen = "q4_k" if f.grouped else "q3_k"
    elif mix in ("q2_k_s", "iq3_xs", "iq3_s") and f.grouped:
        chosen = "q4_k"
    elif mix == "iq3_xxs":
        chosen = "q4_k" if f.grouped else default if f.imatrix else "iq3_s"
    elif mix == "iq3_m":
        chosen = "q4_k"
    elif mix == "q3_k_m":
        chosen = "q5_k" if i < 2 else "q4_k"
    elif mix == "q3_k_l" or (mix in ("iq4_nl", "iq4_xs") and f.grouped) or (mix == "q4_k_s" and i < 4):
        chosen = "q5_k"
    elif mix in ("q4_k_m", "q5_k_m") and more_bits(i, f.values):
        chosen = "q6_k"
    if f.is_70b and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return "q8_0" if f.experts == 8 else chosen


def _down(mix: str, default: str, i: int, f: Facts) -> str:
    n = f.layers
    first, more = i < n // 8, more_bits(i, n)
    if mix == "q4_k_m" and f.early_spared:
        return "q6_k" if i < n // 16 else "q5_k" if more else "q4_k"
    if mix == "q3_k_m":
        return "q5_k" if i < n // 16 else "q4_k" if not f.early_spared or more else "q3_k"
    rules: dict[str, tuple[bool, str]] = {
        "q2_k": (True, "q3_k"),
        "q2_k_s": (first, "q4_k"),
        "iq3_xxs": (not f.imatrix, "q4_k" if first else "q3_k"),
        "iq3_m": (first or (f.experts == 8 and more), "q4_k"),
        "q3_k_l": (True, "q4_k" if f.early_spared else "q5_k"),
        "q4_k_m": (more, "q6_k"),
        "q5_k_m": (more, "q6_k"),
        "iq4_nl": (first and not f.imatrix, "q5_k"),
        "iq4_xs": (first and not f.imatrix, "q5_k"),
        "q4_0": (first and f.imatrix, "q4_1"),
        "q5_0": (first and f.imatrix, "q5_1"),
        "q4_k_s": (first and not f.early_spared, "q5_k"),
    }
    applies, chosen = rules.get(mix, (False, default))
    return chosen if applies else default


def _out(mix: str, default: str, f: Facts) -> str:
    if f.early_spared:
        return "q4_k" if mix == "q3_k_l" else default
    if f.experts == 8:
        raised = (
            "q2_k",
            "iq3_xs",
            "iq3_xxs",
            "q3_k_s",
            "q3_k_m",
            "iq4_nl",
            "q4_k_s",
            "q4_k_m",
            "iq3_s",
            "iq3_m",
            "iq4_xs",
        )
        return "q5_k" if mix in raised else default
    return {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}.get(mix, default)


__all__ = ["MIXES", "Facts", "Typed", "mix_notes", "mix_storage", "more_bits", "typed"]
