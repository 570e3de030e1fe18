"""A whole model's micro-batch in llama.cpp: embeddings, layers, the rows that are wanted, logits.

Source: src/llama-graph.cpp (build_inp_embd), src/models/*.cpp, build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.attention import attend
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.feedforward import feed
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.engines.llamacpp.recurrent import mix
from estimator.families.base import POSITION, Architecture, Attention, Layer, Lookup, Norm, StateSpace
from estimator.families.gguf import BRANCH, MIXER, MLP_OUT, Gguf


def build(arch: Architecture, gguf: Gguf, context: Context) -> GraphBuilder:
    """The graph that llama.cpp reserves for a prompt's micro-batch."""
    p = GraphBuilder(arch, gguf, context)
    x = _embedded(p)
    order = ordered(arch)
    for i, layer in enumerate(order):
        p.begin()
        x = _layer(p, layer, x, last=i == len(order) - 1)
    p.begin()
    if gguf.keeps_last:
        x.output = True
    for part in arch.final:
        if isinstance(part, Norm):
            x = p.norm(part, x)
    x.output = True
    logits = p.linear(x, size(arch.vocab), name=arch.head.name if arch.head is not None else arch.embeddings[0].name)
    logits.output = True
    p.graph.expand(logits)
    return p


def ordered(arch: Architecture) -> list[Layer]:
    """Every layer in the order of the stack."""
    at: dict[int, Layer] = {}
    for layer in arch.layers:
        at |= dict.fromkeys(layer.indices if layer.indices is not None else range(size(layer.times)), layer)
    return [at[i] for i in sorted(at)]


def _embedded(p: GraphBuilder) -> GgmlTensor:
    """Token rows, scaled, placed and normed as the family does."""
    d, T = p.width, p.tokens
    x = p.graph.expand(op("GET_ROWS", (d, T), HELD, p.graph.input("tokens", (T,), "i32")))
    if p.context.mixed:
        _mixed(p)
    if p.arch.facts.get("embed_scale"):
        x = like("MUL", x, p.graph.input("scale_rows", (1, T))) if p.gguf.embed_rows else like("SCALE", x)
    for part in p.arch.embeddings:
        if isinstance(part, Lookup) and part.role == POSITION:
            x = like("ADD", x, op("GET_ROWS", (d, T), HELD, p.positions()))
        elif isinstance(part, Norm):
            x = p.norm(part, x)
    return x


def _mixed(p: GraphBuilder) -> None:
    """The branch for batches that bring embeddings among tokens: its result is held to the end."""
    d, T = p.width, p.tokens
    p.graph.expand(p.graph.input("mixed_tokens", (T,), "i32"))
    p.graph.expand(p.graph.input("embd", (d, T)))
    given = op("DUP", (d, T), p.graph.input("mixed_embd", (d, T)))
    slots = p.graph.input("mixed_slots", (T,), "i64")
    other = op("GET_ROWS", (d, T), HELD, p.graph.input("mixed_tokens", (T,), "i32"))
    p.graph.expand(GgmlTensor("SET_ROWS", (d, T), (other, slots, given), root=given))


def _layer(p: GraphBuilder, layer: Layer, x: GgmlTensor, last: bool) -> GgmlTensor:
    norms = dict(zip(layer.norm_roles, layer.norms, strict=True))

    def wanted(t: GgmlTensor) -> GgmlTensor:
        return p.wanted(t) if last else t

    def normed(role: str, t: GgmlTensor) -> GgmlTensor:
        return p.norm(norms[role], t) if role in norms else t

    def scaled(t: GgmlTensor) -> GgmlTensor:
        return like("SCALE", t) if layer.residual_scale else t

    before = normed("input", x)
    if p.gguf.early_norm:
        p.graph.expand(before)
    assert isinstance(layer.mixer, Attention | StateSpace)  # a family with layers of another kind has no GGUF name yet
    mixed = attend(p, layer.mixer, before) if isinstance(layer.mixer, Attention) else mix(p, layer.mixer, before)
    if layer.wiring == "parallel":
        return _side_by_side(p, layer, norms, x, before, mixed, last)
    mixed = normed("post_mixer", wanted(mixed))
    x = _sum(p.gguf.sums[0], scaled(mixed), wanted(x))
    if layer.mlp is None:
        return x
    y = normed("post_mlp", feed(p, layer.mlp, normed("pre_mlp", x)))
    return _sum(p.gguf.sums[1], scaled(y), x)


def _sum(first: str, branch: GgmlTensor, residual: GgmlTensor) -> GgmlTensor:
    return like("ADD", branch, residual) if first == BRANCH else like("ADD", residual, branch)


def _side_by_side(
    p: GraphBuilder,
    layer: Layer,
    norms: dict[str, Norm],
    x: GgmlTensor,
    before: GgmlTensor,
    mixed: GgmlTensor,
    last: bool,
) -> GgmlTensor:
    """Attention and MLP of the same input; what is not expanded yet is reached where the sums need it."""

    def wanted(t: GgmlTensor) -> GgmlTensor:
        return p.wanted(t) if last else t

    residual = wanted(x)
    if "pre_mlp" not in norms:
        given = wanted(before)
    elif p.gguf.rows_first:
        given = p.norm(norms["pre_mlp"], residual)
    else:
        given = wanted(p.norm(norms["pre_mlp"], x))
    assert layer.mlp is not None
    parts = {MIXER: wanted(mixed), MLP_OUT: feed(p, layer.mlp, given)}
    one, two, three = (parts.get(name, residual) for name in p.gguf.parallel)
    return like("ADD", like("ADD", one, two), three)
