"""A whole model's micro-batch in llama.cpp: embeddings, layers, the rows that are wanted, logits.

Source: src/llama-graph.cpp (build_inp_embd), src/models/*.cpp, build 11549.
"""

from __future__ import annotations

from estimator.engines.llamacpp.attention import attend
from estimator.engines.llamacpp.context import Context
from estimator.engines.llamacpp.copies import AltUp, copied, merged, opened, own_input, own_inputs, own_rows
from estimator.engines.llamacpp.feedforward import feed, side_by_side
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, view
from estimator.engines.llamacpp.passes import GraphBuilder, Lora, size
from estimator.engines.llamacpp.recurrent import mix
from estimator.engines.llamacpp.shifted import mixes_tokens, shifted_layer
from estimator.families.base import POSITION, TOKEN_TYPE, Architecture, Attention, Layer, Lookup, MoE, NoMixer, Norm
from estimator.families.common_gguf import BRANCH, MIXER, MLP_OUT, Gguf, blocks, of_side


def build(arch: Architecture, gguf: Gguf, context: Context, loras: tuple[Lora, ...] = ()) -> GraphBuilder:
    """The graph that llama.cpp reserves for a prompt's micro-batch."""
    p = GraphBuilder(arch, gguf, context, loras)
    rows = own_rows(p) if gguf.table_first else None
    x, deep = _embedded(p)
    rows = rows or own_rows(p)
    own = own_inputs(p, x, rows) if rows is not None else None
    if copied(p):
        x = opened(p, x)
    order = ordered(arch)
    for i, layer in enumerate(order):
        p.begin()
        x = _layer(p, layer, x, own, last=i == len(order) - 1)
        if i < len(deep):
            x = like("ADD", x, deep[i])
    for _ in range(len(order), blocks(arch)):
        p.begin()
    p.begin()
    if copied(p):
        x = merged(p, x)
    if gguf.keeps_last:
        x.output = True
    for part in arch.final:
        if isinstance(part, Norm):
            x = p.norm(part, x)
    x.output = True
    if context.pooling:
        p.graph.expand(x)
        p.graph.expand(_pooled(p, x))
        p.check_adapters()
        return p
    logits = p.linear(x, size(arch.vocab), name=arch.head.name if arch.head is not None else arch.embeddings[0].name)
    logits.output = True
    p.graph.expand(logits)
    p.check_adapters()
    return p


def _pooled(p: GraphBuilder, x: GgmlTensor) -> GgmlTensor:
    """One row a sequence of an encoder's rows ``x`` [d, T]."""
    n = p.sequences
    if p.context.pooling == "mean":
        mean = p.graph.input("mean", (p.tokens, n))
        x = op("MUL_MAT", (p.width, n), op("CONT", (p.tokens, p.width), view(x)), mean)
    elif p.context.pooling != "none":
        x = op("GET_ROWS", (p.width, n), x, p.graph.input("cls", (n,), "i32"))
    x.output = True
    return x


def ordered(arch: Architecture) -> list[Layer]:
    """Every layer in the order of the stack; of an encoder-decoder those of the decoder, whose pass is reserved."""
    at: dict[int, Layer] = {}
    for layer in of_side(arch, "decoder").layers:
        at |= dict.fromkeys(layer.indices if layer.indices is not None else range(size(layer.times)), layer)
    return [at[i] for i in sorted(at)]


def _embedded(p: GraphBuilder) -> tuple[GgmlTensor, list[GgmlTensor]]:
    """Token rows, scaled, placed and normed as the family does; the rows that are added behind the first layers."""
    d, T = p.width, p.tokens
    x = p.graph.expand(op("GET_ROWS", (d, T), HELD, p.graph.input("tokens", (T,), "i32")))
    deep: list[GgmlTensor] = []
    if p.context.selected:
        wide = _mixed(p, x)
        if p.gguf.deepstack:
            x = view(wide, (d, T), strided=True)
            deep = [view(x, (d, T), strided=True) for _ in range(p.gguf.deepstack)]
    if p.arch.facts.get("embed_scale") and not p.gguf.folded:
        by_row = p.gguf.embed_rows and p.context.mixed
        x = like("MUL", x, p.graph.input("scale_rows", (1, T))) if by_row else like("SCALE", x)
        p.graph.expand(x)
    for part in sorted(p.arch.embeddings, key=_place):
        if isinstance(part, Lookup) and part.role == POSITION:
            row = op("GET_ROWS", (d, T), HELD, p.positions())
            x = like("ADD", row, x) if p.context.pooling else like("ADD", x, row)
        elif isinstance(part, Lookup) and part.role == TOKEN_TYPE:
            x = like("ADD", x, HELD)  # one row for all: the first kind of token
        elif isinstance(part, Norm):
            x = p.norm(part, x)
    return x, deep


def _place(part: Lookup | Norm) -> int:
    """When a table is added: kinds of tokens, positions, and the norm behind them."""
    return {TOKEN_TYPE: 0, POSITION: 1}.get(part.role, 2) if isinstance(part, Lookup) else 3


