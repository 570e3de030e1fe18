"""A model's weights as a GGUF file holds them: which matrices, of which kind, and what stays in fp32.

The converter splits what a checkpoint fuses (the experts' gate and up, MLA's kv_b, Qwen3-Next's qkvz), keeps vectors,
routers, convolutions and positions in fp32, and adds tables for scaled rotary embeddings and the routers' correction
biases. Source: llama.cpp convert_hf_to_gguf.py; src/llama-quant.cpp, tensor_allows_quantization.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.families.base import (
    MLP,
    POSITION,
    Architecture,
    Attention,
    Copies,
    Linear,
    MoE,
    Norm,
    StateSpace,
)
from estimator.families.common_gguf import PLAIN_MLP, PLAIN_OUT, gguf_of, traits
from estimator.inventory import CONV1D, EMBEDDING, EXPERT, HEAD, LINEAR, Weight
from estimator.records import NamedTuple
from estimator.storage.base import Matrices, layers_of, matrices, moe_of

Place = tuple[str, int | str, bool]
Q, K, V, QKV, OUT, GATE, UP, DOWN, OTHER, PLAIN = "q", "k", "v", "qkv", "out", "gate", "up", "down", "other", "plain"
HALF = "half"
_STEMS = {Q: "attn_q", K: "attn_k", V: "attn_v", QKV: "attn_qkv", OUT: "attn_output", GATE: "ffn_gate", UP: "ffn_up",
          DOWN: "ffn_down"}  # fmt: skip
_MORE_STEMS = {"q_a_proj": "attn_q_a", "q_b_proj": "attn_q_b", "kv_a_proj_with_mqa": "attn_kv_a_mqa",
               "g_proj": "attn_gate"}  # fmt: skip
_STATE_STEMS = {
    "gated_delta": {"in_proj_qkv": "attn_qkv", "in_proj_z": "attn_gate", "in_proj_b": "ssm_beta",
                    "in_proj_a": "ssm_alpha", "out_proj": "ssm_out"},
    "short_conv": {"in_proj": "shortconv.in_proj", "out_proj": "shortconv.out_proj"},
    "chunked": {"in_proj": "ssm_in", "out_proj": "ssm_out"}, "selective": {"in_proj": "ssm_in", "out_proj": "ssm_out"},
}  # fmt: skip
_NAMES = {
    Q: ("q_proj", "q_lin", "query", "q"),
    K: ("k_proj", "k_lin", "key", "k"),
    V: ("v_proj", "v_lin", "value", "v"),
    QKV: ("c_attn", "query_key_value", "qkv_proj", "Wqkv"),
}


class GgufPiece(NamedTuple):
    """A weight, or a part of it, as a tensor of the file.

    kind      what the quantizer's rules call it; PLAIN stays in fp32, HALF in 16 bits
    matrices  how many a layer, and their inputs and outputs; shared: it belongs to a shared expert
    side      encoder or decoder, where blocks stand under its name, else ""; cross: of the attention over the encoder
    """

    weight: Weight
    kind: str
    matrices: Matrices
    shared: bool = False
    side: str = ""
    cross: bool = False

    def place(self, layer: int) -> Place:
        """Where the quantizer meets it among its like: by the file's names, in which 10 comes before 2, on sides."""
        return (self.side, str(layer), self.cross) if self.side else ("", layer, self.shared)


def pieces(arch: Architecture, mla_whole: bool = False) -> Iterator[GgufPiece]:
    """Every tensor of the file but the metadata, in the order of the checkpoint. mla_whole: see :func:`_splits`."""
    arch = in_file(arch)
    moe, kinds, shared = moe_of(arch), _kinds(arch) | dict.fromkeys(_halves(arch), HALF), _shared(arch)
    split, sides, known = _splits(arch, mla_whole), _sides(arch), traits(arch)
    for w in (*arch.weights(), *arch.buffers, *rotary_tables(arch), *_more(arch)):
        if ".act_fn." in w.name:
            continue  # an activation's numbers stand in the metadata (Apertus)
        kind = kinds.get(w.name if w.role == EXPERT else w.module) or kinds.get(w.name, OTHER)
        if w.module.endswith(known.singles) or (not _is_matrix(w) and (kind != HALF or len(w.shape) < 2)):
            yield GgufPiece(w, PLAIN, Matrices(1, w.elements, 1))
            continue
        if w.module in split:  # in no part where the file holds it in another matrix
            yield from (GgufPiece(w, part, m) for part, m in split[w.module])
        else:
            yield GgufPiece(w, kind, matrices(w, moe), w.module in shared, *sides.get(w.module, ()))


