"""llama.cpp's quantisation mixes: which ggml type each tensor of a ``Q4_K_M`` file gets.

A mix has a default type; the output layer, the values, the down projections and the first and last layers get more
bits. Rules: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl, tensor_allows_quantization and
tensor_type_fallback, without an importance matrix except for the iq1 and iq2 mixes, which require one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from estimator.dtypes import FORMATS
from estimator.families.base import MLP, Architecture, Attention, MoE
from estimator.inventory import CONV1D, EMBEDDING, EXPERT, HEAD, LINEAR, Weight
from estimator.storage.base import Matrices, Storage, Stored, layers_of, matrices, moe_of

# mix -> default type (llama.cpp llama-quant.cpp, llama_ftype_get_default_type)
MIXES = {
    "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0", "q5_1": "q5_1", "q8_0": "q8_0",
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k",
    "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_k_s": "q5_k", "q5_k_m": "q5_k", "q6_k": "q6_k",
    "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs", "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s",
    "iq3_xxs": "iq3_xxs", "iq3_xs": "iq3_s", "iq3_s": "iq3_s", "iq3_m": "iq3_s", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs",
    "mxfp4_moe": "mxfp4",
}  # fmt: skip
_IQ12 = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m")
# a type whose blocks do not divide a row -> the type used instead (tensor_type_fallback)
_FALLBACK = {
    "q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
}  # fmt: skip
_NAMES = {
    "q": ("q_proj", "q_lin", "query", "q"),
    "k": ("k_proj", "k_lin", "key", "k"),
    "v": ("v_proj", "v_lin", "value", "v"),
    "qkv": ("c_attn", "query_key_value", "qkv_proj", "Wqkv"),
}
Q, K, V, QKV, OUT, GATE, UP, DOWN, OTHER = "q", "k", "v", "qkv", "out", "gate", "up", "down", "other"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules ask about a model. ``values``: how many layers have value projections."""

    layers: int
    values: int
    grouped: bool  # at least 4 query heads a key head
    experts: int
    falcon: bool
    is_70b: bool
    tied: bool


