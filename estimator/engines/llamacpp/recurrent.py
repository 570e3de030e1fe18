"""Recurrent mixers as llama.cpp runs them: Mamba, Mamba 2, the gated delta nets, LFM2's short convolution.

Each keeps a convolution's last inputs (R) and, but for the short convolution, a state (S), both in fp32, a sequence
and layer. Source: src/llama-graph.cpp (build_rs), src/models/mamba-base.cpp, qwen3next.cpp, kimi-linear.cpp, lfm2.cpp,
build 11549.
"""

from __future__ import annotations

from collections.abc import Callable

from estimator.engines.llamacpp.graph import CACHE, HELD, GgmlTensor, cached, like, op, store, view
from estimator.engines.llamacpp.passes import GraphBuilder, size
from estimator.errors import InputError
from estimator.families.base import Architecture, Layer, StateSpace
from estimator.records import NamedTuple

SHIFTING = ("wkv6", "gated_linear", "wkv7")  # they keep as many inputs as they name, not one less than a kernel reads


class States(NamedTuple):
    """Elements that a layer keeps for one sequence: of the convolution (R) and of the state (S)."""

    conv: int
    state: int


def states_of(m: StateSpace) -> States:
    """Elements of R and S: llama_hparams::n_embd_r, n_embd_s."""
    kept = (size(m.conv_kernel) - (m.kind not in SHIFTING)) * size(m.conv_width)
    return States(
        kept, 0 if m.kind == "short_conv" else size(m.sizes["heads"]) * size(m.sizes["head_dim"]) * size(m.state)
    )


def check_states(arch: Architecture, layer: Layer) -> None:
    """InputError for a delta net that llama.cpp's file cannot say: Kimi Linear's has the heads of its attention."""
    m = layer.mixer
    if isinstance(m, StateSpace) and m.kind == "channel_delta":
        heads = {size(a.heads) for a in arch.attentions}
        if heads and heads != {size(m.sizes["heads"])}:
            raise InputError(
                f"llama.cpp gives {arch.model_type}'s delta net the heads of its attention, and this model has "
                f"{size(m.sizes['heads'])} beside {max(heads)}"
            )


