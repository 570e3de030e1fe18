"""The memory-bound kernels of a forward pass, as transformers' modeling files launch them one by one.

Norms, rotary embeddings, activations, residual sums, the cache's copies: what each reads and writes. Kernels over
contiguous tensors move bytes at the copy rate; kernels over broadcast or permuted ones are bound by the elements they
index, so these are counted apart. ``fused`` is a serving engine's set: one kernel a norm (with its residual), one for
the rotary embedding and the cache, one an activation.

Sources: transformers 5.23, models/llama/modeling_llama.py and its siblings; aten/native/cuda for what a kernel is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Layer, MoE, Norm, StateSpace, Table
from estimator.work.model import fused_exists

W = 2  # bytes of the model's own numbers
F = 4  # bytes of fp32


@dataclass(frozen=True, slots=True)
class Traffic:
    """Kernels of one kind.

    moved     bytes read and written by kernels over contiguous tensors
    strided   elements written by kernels over broadcast or permuted tensors
    kernels   how many are launched
    """

    moved: Any = 0
    strided: Any = 0
    kernels: Any = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.moved + other.moved, self.strided + other.strided, self.kernels + other.kernels)

    def split(self, p: int) -> Traffic:
        """One accelerator's share of it; each launches as many kernels."""
        return self if p == 1 else Traffic(self.moved / p, self.strided / p, self.kernels)

    def times(self, n: Any) -> Traffic:
        """As many layers of it."""
        return Traffic(self.moved * n, self.strided * n, self.kernels * n)


NOTHING = Traffic()
CAST = W + F  # bytes an element of a conversion between the two widths

# kind of norm -> (contiguous bytes, strided passes, kernels) an element
NORMS: dict[str, tuple[int, int, int]] = {
    # to fp32, square, mean, (+eps, rsqrt), x * inverse, to bf16, weight *
    "rms": (CAST + 2 * F + F + CAST, 2, 8),
    # as rms, with (1 + weight) in fp32 before the conversion
    "rms_plus1": (CAST + 2 * F + F + CAST, 2, 10),
    "rms_t5": (CAST + 2 * F + F + CAST, 2, 8),
    "rms_gated": (CAST + 2 * F + F + CAST + CAST + 2 * F + 3 * F, 2, 11),
    "layer": (2 * W, 0, 1),
    "none": (2 * CAST + 2 * F, 0, 3),
    # to fp32, mean, x - mean, square, mean, x - mean, (+eps, rsqrt), x * inverse, weight *, to bf16
    "layer_fp32": (CAST + F + 2 * F + F + CAST, 4, 12),
}
# activation -> (contiguous bytes, kernels) an element; the ones that transformers writes out op by op
ACTIVATIONS: dict[str, tuple[int, int]] = {
    # half * x; x**3; * c; x + ; * c; tanh; 1 + ; product
    "gelu_new": (6 * 2 * W + 2 * 3 * W, 8),
    "gelu_fast": (6 * 2 * W + 3 * 3 * W, 9),
    "quick_gelu": (2 * 2 * W + 3 * W, 3),
    "relu2": (2 * 2 * W, 2),
}
ONE_KERNEL = (2 * W, 1)


def norm(n: Norm, rows: Any, fused: bool) -> Traffic:
    """A normalisation of ``rows`` rows."""
    elements = rows * n.width * n.copies
    if fused:
        return Traffic(2 * W * elements, 0, 1)
    moved, strided, kernels = NORMS[n.kind]
    return Traffic(moved * elements, strided * elements, kernels)


def activation(name: str, elements: Any, fused: bool) -> Traffic:
    """An activation function."""
    moved, kernels = ONE_KERNEL if fused else ACTIVATIONS.get(name, ONE_KERNEL)
    return Traffic(moved * elements, 0, kernels)


def add(elements: Any) -> Traffic:
    """A residual sum."""
    return Traffic(3 * W * elements, 0, 1)


ROTARY_PASSES = 9  # in halves of an element: x * cos, -x2 (half), cat, * sin, +


