"""Layers of RWKV 6 and 7 as llama.cpp runs them: each token is mixed with the one before, which a state keeps.

A layer keeps the last input of its time mixing and, where the feed-forward half mixes too, of that (R), and a matrix a
head (S), in fp32. Source: src/models/rwkv6-base.cpp, rwkv7-base.cpp, rwkv6.cpp, rwkv7.cpp, arwkv7.cpp,
rwkv6qwen2.cpp, src/llama-graph.cpp (build_rwkv_token_shift_load), build 11434; held to build 11549's own graphs.
"""

from __future__ import annotations

from collections.abc import Callable

from estimator.engines.llamacpp.feedforward import mlp
from estimator.engines.llamacpp.graph import HELD, GgmlTensor, like, op, store, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.engines.llamacpp.recurrent import read, states_of
from estimator.families.base import MLP, Layer, StateSpace
from estimator.families.common_gguf import RESCALED


def mixes_tokens(layer: Layer) -> bool:
    """Whether it is a layer of RWKV, which reads the token before beside each token."""
    return isinstance(layer.mixer, StateSpace) and layer.mixer.kind in MIXERS


def shifted_layer(p: GraphBuilder, layer: Layer, x: GgmlTensor, last: bool) -> GgmlTensor:
    """A layer over ``x`` [d, T]: [d, T], or the wanted rows behind the last layer."""
    m, block = layer.mixer, layer.mlp
    assert isinstance(m, StateSpace)
    assert isinstance(block, MLP)
    before_mixer, before_mlp = layer.norms
    d, T, n = p.width, p.tokens, p.sequences
    each = (d, T // n, n)
    x, both = view(x, each), bool(block.extras)
    kept = view(read(p, states_of(m).conv), (d, 1 + both, n))

    def previous(t: GgmlTensor) -> GgmlTensor:
        return op("CONCAT", each, view(kept, (d, 1, n), strided=True), view(t, (d, T // n - 1, n), strided=True))

    normed = p.norm(before_mixer, x)
    mixed = MIXERS[m.kind](p, m, normed, previous(normed))
    if not both:
        p.graph.expand(store(view(view(normed, (d, 1, n), strided=True))))
    x = like("ADD", mixed, x)
    if both:
        given = p.norm(before_mlp, x)
        older = previous(given)
        lasts = op("CONCAT", (d, 2, n), *(view(t, (d, 1, n), strided=True) for t in (normed, given)))
        p.graph.expand(store(view(lasts)))
        x, given, older = (_wanted(p, view(t, (d, T)), last) for t in (x, given, older))
        y = _channel_mix(p, block, given, older)
    else:
        x = _wanted(p, view(x, (d, T)), last)
        y = mlp(p, block, p.norm(before_mlp, x))
    x = like("ADD", y, x)
    every = int(p.arch.facts.get(RESCALED, 0))
    return like("SCALE", x) if every and len(p.starts) % every == 0 else x


def _wanted(p: GraphBuilder, t: GgmlTensor, last: bool) -> GgmlTensor:
    return p.wanted(t) if last else t


def _channel_mix(p: GraphBuilder, block: MLP, x: GgmlTensor, before: GgmlTensor) -> GgmlTensor:
    """The feed-forward half: a square of a ReLU, gated where there is a receptance."""
    key, value = block.linears
    apart = like("SUB", before, x)
    mixed = like("ADD", like("MUL", apart, HELD), x)
    gate: GgmlTensor | None = None
    if block.receptance is not None:
        gate = like("SIGMOID", p.through(block.receptance, like("ADD", like("MUL", apart, HELD), x)))
    y = p.through(value, like("SQR", like("RELU", p.through(key, mixed))))
    return y if gate is None else like("MUL", gate, y)


def _folded(p: GraphBuilder, m: StateSpace, name: str, *operands: GgmlTensor) -> GgmlTensor:
    """The recurrence: its outputs and, behind them, the new states, which are written back."""
    d, T = p.width, p.tokens
    state = read(p, states_of(m).state)
    y = op(name, (d, T + size(m.state) * p.sequences), *operands, state)
    p.graph.expand(store(view(y, (states_of(m).state * p.sequences,), strided=True)))
    return view(y, (d * T,))


def _grouped(p: GraphBuilder, m: StateSpace, y: GgmlTensor) -> GgmlTensor:
    """The recurrence's outputs [d, T], each head normalised where the model does."""
    d, T = p.width, p.tokens
    if not m.norms:
        return view(y, (d, T))
    y = like("NORM", view(y, (size(m.sizes["head_dim"]), size(m.sizes["heads"]), T)))
    return like("ADD", like("MUL", view(y, (d, T)), HELD), HELD)


def _low_rank(p: GraphBuilder, x: GgmlTensor, rank: int, act: str = "") -> GgmlTensor:
    """Two thin matrices, with an activation between them."""
    y = p.linear(x, rank)
    return p.linear(like(act, y) if act else y, p.width)


def delta_rule(p: GraphBuilder, m: StateSpace, x: GgmlTensor, before: GgmlTensor) -> GgmlTensor:
    """RWKV 7's time mixing of ``x`` [d, T/n, n]: the delta rule with a decay and a rate of every channel."""
    d, T = p.width, p.tokens
    decay, rate, value, gate = (size(m.sizes[k]) for k in ("decay", "rate", "value", "gate"))
    heads = (size(m.sizes["head_dim"]), size(m.sizes["heads"]), T)
    to_r, to_k, to_v, out = m.linears[:4]
    wide = (*x.shape, 6 if gate else 5)
    all_mixed = like("ADD", like("MUL", op("REPEAT", wide, like("SUB", before, x)), HELD), x)
    x_r, x_w, x_k, x_v, x_a, x_g = (view(all_mixed, (d, T), strided=True) for _ in range(6))

    r = p.through(to_r, x_r)
    w = like("ADD", _low_rank(p, x_w, decay, "TANH"), HELD)
    w = like("EXP", like("SCALE", like("SIGMOID", w)))
    k, v = p.through(to_k, x_k), p.through(to_v, x_v)
    if p.first_values is None:
        p.first_values = v
    else:
        share = like("SIGMOID", like("ADD", _low_rank(p, x_v, value), HELD))
        v = like("ADD", v, like("MUL", like("SUB", p.first_values, v), share))
    opened = _low_rank(p, x_g, gate, "SIGMOID") if gate else None
    a = like("SIGMOID", like("ADD", _low_rank(p, x_a, rate), HELD))
    unit = like("L2_NORM", view(like("MUL", k, HELD), heads))
    k_a = like("MUL", k, HELD)
    k = like("ADD", k, like("SUB", like("MUL", a, k_a), k_a))
    r, w, k, v, a = (view(t, heads) for t in (r, w, k, v, a))
    y = _folded(p, m, "RWKV_WKV7", r, w, k, v, like("NEG", unit), like("MUL", unit, a))
    y = _grouped(p, m, y)
    bonus = op("SUM_ROWS", (1, *heads[1:]), like("MUL", like("MUL", k, r), HELD))
    y = like("ADD", y, view(like("MUL", v, bonus), (d, T)))
    if opened is not None:
        y = like("MUL", y, opened)
    return view(p.through(out, y), x.shape)


def _readings(shares: GgmlTensor, apart: GgmlTensor, x: GgmlTensor, alone: bool) -> list[GgmlTensor]:
    """Five readings of ``x`` [d, T], mixed with the tokens before; alone: by a tensor for each (files of 2024)."""
    d, T = x.shape

    def mixed(share: GgmlTensor, shape: tuple[int, ...]) -> GgmlTensor:
        return like("ADD", like("MUL", like("ADD", share, HELD), view(apart, shape)), view(x, shape))

    if alone:
        return [mixed(view(shares, (d, T), strided=True), (d, T)) for _ in range(5)]
    whole = mixed(shares, (d, 1, T))
    return [view(whole, (d, T), strided=True) for _ in range(5)]


def decaying(p: GraphBuilder, m: StateSpace, x: GgmlTensor, before: GgmlTensor) -> GgmlTensor:
    """RWKV 6's time mixing of ``x`` [d, T/n, n]: how far tokens are mixed, and the decay, depend on both."""
    d, T, linear = p.width, p.tokens, m.kind == "gated_linear"
    mix, width, heads, keys = (size(m.sizes[k]) for k in ("mix", "head_dim", "heads", "keys"))
    to_r, to_k, to_v, to_g, out = m.linears
    apart, flat = view(like("SUB", before, x), (d, T)), view(x, (d, T))
    thin = like("TANH", p.linear(like("ADD", like("MUL", apart, HELD), flat), 5 * mix))
    thin = op("CONT", (mix, 1, T, 5), view(thin, (mix, 1, T, 5), strided=True))
    shares = op("MUL_MAT", (d, 1, T, 5), HELD, thin)
    x_w, x_k, x_v, x_r, x_g = _readings(shares, apart, flat, bool(m.sizes.get("apart")))
    r, k, v = p.through(to_r, x_r), p.through(to_k, x_k), p.through(to_v, x_v)
    gate = like("SIGMOID" if linear else "SILU", p.through(to_g, x_g))
    if keys != heads:
        k, v = (op("REPEAT", (width, heads // keys, keys, T), view(t, (width, 1, keys, T))) for t in (k, v))
    k, v, r = (view(t, (width, heads, T)) for t in (k, v, r))
    w = like("ADD", _low_rank(p, x_w, size(m.sizes["decay"]), "TANH"), HELD)
    w = view(like("EXP", like("NEG", like("EXP", w))), (width, heads, T))
    if linear:
        k = like("SUB", k, like("MUL", k, w))
        y = _folded(p, m, "GATED_LINEAR_ATTN", k, v, r, w)
    else:
        y = _folded(p, m, "RWKV_WKV6", k, v, r, HELD, w)
    return view(p.through(out, like("MUL", _grouped(p, m, y), gate)), x.shape)


MIXERS: dict[str, Callable[[GraphBuilder, StateSpace, GgmlTensor, GgmlTensor], GgmlTensor]] = {
    "wkv6": decaying,
    "gated_linear": decaying,
    "wkv7": delta_rule,
}