def mix(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """The mixer of a layer over ``x`` [d, T]: [d, T]."""
    return MIXERS[m.kind](p, m, x)


def _copies(p: GraphBuilder) -> GgmlTensor:
    return p.graph.input("rs_copy", (p.sequences,), "i32")


def _cleared(p: GraphBuilder, elements: int) -> GgmlTensor:
    """The states as rows, one of them zeroed in the cache: only views."""
    rows = view(cached((elements, p.sequences), "f32"))
    p.graph.expand(GgmlTensor("SCALE", rows.shape, (view(rows),), root=CACHE))
    return rows


def read(p: GraphBuilder, elements: int) -> GgmlTensor:
    """One layer's states of every sequence, gathered; those of idle sequences (none here) are written back."""
    rows = op("GET_ROWS", (elements, p.sequences), _cleared(p, elements), _copies(p))
    main = p.graph.expand(view(rows))
    p.graph.expand(store(view(rows, (elements, 0))))
    return main


def _window(p: GraphBuilder, m: StateSpace, states: GgmlTensor, x: GgmlTensor) -> GgmlTensor:
    """The kept inputs and the new ones ``x`` [width, T] side by side, whose last are kept in turn."""
    kept, width, each = size(m.conv_kernel) - 1, x.shape[0], p.tokens // p.sequences
    y = op("CONCAT", (kept + each, width, p.sequences), view(states), view(x, strided=True))
    p.graph.expand(store(view(y, (kept, width, p.sequences), strided=True)))
    return y


def _convolved(p: GraphBuilder, m: StateSpace, window: GgmlTensor) -> GgmlTensor:
    y = op("SSM_CONV", (size(m.conv_width), p.tokens), window, HELD)
    biased = any(e.name.endswith("conv1d.bias") for e in m.extras)
    return like("SILU", like("ADD", y, HELD) if biased else y)


def _scanned(p: GraphBuilder, m: StateSpace, scan: Callable[[GgmlTensor], tuple[GgmlTensor, ...]]) -> GgmlTensor:
    """The scan: its outputs and, behind them, the new states, which are written back."""
    state = states_of(m).state
    rows = _cleared(p, state)
    copies = view(_copies(p), (p.sequences,))
    operands = scan(view(rows))
    y = op("SSM_SCAN", (size(m.inner) * p.tokens + state * p.sequences,), *operands, copies)
    p.graph.expand(y)
    idle = op("GET_ROWS", (state, p.sequences - 1), rows, view(_copies(p)))  # sized for a batch of one sequence
    p.graph.expand(store(view(idle)))
    p.graph.expand(store(view(y, (state, p.sequences), strided=True)))
    return y


def selective(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """Mamba 1: in_proj, convolution, the scan, the gate; Jamba norms the time step, B and C."""
    into, to_step, step_up, out = m.linears
    inner, n, rank, T = size(m.inner), size(m.state), size(m.sizes["dt_rank"]), p.tokens
    states = read(p, states_of(m).conv)
    both = p.through(into, view(x))
    window = _window(p, m, states, view(both, (inner, T), strided=True))
    y = _convolved(p, m, window)

    def scan(rows: GgmlTensor) -> tuple[GgmlTensor, ...]:
        parts = p.through(to_step, y)
        step, b, c = (view(parts, shape, strided=True) for shape in ((rank, T), (n, 1, T), (n, 1, T)))
        if m.norms and m.norms[0].affine:
            step, b, c = (p.norm(norm, t) for norm, t in zip(m.norms, (step, b, c), strict=True))
        else:
            step = op("CONT", step.shape, step)
        return rows, view(y, (1, inner, T)), p.linear(step, size(step_up.d_out), True), HELD, b, c

    scanned = _scanned(p, m, scan)
    z = op("CONT", (inner, T), view(both, (inner, T), strided=True))
    summed = like("ADD", view(scanned, (inner, T)), like("MUL", y, HELD))
    return view(p.through(out, op("GLU", (inner, T), z, summed)))


def chunked(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """Mamba 2: one projection to gate, x, B, C and time step; a grouped norm behind the gate."""
    into, out = m.linears
    inner, n, T = size(m.inner), size(m.state), p.tokens
    heads, width, groups = (size(m.sizes[name]) for name in ("heads", "head_dim", "groups"))
    states = read(p, states_of(m).conv)
    all_parts = view(p.through(into, x))
    window = _window(p, m, states, view(all_parts, (size(m.conv_width), T), strided=True))
    y = _convolved(p, m, window)
    xs = view(y, (width, heads, T), strided=True)

    def scan(rows: GgmlTensor) -> tuple[GgmlTensor, ...]:
        step = like("ADD", op("CONT", (heads, T), view(all_parts, (heads, T), strided=True)), HELD)
        b, c = (view(y, (n, groups, T), strided=True) for _ in range(2))
        return rows, xs, step, HELD, b, c

    scanned = _scanned(p, m, scan)
    z = op("CONT", (width, heads, T), view(all_parts, (width, heads, T), strided=True))
    summed = like("ADD", view(scanned, xs.shape), like("MUL", xs, HELD))
    gated = op("GLU", xs.shape, z, summed)
    if m.norms:
        gated = p.norm(m.norms[0], view(gated, (inner // groups, groups, T)))
    return p.through(out, view(gated, (inner, T)))


def delta(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """The gated delta net: convolved q, k, v; decay and beta a head; the rule; a norm gated by z."""
    h_k, h_v, d_k, d_v = (size(m.sizes[name]) for name in ("key_heads", "value_heads", "key_dim", "value_dim"))
    T, inner, out = p.tokens, size(m.inner), m.linears[-1]
    p.graph.expand(x)
    elements = states_of(m)
    states = read(p, elements.conv)
    apart = len(m.linears) > 3  # a matrix each to decay and beta (Qwen3.5); the kernel repeats the heads itself
    qkv, z, weight, fade = (x.name for x in m.linears[:4]) if apart else ("",) * 4
    window = _window(p, m, states, view(p.linear(x, size(m.conv_width), name=qkv)))
    held = read(p, elements.state)
    y = _convolved(p, m, window)

    def spread() -> GgmlTensor:
        normed = like("SCALE", like("RMS_NORM", view(y, (d_k, h_k, T), strided=True)))
        if h_k == h_v or apart:
            return normed
        return view(op("REPEAT", (d_k, h_v // h_k, h_k, T), view(normed, (d_k, 1, h_k, T))), (d_k, h_v, T))

    q, k = spread(), spread()
    v = view(y, (d_v, h_v, T), strided=True)
    if apart:
        step, opened = p.linear(x, h_v, name=fade), p.linear(x, h_v, name=weight)
    else:
        parts, half = view(p.linear(x, 2 * h_v), (2 * h_v // h_k, h_k, T)), (h_v // h_k, h_k, T)
        step, opened = (op("CONT", shape, view(parts, half, strided=True)) for shape in ((h_v, T), half))
    decay = view(like("MUL", like("SOFTPLUS", like("ADD", step, HELD)), HELD), (1, h_v, T))
    beta = view(like("SIGMOID", view(opened)), (1, h_v, T))
    rule = op("GATED_DELTA_NET", (inner, T + d_v * p.sequences), q, k, v, decay, beta, view(held))
    p.graph.expand(store(view(rule, (elements.state, p.sequences), strided=True)))
    normed = p.norm(m.norms[0], view(rule, (d_v, h_v, T), strided=True))
    gate = like("SILU", view(p.linear(x, inner, name=z), (d_v, h_v, T)))
    return view(p.through(out, view(like("MUL", normed, gate), (inner, T))))


def channel_delta(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """Kimi's delta net: a convolution each of q, k and v, a decay a channel out of a rank, a norm behind a sigmoid."""
    *three, rank, up, weight, gate_rank, gate_up, out = m.linears
    heads, width, inner, T = size(m.sizes["heads"]), size(m.sizes["head_dim"]), size(m.inner), p.tokens
    elements = states_of(m)
    states = read(p, elements.conv)
    windows = [_window(p, m, states, view(p.through(linear, x))) for linear in three]
    q, k, v = (view(like("SILU", view(op("SSM_CONV", (inner, T), w, HELD))), (width, heads, T)) for w in windows)
    decay = like("SOFTPLUS", like("ADD", p.through(up, p.through(rank, x)), HELD))
    decay = view(like("MUL", view(decay, (width, heads, T)), HELD))
    beta = like("SIGMOID", view(p.through(weight, x), (1, heads, T)))
    held = read(p, elements.state)
    q, k = (like("SCALE", like("RMS_NORM", t)) for t in (q, k))
    rule = op("GATED_DELTA_NET", (inner, T + width * p.sequences), q, k, v, decay, beta, view(held))
    p.graph.expand(store(view(rule, (elements.state, p.sequences), strided=True)))
    y = op("CONT", (width, heads, T), view(rule, (width, heads, T), strided=True))
    opened = like("SIGMOID", view(p.through(gate_up, p.through(gate_rank, view(x))), (width, heads, T)))
    gated = like("MUL", p.norm(m.norms[0], view(y)), opened)
    return p.through(out, op("CONT", (inner, T), gated))


def short(p: GraphBuilder, m: StateSpace, x: GgmlTensor) -> GgmlTensor:
    """LFM2: two gates around a short convolution."""
    into, out = m.linears
    width, T = size(m.conv_width), p.tokens
    states = read(p, states_of(m).conv)
    three = p.through(into, view(x))
    b, c, given = (view(three, (width, T), strided=True) for _ in range(3))
    window = _window(p, m, states, view(like("MUL", b, given), strided=True))
    y = op("SSM_CONV", (width, T), window, HELD)
    return view(p.through(out, like("MUL", c, y)))


MIXERS: dict[str, Callable[[GraphBuilder, StateSpace, GgmlTensor], GgmlTensor]] = {
    "selective": selective,
    "chunked": chunked,
    "gated_delta": delta,
    "channel_delta": channel_delta,
    "short_conv": short,
}
