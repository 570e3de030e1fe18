"""Layers: how a family wires norms, mixers and MLPs, in the order and with the locals of its modeling file."""

from __future__ import annotations

from typing import Any

from estimator.families.base import MLP, Attention, Layer, MoE, Norm, StateSpace
from estimator.stack import across, moves, ops
from estimator.stack.attention import attend, cached, head_norm, rotate
from estimator.stack.feedforward import mlp
from estimator.stack.machine import Machine
from estimator.stack.nn import linear
from estimator.stack.norms import norm
from estimator.stack.rotation import concatenates, rotated
from estimator.stack.special import SPECIAL, of_positions
from estimator.stack.tape import Tensor

Positions = dict[str, Any]


def attention(m: Machine, x: Tensor, a: Attention, at: Positions) -> Tensor:
    """Self-attention with separate or fused projections, q/k norms, rotary embedding and the cache."""
    if a.form != "interface" and not m.one_kernel:
        return FORMS[a.form](m, x, a, at)
    if a.gate:
        from estimator.stack.delta import gated_attention

        return gated_attention(m, x, a, at)
    if a.mla is not None:
        from estimator.stack.mla import latent

        return latent(m, x, a, at)
    if a.reuses:
        return reused(m, x, a, at)
    if m.sequence:
        x = across.gathered(m.t, x, m.tensor, m.b != 1)
    q, k, v = projected(m, x, a)
    if m.release.fuses:
        from estimator.stack.codes import padded_adapters

        q = padded_adapters(m, q, a)
    if a.query_scale == "projected":
        q = ops.scale(m.t, q, "scaled queries")
    gate = linear(m, x, a.out_gate) if a.out_gate is not None else None
    whole = bool(a.norms) and a.norms[0].width != a.head_dim  # normalised, then viewed head by head
    if not whole:
        moves.viewed(q, k, v)
    if a.norms and a.normed == "viewed":
        q, k = head_norm(m, q, a.norms[0]), head_norm(m, k, a.norms[1])
        v = head_norm(m, v, a.norms[2]) if len(a.norms) > 2 else v
    if whole:
        moves.viewed(q, k, v)
    seen_by_heads(a, q, k, v)
    if a.norms and a.normed == "transposed":
        q, k = head_norm(m, q, a.norms[0]), head_norm(m, k, a.norms[1])
    if a.position == "rope":
        q, k = rotated(m, q, k, a, at)
    if a.norms and a.normed == "rotated":
        q, k = head_norm(m, q, a.norms[0]), head_norm(m, k, a.norms[1])
    if a.query_scale == "rotated":
        q = ops.scale(m.t, q, "scaled queries")
    k, v = cached(m, a, k, v)
    if m.stores:
        at["shared"][a.window] = k, v
    major = a.position == "rope" and (concatenates(a) or m.release.fuses)
    mask = at["masks"](m, a)
    if a.indexer is not None:
        from estimator.stack.mla import index

        index(m, x, x, a.indexer)
        mask = m.t.alloc(m.rows * a.heads * m.kv, m.w, "mask of the chosen keys")
    out = attend(m, q, k, v, a, mask, major, of_positions(m, q, k, a))
    if gate is not None:
        out = ops.mul(m.t, out, ops.sigmoid(m.t, gate), "gated heads")
        moves.fused(m.t, "gate", 3 * out.n * out.w)
    if a.out_norm is not None:
        out = norm(m, out, a.out_norm)
    return linear(m, out, a.out)


def reused(m: Machine, x: Tensor, a: Attention, at: Positions) -> Tensor:
    """Attention over the keys and values of the last layer of its kind that has some; a checkpointed layer computes
    them again, and what stands for them then lives, with all that they were made of, while layers name the dictionary
    (shared_kv_states)."""
    q = head_norm(m, linear(m, x, a.projections[0]), a.norms[0])
    moves.by_heads(q)
    if a.position == "rope":
        cos, sin = at["rope"](m, a)
        moves.fused(m.t, "rotary embedding", 2 * q.n * q.w)
        q = rotate(m.t, q, cos, sin)
    if a.window in at.get("shared", ()):
        k, v = at["shared"][a.window]
    else:  # of a layer that this part of a model does not run
        tokens = m.held_tokens(a) if m.cache is not None else m.kv
        k, v = (m.t.alloc(m.b * tokens * a.kv_heads * a.head_dim, q.w, what) for what in ("keys", "values"))
    return linear(m, attend(m, q, k, v, a, at["masks"](m, a)), a.out)


def seen_by_heads(a: Attention, q: Tensor, k: Tensor, v: Tensor) -> None:
    """View them with the heads before the tokens: a single head lies as before."""
    moves.by_heads(q)
    if a.kv_heads != 1:
        moves.by_heads(k, v)