def in_file(arch: Architecture) -> Architecture:
    """A model as its file holds it: of an encoder the converter drops a prediction head, a pooler (but for a
    classifier), and the rows of positions that no token reaches; what stands in for other tensors is there twice.
    """
    known = traits(arch)
    if known.stand_ins:
        have, lack = known.stand_ins
        more = (Weight(w.name.replace(have, lack), w.shape, 1, w.role, (0,)) for w in arch.weights() if have in w.name)
        return arch._replace(extra_weights=(*arch.extra_weights, *dict.fromkeys(more)))
    if arch.kind != "encoder" or not known.name:
        return arch
    tables = tuple(
        t._replace(rows=min(t.rows, arch.max_positions or t.rows)) if getattr(t, "role", "") == POSITION else t
        for t in arch.embeddings
    )
    pooler = arch.pooler if arch.facts.get("class") == "ForSequenceClassification" else ()
    final = tuple(part for part in arch.final if isinstance(part, Norm))
    return arch._replace(embeddings=tables, pooler=pooler, final=final, head=None, head_extras=(), has_head=False)


def rotary_tables(arch: Architecture) -> tuple[Weight, ...]:
    """Tables of half a rotary width that scaled rotary embeddings bring: one for Llama 3, two for LongRoPE."""
    known = gguf_of(arch)
    count = arch.facts.get("rope_tables", 0) or (known.rope_tables if known else 0)
    mixers = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, Attention)]
    if not count or not mixers:
        return ()
    width = max(m.rope_dim if m.rope_dim is not None else m.head_dim for m in mixers)
    return (Weight("rope_factors", (width // 2,), count),)


def _more(arch: Architecture) -> Iterator[Weight]:
    """Tensors that the file holds and the checkpoint's class does not."""
    known = traits(arch)
    if known.layer_scale:
        yield Weight("layer_output_scale", (1,), arch.num_layers)
    for layer in arch.layers if known.all_keys else ():
        m = layer.mixer
        if isinstance(m, Attention) and m.reuses:
            name, at = m.projections[0].name.rpartition(".")[0], layer.indices
            shape = (m.kv_heads * m.head_dim, m.projections[0].d_in)
            yield from (Weight(f"{name}.{x}_proj.weight", shape, layer.times, LINEAR, at) for x in "kv")
            yield Weight(f"{name}.k_norm.weight", (m.head_dim,), layer.times, layers=at)


def _is_matrix(w: Weight) -> bool:
    """Matrices and stacks of experts; not norms, biases, routers, positions, convolutions, rows of a single number."""
    role = w.role in (LINEAR, CONV1D, EMBEDDING, HEAD, EXPERT)
    return role and len(w.shape) >= 2 and not w.is_bias and not (w.role == LINEAR and int(w.shape[0]) == 1)


def _halves(arch: Architecture) -> Iterator[str]:
    """Modules that no quantizer touches: AltUp's, the low-rank branch's, the projection to the layers' own inputs."""
    chains = (x for layer in arch.layers for chain in layer.chains if not chain.scaled for x in chain.parts())
    for part in (*arch.beside, *arch.final, *chains):
        for linear in part.linears if isinstance(part, Copies) else (part,):
            if isinstance(linear, Linear):
                yield linear.name
    ends = traits(arch).halves
    if ends:
        yield from (n for w in arch.weights() for n in (w.module, w.name) if n.endswith(ends))


def _sides(arch: Architecture) -> dict[str, tuple[str, bool]]:
    """Modules of layers that stand under a side's name: (the side, whether they attend to the encoder)."""
    if not traits(arch).sided:
        return {}
    out = {part.name: (x.side, False) for x in arch.layers for part in x.linears()}
    return out | {part.name: (x.side, True) for x in arch.layers if x.cross for part in x.cross.projections}


def _kinds(arch: Architecture) -> dict[str, str]:
    """Module name (expert stacks: weight name) -> kind."""
    out: dict[str, str] = {}
    rules = traits(arch).quantizer
    for layer in arch.layers:
        for mixer in (layer.mixer, layer.cross):
            if isinstance(mixer, Attention):
                out |= {p.name: _attention_kind(p.name) for p in mixer.projections}
                out[mixer.out.name] = OTHER if PLAIN_OUT in rules else OUT
                out |= {} if mixer.indexer is None else {mixer.indexer.keys.name: K}  # indexer.attn_k is a key to it
            elif isinstance(mixer, StateSpace) and mixer.kind == "channel_delta":  # by the names of attention's
                out |= {p.name: _attention_kind(p.name) for p in mixer.linears} | {mixer.linears[-1].name: OUT}
        mlps = [layer.mlp] if isinstance(layer.mlp, MLP) else []
        if isinstance(layer.mlp, MoE):
            out |= {e.name: DOWN if "down" in e.name or ".w2" in e.name else UP for e in layer.mlp.experts}
            mlps += [layer.mlp.shared] if layer.mlp.shared else []
        for mlp in mlps:
            names = [p.name for p in mlp.linears]
            if PLAIN_MLP in rules:
                continue
            out |= {name: GATE if "gate" in name and "up" not in name.rpartition(".")[2] else UP for name in names[:-1]}
            out[names[-1]] = DOWN
    return out


def stems(arch: Architecture) -> dict[str, tuple[str, ...]]:
    """Module name (expert stacks: weight name) -> what the file calls it in a layer, where that is known here.

    Two names where the file holds gate and up of a stack apart.
    """
    beside = [x.mlp for x in arch.layers if isinstance(x.mlp, MoE) and not x.mlp.norms]  # Gemma 4's is the layer's MLP
    shared = {p.name for m in beside if m.shared for p in m.shared.linears}
    joined = traits(arch).router.joined
    both = ("ffn_gate_up_exps",) if joined else ("ffn_gate_exps", "ffn_up_exps")
    stacks = {w.name for w in arch.weights() if w.role == EXPERT and len(w.shape) == 3}
    out: dict[str, tuple[str, ...]] = {}
    for name, kind in _kinds(arch).items():
        stem = _STEMS.get(kind) or _MORE_STEMS.get(name.rpartition(".")[2])
        if name in stacks:
            out[name] = ("ffn_down_exps",) if kind == DOWN else both
        elif stem and ".indexer." not in name:
            out[name] = (f"{stem}_shexp" if name in shared else stem,)
    for m in (mixer for x in arch.layers for mixer in (x.mixer, x.second)):
        if isinstance(m, Attention) and m.out_gate is not None:
            out[m.out_gate.name] = ("attn_gate",)
        elif isinstance(m, StateSpace):
            known = _STATE_STEMS.get(m.kind, {})
            out |= {x.name: (known[end],) for x in m.linears if (end := x.name.rpartition(".")[2]) in known}
    for mlp in (x.mlp.shared if isinstance(x.mlp, MoE) else x.mlp for x in arch.layers):
        if mlp is not None and mlp.gated and len(mlp.linears) == 3:  # the gate is the first, whatever its name
            out[mlp.linears[0].name] = ("ffn_gate_shexp" if mlp.linears[0].name in shared else "ffn_gate",)
    return out | ({} if arch.head is None else {arch.head.name: ("output",)})


def _attention_kind(name: str) -> str:
    last = name.rpartition(".")[2]
    return next((kind for kind, names in _NAMES.items() if last in names), OTHER)


def _shared(arch: Architecture) -> set[str]:
    """Modules of the shared experts."""
    mlps = [layer.mlp for layer in arch.layers]
    return {p.name for m in mlps if isinstance(m, MoE) and m.shared for p in m.shared.linears}


def _splits(arch: Architecture, mla_whole: bool) -> dict[str, tuple[tuple[str, Matrices], ...]]:
    """Modules that the file holds in parts: MLA's kv_b by heads, the delta net's qkvz as qkv and z, a fused q, k and v.

    mla_whole: kv_b is one matrix, as before llama.cpp kept latents (github.com/ggml-org/llama.cpp/pull/12801).
    """
    out: dict[str, tuple[tuple[str, Matrices], ...]] = {}
    known = traits(arch)
    for layer in arch.layers:
        m = layer.mixer
        if isinstance(m, Attention) and m.mla is not None and known.whole_mla:
            last = m.projections[-1]
            out[last.name] = ((V, Matrices(1, last.d_in, last.d_out)),)
        elif isinstance(m, Attention) and m.mla is not None and not mla_whole:
            rank, nope, v = m.mla["kv_rank"], m.mla["nope"], m.mla["v"]
            keys, values = Matrices(m.heads, nope, rank), Matrices(m.heads, rank, v)
            out[m.projections[-1].name] = ((OTHER, keys), (OTHER, values))
        elif isinstance(m, Attention) and known.packed and len(m.projections) > 1:
            first, *others = m.projections
            out[first.name] = ((QKV, Matrices(1, first.d_in, sum(x.d_out for x in m.projections))),)
            out |= dict.fromkeys((x.name for x in others), ())
        elif isinstance(m, Attention) and known.split and len(m.projections) == 1:
            d, keys = m.projections[0].d_in, m.kv_heads * m.head_dim
            parts = ((Q, m.heads * m.head_dim), (K, keys), (V, keys))
            out[m.projections[0].name] = tuple((kind, Matrices(1, d, n)) for kind, n in parts)
        elif isinstance(m, StateSpace) and m.kind == "gated_delta":
            first = m.linears[0]
            gate = first.d_out - m.conv_width  # 0 where the checkpoint holds z apart
            out[first.name] = ((QKV, Matrices(1, first.d_in, m.conv_width)), (OTHER, Matrices(1, first.d_in, gate)))
    return out


class Ranks(NamedTuple):
    """The quantizer's counters: a place among the tensors with values, and among the down projections."""

    values: dict[Place, int]
    downs: dict[Place, int]


def ranks(parts: list[GgufPiece]) -> Ranks:
    """Counted in the file's order: by layer, and the routed experts' down projection before the shared one's."""

    def counted(*kinds: str) -> dict[Place, int]:
        found = {p.place(i) for p in parts if p.kind in kinds for i in layers_of(p.weight)}
        return {at: n for n, at in enumerate(sorted(found))}

    return Ranks(counted(V, QKV), counted(DOWN))