def more_bits(i: int, n: int) -> bool:
    """llama.cpp's use_more_bits: the first and last eighth of n layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def mix_storage(arch: Architecture, mix: str) -> Storage:
    """The weights of ``arch`` in a llama.cpp mix, tensor by tensor."""
    moe, kinds = moe_of(arch), _categories(arch)
    facts = _facts(arch, kinds)
    parts: list[Stored] = []
    odd: set[str] = set()
    for w in arch.weights():
        if not _quantised(w):
            parts.append(Stored(w, "fp32", w.times * FORMATS["fp32"].bytes(w.elements)))
            continue
        m = matrices(w, moe)
        types = Counter(
            _type(mix, w, kinds.get(w.module if w.role != EXPERT else w.name, OTHER), i, facts, m, odd)
            for i in layers_of(w)
        )
        parts += [Stored(w, t, count * m.count * m.n_out * FORMATS[t].bytes(m.n_in)) for t, count in types.items()]
    notes = [f"{mix} as llama.cpp's quantizer mixes types, norms, biases, routers and convolutions in fp32"]
    if mix in _IQ12:
        notes.append(f"{mix} needs an importance matrix; the types are those used with one")
    if odd:
        which = f"rows of {len(odd)} weights ({sorted(odd)[0]} ...)"
        notes.append(f"{which} do not divide into blocks; llama.cpp's fallback types were used")
    return Storage(tuple(parts), tuple(notes), mix)


def _quantised(w: Weight) -> bool:
    """Matrices and stacks of experts; not norms, biases, routers, positions, convolutions, state-space parameters."""
    return len(w.shape) >= 2 and not w.is_bias and w.role in (LINEAR, CONV1D, EMBEDDING, HEAD, EXPERT)


def _categories(arch: Architecture) -> dict[str, str]:
    """Module name (expert stacks: weight name) -> category."""
    out: dict[str, str] = {}
    for layer in arch.layers:
        for mixer in (layer.mixer, layer.cross):
            if isinstance(mixer, Attention):
                out |= {p.name: _attention_category(p.name) for p in mixer.projections}
                out[mixer.out.name] = OUT
        mlps = [layer.mlp] if isinstance(layer.mlp, MLP) else []
        if isinstance(layer.mlp, MoE):
            out |= {e.name: DOWN if "down" in e.name or ".w2" in e.name else UP for e in layer.mlp.experts}
            mlps += [layer.mlp.shared] if layer.mlp.shared else []
        for mlp in mlps:
            names = [p.name for p in mlp.linears]
            out |= {name: GATE if "gate" in name and "up" not in name.rpartition(".")[2] else UP for name in names[:-1]}
            out[names[-1]] = DOWN
    return out


def _attention_category(name: str) -> str:
    last = name.rpartition(".")[2]
    return next((kind for kind, names in _NAMES.items() if last in names), OTHER)


def _facts(arch: Architecture, kinds: dict[str, str]) -> Facts:
    mixers = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, Attention)]
    heads, kv = (int(mixers[0].heads), int(mixers[0].kv_heads)) if mixers else (1, 1)
    layers = sum(int(layer.times) for layer in arch.layers)
    with_values = sum(
        int(layer.times) for layer in arch.layers
        if isinstance(layer.mixer, Attention) and any(kinds[p.name] in (V, QKV) for p in layer.mixer.projections)
    )  # fmt: skip
    moe = moe_of(arch)
    big = layers == 80 and heads != kv and arch.model_type in ("llama", "mistral", "qwen2")
    return Facts(
        layers,
        with_values,
        heads // max(1, kv) >= 4,
        int(moe.num) if moe else 0,
        arch.model_type == "falcon",
        big,
        arch.head is None,
    )


def _type(mix: str, w: Weight, kind: str, i: int, f: Facts, m: Matrices, odd: set[str]) -> str:
    """The ggml type of one tensor of layer i, after the fallback for rows that do not divide."""
    default = MIXES[mix]
    n_in = int(m.n_in)
    if w.role == HEAD or (w.role == EMBEDDING and f.tied):
        chosen = _output(mix, default, f, n_in)
    elif mix == "mxfp4_moe":
        chosen = "mxfp4" if w.role == EXPERT else "q8_0"
    elif w.role == EMBEDDING:
        chosen = _embedding(mix, default)
    else:
        chosen = _layer_type(mix, default, kind, i, f)
    if n_in % FORMATS[chosen].block:
        odd.add(w.name)
        chosen = _FALLBACK.get(chosen, "fp16")
        if n_in % FORMATS[chosen].block:
            chosen = "fp16"
    return chosen


def _output(mix: str, default: str, f: Facts, n_in: int) -> str:
    if mix == "mxfp4_moe" or f.falcon or n_in % FORMATS[default].block:
        return "q8_0"
    if mix in _IQ12:
        return "q5_k"
    return default if default == "q8_0" else "q6_k"


def _embedding(mix: str, default: str) -> str:
    if mix in ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"):
        return "q2_k"
    return "iq3_s" if mix in ("iq2_s", "iq2_m", "iq3_xxs") else default


def _layer_type(mix: str, default: str, kind: str, i: int, f: Facts) -> str:
    if mix in _IQ12:
        return _iq12(mix, default, kind, i, f)
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
        chosen = "q4_k" if f.grouped else "iq3_s"
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
    if mix == "q4_k_m" and f.falcon:
        return "q6_k" if i < n // 16 else "q5_k" if more else "q4_k"
    if mix == "q3_k_m":
        return "q5_k" if i < n // 16 else "q4_k" if not f.falcon or more else "q3_k"
    rules: dict[str, tuple[bool, str]] = {
        "q2_k": (True, "q3_k"),
        "q2_k_s": (first, "q4_k"),
        "iq3_xxs": (True, "q4_k" if first else "q3_k"),
        "iq3_m": (first or (f.experts == 8 and more), "q4_k"),
        "q3_k_l": (True, "q4_k" if f.falcon else "q5_k"),
        "q4_k_m": (more, "q6_k"),
        "q5_k_m": (more, "q6_k"),
        "iq4_nl": (first, "q5_k"),
        "iq4_xs": (first, "q5_k"),
        "q4_k_s": (first and not f.falcon, "q5_k"),
    }
    applies, chosen = rules.get(mix, (False, default))
    return chosen if applies else default


def _out(mix: str, default: str, f: Facts) -> str:
    if f.falcon:
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


__all__ = ["MIXES", "Facts", "mix_storage", "more_bits"]