def projected(m: Machine, x: Tensor, a: Attention) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; two matrices where the keys are the values too (Gemma 4)."""
    if len(a.projections) == 2:
        q, k = (linear(m, x, p) for p in a.projections)
        return q, k, k
    if len(a.projections) == 3:
        q, k, v = (linear(m, x, p) for p in a.projections)
        return q, k, v
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    sizes = (m.rows * a.heads * a.head_dim, m.rows * a.kv_heads * a.head_dim, m.rows * a.kv_heads * d_v)
    both = linear(m, x, a.projections[0])
    if a.taken == "slices":
        q, k, v = (ops.piece(m.t, both, n) for n in sizes)
        return q, k, v
    if a.taken == "heads":
        moves.by_heads(both)
    q, k, v = ops.split(m.t, both, sizes)
    return q, k, v


def by_role(layer: Layer) -> dict[str, Norm]:
    return dict(zip(layer.norm_roles, layer.norms, strict=False))


def mix(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """The mixer: attention or a state space."""
    if isinstance(layer.mixer, StateSpace):
        from estimator.stack.ssm import mixer

        with m.t.at("mixer", layer.mixer):
            return mixer(m, x, layer.mixer, at)
    a = layer.mixer
    assert isinstance(a, Attention)
    if layer.second is not None:
        from estimator.stack.ssm import mixer

        with m.t.at("mixer"):
            side = mixer(m, x, layer.second, at)
        return ops.add(m.t, side, mix(m, x, layer._replace(second=None), at), "mixers' sum")
    with m.t.at("attention", a):
        if not m.selective:
            x = attended(m, x, a, at)
            return ops.dropout(m.t, x) if m.drops.mixer else x
        return m.t.checkpoint(m.as_now(lambda h: attended(m, h, a, at)), x)


def attended(m: Machine, x: Tensor, a: Attention, at: Positions) -> Tensor:
    """The attention, or what an adapter around it makes of it (estimator.stack.around)."""
    spec = m.adapters(a.out.name.rpartition(".")[0])
    return attention(m, x, a, at) if spec is None or spec.forward is None else spec.forward(m, x, a, at)


def feed(m: Machine, x: Tensor, block: MLP | MoE, stream: Tensor | None = None) -> Tensor:
    """The feed-forward block; ``stream``: what the router and the experts read where that is not x."""
    if isinstance(block, MoE):
        from estimator.stack.moe import moe, normed_moe

        with m.t.at("experts"):
            return normed_moe(m, x, stream, block) if block.norms and stream is not None else moe(m, x, block)
    with m.t.at("MLP"):
        x = mlp(m, x, block)
        return ops.dropout(m.t, x) if m.drops.branch else x


def pre(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """x + mixer(norm(x)), then x + mlp(norm(x)): Llama, GPT-2, and with scaled residuals Granite."""
    norms = by_role(layer)
    t = m.t
    residual = x
    if "input" in norms:  # ModernBERT's first layer has none
        x = norm(m, x, norms["input"])
    kept = [x] if "input" in layer.keeps else []
    x = mix(m, x, layer, at)
    if "branch" in layer.keeps:
        kept.append(x)
    if layer.residual_weights:
        residual = ops.mul(t, m.extra(layer.residual_weights[0]), residual, "weighed stream")
    x = ops.add(t, residual, ops.scale(t, x) if layer.residual_scale else x, "residual")
    if layer.mlp is None:
        return x
    residual = x
    if "pre_mlp" in norms:
        x = norm(m, x, norms["pre_mlp"])
    x = feed(m, x, layer.mlp)
    if layer.residual_weights:
        residual = ops.mul(t, m.extra(layer.residual_weights[1]), residual, "weighed stream")
    return ops.add(t, residual, ops.scale(t, x) if layer.residual_scale else x, "residual")


def sandwich(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """Gemma 2 and 3: norms before and after each block."""
    norms = by_role(layer)
    t = m.t
    residual = x
    x = norm(m, x, norms["input"])
    x = mix(m, x, layer, at)
    x = norm(m, x, norms["post_mixer"])
    x = ops.add(t, residual, x, "residual")
    assert layer.mlp is not None
    residual = x
    x = norm(m, x, norms["pre_mlp"])
    x = feed(m, x, layer.mlp, residual)
    x = norm(m, x, norms["post_mlp"])
    x = ops.add(t, residual, x, "residual")
    if layer.chains:
        from estimator.stack.beside import chain

        for block in layer.chains:
            x = chain(m, x, block, at)
    return x


def post(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """Norms after: on the branch (OLMo 2) or on the sum (BERT)."""
    norms = by_role(layer)
    t = m.t
    assert layer.mlp is not None
    residual = x
    x = mix(m, x, layer, at)
    if layer.branch_norms:
        x = norm(m, x, norms["post_mixer"])
        x = ops.add(t, residual, x, "residual")
        residual = x
        x = feed(m, x, layer.mlp)
        x = norm(m, x, norms["post_mlp"])
        return ops.add(t, residual, x, "residual")
    x = norm(m, ops.add(t, x, residual, "residual"), norms["post_mixer"])
    residual = x
    x = feed(m, x, layer.mlp)
    return norm(m, ops.add(t, x, residual, "residual"), norms["post_mlp"])


def parallel(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """x + mixer(norm(x)) + mlp(norm(x)): one norm (GPT-J, Falcon, Cohere, Phi) or two (GPT-NeoX)."""
    norms = by_role(layer)
    t = m.t
    assert layer.mlp is not None
    residual = x
    h = norm(m, x, norms["input"])
    attn = mix(m, h, layer, at)
    if "pre_mlp" in norms:
        h = norm(m, x, norms["pre_mlp"])
    fed = feed(m, h, layer.mlp)
    return ops.add(t, ops.add(t, fed, attn, "branches"), residual, "residual")


def mixer_only(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """Mamba's block: a norm and a mixer, no MLP."""
    from estimator.stack.ssm import block

    return block(m, x, layer, at)