def _mixed(p: GraphBuilder, x: GgmlTensor) -> GgmlTensor:
    """The branches for batches that bring embeddings, and among tokens: what they hold is held to the end.

    Gives the rows of ``x``, padded to the width of what is brought: an image's rows come with those of ``deepstack``.
    """
    wide, T = (p.width * (1 + p.gguf.deepstack), p.tokens), p.tokens
    if p.gguf.deepstack and not p.context.mixed:
        x = p.graph.expand(op("PAD", wide, x))
    if not p.context.mixed:
        p.graph.expand(p.graph.input("embd", wide))
        return x
    other = op("GET_ROWS", x.shape, HELD, p.graph.input("mixed_tokens", (T,), "i32"))
    if p.gguf.deepstack:
        p.graph.expand(other)
        x, other = p.graph.expand(op("PAD", wide, x)), op("PAD", wide, other)
    p.graph.expand(p.graph.input("mixed_tokens", (T,), "i32"))
    p.graph.expand(p.graph.input("embd", wide))
    given = op("DUP", wide, p.graph.input("mixed_embd", wide))
    slots = p.graph.input("mixed_slots", (T,), "i64")
    p.graph.expand(GgmlTensor("SET_ROWS", wide, (other, slots, given), root=given))
    return x


def _layer(p: GraphBuilder, layer: Layer, x: GgmlTensor, own: GgmlTensor | None, last: bool) -> GgmlTensor:
    if mixes_tokens(layer):
        return shifted_layer(p, layer, x, last)
    norms = dict(zip(layer.norm_roles, layer.norms, strict=True))

    def wanted(t: GgmlTensor) -> GgmlTensor:
        return p.wanted(t) if last else t

    def normed(role: str, t: GgmlTensor) -> GgmlTensor:
        return p.norm(norms[role], t) if role in norms else t

    given = None if own is None else view(own, own.shape[:2], strided=True)
    if layer.wiring == "altup":
        return _on_copies(p, layer, norms, x, given)
    before = normed("input", x)
    if p.gguf.early_norm:
        p.graph.expand(before)
    if isinstance(layer.mixer, NoMixer):
        assert layer.mlp is not None
        return _sum(p.gguf.sums[1], wanted(feed(p, layer.mlp, normed("pre_mlp", x))), wanted(x))
    mixed = attend(p, layer.mixer, before) if isinstance(layer.mixer, Attention) else mix(p, layer.mixer, before)
    if layer.cross is not None:
        x = _sum(p.gguf.sums[0], mixed, x)
        mixed = attend(p, layer.cross, normed("pre_cross", x))
    if layer.second is not None:
        both = like("ADD", mixed, mix(p, layer.second, normed("input", x)))
        x = wanted(_sum(p.gguf.sums[0], both, x))
        return _fed(p, layer, norms, x)
    if layer.wiring == "post" and not layer.branch_norms:
        x = normed("post_mixer", like("ADD", wanted(mixed), wanted(x)))
        assert layer.mlp is not None
        return normed("post_mlp", like("ADD", feed(p, layer.mlp, x), x))
    if layer.wiring == "parallel":
        return _side_by_side(p, layer, norms, x, before, mixed, last)
    mixed = wanted(normed("post_mixer", mixed)) if p.gguf.rows_last else normed("post_mixer", wanted(mixed))
    x = _fed(p, layer, norms, _sum(p.gguf.sums[0], _scaled(layer, mixed), wanted(x)))
    if given is not None:
        x = like("ADD", x, own_input(p, layer.chains[-1], x, wanted(given)))
    return like("MUL", x, HELD) if p.gguf.layer_scale else x


def _on_copies(
    p: GraphBuilder, layer: Layer, norms: dict[str, Norm], x: GgmlTensor, given: GgmlTensor | None
) -> GgmlTensor:
    """A layer on AltUp's copies of the stream."""
    assert given is not None
    assert isinstance(layer.mixer, Attention)
    around = AltUp(p, layer)
    guess = around.predicted(x)
    first = view(guess, guess.shape[:2], strided=True)
    before = p.norm(norms["input"], first)
    mixed = like("ADD", p.norm(norms["post_mixer"], attend(p, layer.mixer, before)), first)
    return around.corrected(guess, _fed(p, layer, norms, around.beside(mixed, before)), given)


def _fed(p: GraphBuilder, layer: Layer, norms: dict[str, Norm], x: GgmlTensor) -> GgmlTensor:
    """The second half of a layer."""
    if layer.mlp is None:
        return x
    if isinstance(layer.mlp, MoE) and layer.mlp.norms:
        y = side_by_side(p, layer.mlp, norms["pre_mlp"], x)
    else:
        y = feed(p, layer.mlp, p.norm(norms["pre_mlp"], x) if "pre_mlp" in norms else x)
    y = p.norm(norms["post_mlp"], y) if "post_mlp" in norms else y
    return _sum(p.gguf.sums[1], _scaled(layer, y), x)


def _scaled(layer: Layer, branch: GgmlTensor) -> GgmlTensor:
    return like("SCALE", branch) if layer.residual_scale else branch


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