def rotary(a: Attention, rows: Any) -> Traffic:
    """apply_rotary_pos_emb over queries and keys, which are permuted views: every pass is strided."""
    heads = a.heads + a.kv_heads if a.mla is None else a.heads + 1
    whole = rows * heads * a.head_dim
    part = a.head_dim if a.rope_dim is None else a.rope_dim
    passes = Traffic(0, rows * heads * part * ROTARY_PASSES // 2, 10)
    return passes if part == a.head_dim else passes + Traffic(0, whole, 2)


def attention(a: Attention, b: Any, s: Any, s_k: Any, eager: bool, fused: bool) -> Traffic:
    """What surrounds the two products of attention."""
    rows = b * s
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    cached = rows * (a.kv_heads * (a.head_dim + d_v) if a.mla is None else a.mla["kv_rank"] + a.mla["rope"])
    out = NOTHING
    for n in a.norms:
        copies = n if a.mla is not None or n.copies != 1 else Norm(n.name, _normed(a, n), n.kind)
        out += norm(copies, rows, fused)
    if fused:
        return out + Traffic(2 * W * rows * (a.heads + a.kv_heads) * a.head_dim + 2 * W * cached, 0, 2)
    if a.position == "rope":
        out += rotary(a, rows)
    if not a.cross:
        out += Traffic(0, cached, 2)  # into the cache
    if a.mla is not None:  # keys and values put together from their parts
        out += Traffic(0, rows * a.heads * (a.head_dim + d_v), 3)
    if eager:
        pairs = b * a.heads * s * s_k
        capped = 3 * 2 * W if a.softcap else 0
        # repeated heads, scaling, mask, softmax in fp32, conversion; the output transposed
        repeated = 2 * b * a.heads * s_k * a.head_dim if a.heads != a.kv_heads else 0
        out += Traffic(
            pairs * (2 * W + 3 * W + capped + CAST + CAST), repeated + rows * a.heads * d_v, 6 + (3 if a.softcap else 0)
        )
    if a.gate:
        out += Traffic(2 * W * rows * a.heads * d_v + 3 * W * rows * a.heads * d_v, 0, 2)
    return out


def _normed(a: Attention, n: Norm) -> Any:
    """The width that a q or k norm covers: all heads, one by one or at once."""
    heads = a.kv_heads if n.name.rpartition(".")[2].lower().startswith("k") else a.heads
    return heads * a.head_dim


def mlp(block: MLP, rows: Any, fused: bool) -> Traffic:
    """Activation, and the gate's product. A fused gate_up is cut into two views, which are strided."""
    elements = rows * block.width
    if fused:
        return Traffic((3 if block.gated else 2) * W * elements, 0, 1)
    if block.fused and block.gated:
        return Traffic(0, 2 * elements, 2)
    out = activation(block.act, elements, fused)
    return out + Traffic(3 * W * elements, 0, 1) if block.gated else out


MOE_KERNELS = 20  # softmax, top-k, sort, counts, gathers, weighting, scatter: models/mixtral, integrations/moe.py


def moe(block: MoE, rows: Any, fused: bool) -> Traffic:
    """Tokens gathered by expert, the experts' activation, the weighted sum back in the tokens' order."""
    routed = rows * block.per_token
    out = Traffic(3 * W * routed * block.width, 0, 2) + Traffic(
        2 * W * rows * block.d, 3 * routed * block.d, MOE_KERNELS
    )
    if fused:
        out = Traffic(3 * W * routed * block.width + 2 * 2 * W * routed * block.d, 0, 6)
    return out + mlp(block.shared, rows, fused) if block.shared is not None else out


SCAN_KERNELS = 6  # mamba_ssm: causal_conv1d, activation, selective scan, gate and their casts


def state_space(m: StateSpace, rows: Any, fused: bool) -> Traffic:
    """A recurrent mixer through its fused kernels: the convolution and the scan read and write their inputs once."""
    out = Traffic(2 * W * rows * m.conv_width + 4 * W * rows * m.inner, 0, SCAN_KERNELS)
    for n in m.norms:
        out += norm(Norm(n.name, m.inner, n.kind), rows, fused)
    return out


ADDS = {"pre": 2, "parallel": 2, "sandwich": 2, "post": 2, "mixer": 1}


def layer(
    group: Layer, hidden: Any, b: Any, s: Any, s_k: Any, s_enc: Any, eager: bool, fused: bool, shards: int = 1
) -> Traffic:
    """The memory-bound kernels of one layer."""
    rows = b * s
    out = NOTHING
    for n in group.norms:
        out += norm(n, rows, fused)
    if not fused:
        sums = ADDS[group.wiring] + (1 if group.cross is not None else 0)
        out += add(rows * hidden).times(sums)
        if group.residual_scale:
            out += Traffic(2 * 2 * W * rows * hidden, 0, 2)
    inner = NOTHING
    if isinstance(group.mixer, StateSpace):
        inner += state_space(group.mixer, rows, fused)
    else:
        inner += attention(group.mixer, b, s, s_k, eager, fused)
    if group.cross is not None:
        inner += attention(group.cross, b, s, s_enc, eager, fused)
    if isinstance(group.mlp, MoE):
        inner += moe(group.mlp, rows, fused)
    elif group.mlp is not None:
        inner += mlp(group.mlp, rows, fused)
    return out + inner.split(shards)


def forward(
    arch: Architecture,
    b: Any,
    s: Any,
    context: Any = 0,
    encoder: Any = None,
    fused: bool = False,
    sides: tuple[str, ...] = ("encoder", "decoder"),
    shards: int = 1,
) -> Traffic:
    """The memory-bound kernels of a forward pass of s new tokens over ``context`` cached ones.

    encoder: tokens of an encoder-decoder's encoder; sides: which of its stacks run. shards: tensor-parallel
    accelerators; norms and residual sums run whole on each.
    """
    eager = not fused and not fused_exists(arch)
    out = NOTHING
    for group in arch.layers:
        if group.side not in sides and arch.kind == "encoder-decoder":
            continue
        inside = arch.kind == "encoder-decoder" and group.side == "encoder"
        tokens, held = (encoder, 0) if inside else (s, context)
        out += layer(group, arch.hidden, b, tokens, tokens + held, encoder, eager, fused, shards).times(group.times)
    rows = b * s
    tables = sum(1 for x in arch.embeddings if isinstance(x, Table))
    out += Traffic(2 * W * rows * arch.hidden, 0, 1 + 2 * (tables - 1) if tables else 1)
    for part in arch.final:
        if isinstance(part, Norm):
            out += norm(part, rows, fused)
    return out