def feed_only(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """Nemotron-H's block without a mixer: a norm and a feed-forward block."""
    assert layer.mlp is not None
    return ops.add(m.t, x, feed(m, norm(m, x, layer.norms[0]), layer.mlp), "residual")


def streams(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """DeepSeek-V4: each branch reads one stream made of all, and is added to each of them."""
    from estimator.stack.streams import connected

    norms = by_role(layer)
    of_mixer, of_mlp = layer.streams
    assert layer.mlp is not None
    block = layer.mlp
    x = connected(m, x, of_mixer, lambda h: mix(m, norm(m, h, norms["input"]), layer, at))
    return connected(m, x, of_mlp, lambda h: feed(m, norm(m, h, norms["pre_mlp"]), block))


def varied(m: Machine, x: Tensor, a: Attention, at: Positions) -> Tensor:
    """DiffLlama's, Doge's, JetMoE's and DeepSeek-V4's attention."""
    from estimator.stack.varied import VARIED

    return VARIED[a.form](m, x, a, at)


def altup(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """Gemma3nTextDecoderLayer.forward, on all copies of the stream; what it names lives until it returns."""
    from estimator.stack.altup import added_to_others, corrected, first_of, predicted
    from estimator.stack.beside import branch, chain

    t, norms = m.t, by_role(layer)
    laurel, copies, *own = layer.chains
    assert layer.mlp is not None
    predictions = predicted(m, x, copies)
    active = ops.piece(t, predictions, m.rows * norms["input"].width)
    normed = norm(m, active, norms["input"])
    beside = chain(m, normed, laurel, at)
    attn = norm(m, mix(m, normed, layer, at), norms["post_mixer"])
    gated = ops.add(t, active, attn, "residual")
    both = ops.scale(t, ops.add(t, gated, beside, "residual and LAuReL"))
    again = norm(m, both, norms["pre_mlp"])
    ffw = feed(m, again, layer.mlp)
    fed = norm(m, ffw, norms["post_mlp"])
    out = corrected(m, predictions, ops.add(t, both, fed, "residual"), copies)
    first = first_of(m, out, copies)
    for block in own:
        out = added_to_others(t, out, branch(m, first, block, at))
    return out


def shortcut(m: Machine, x: Tensor, layer: Layer, at: Positions) -> Tensor:
    """LongcatFlashDecoderLayer.forward: the experts' output is named until the second half is done."""
    from estimator.stack.looped import routed

    norms, block, second = by_role(layer), layer.mlp, layer.then
    assert isinstance(block, MoE) and block.shared is not None and second is not None  # noqa: PT018
    x = ops.add(m.t, x, mix(m, norm(m, x, norms["input"]), layer, at), "residual")
    h = norm(m, x, norms["pre_mlp"])
    out = routed(m, h, block)
    x = ops.add(m.t, x, feed(m, h, block.shared), "residual")
    del h
    key, m.layer_key = m.layer_key, (m.layer_key, "second half")
    x = pre(m, x, second, at)
    m.layer_key = key
    return ops.add(m.t, x, out, "residual")


OTHERS = ("differential", "dynamic_mask", "routed", "gated_positions", "pooled")
# what computes each Attention.form but transformers' own interface
FORMS = {**SPECIAL, **dict.fromkeys(OTHERS, varied)}
WIRING = {
    "altup": altup, "feed": feed_only, "mixer": mixer_only, "parallel": parallel, "post": post, "pre": pre,
    "sandwich": sandwich, "shortcut": shortcut, "streams": streams,
}  # fmt: skip
