"""torch.compile: what inductor's graphs keep between the forward and the backward pass.

The compiler decides; this is what it decided. Read off the allocator's history of steps of transformers.Trainer and of
a loop (torch 2.11, transformers 5.17: six of Llama, GPT-2, Qwen 2.5 and Qwen 3 on an H100, and twenty of other decoders
on an H200, with experts, eager attention, sliding windows and LoRA; full, adapted and checkpointed; bf16 and fp32
weights): every large buffer alive at the peak carried its line of generated code. A layer keeps what goes into and
comes out of its matrix products and its attention, in the products' width; norms, activations and rotations in between
are computed again. SDPA has keys and values written out for every query head; eager attention keeps scores and
probabilities. Adapters outside autocast keep their inputs in fp32. Three more buffers of the logits' size (one of them
zeros: the gradient of the returned logits, which accelerate has made fp32 under autocast) are there where the backward
pass begins. What waits for the embedding's gradient, where the output matrix is tied to it, lives to its end; the
zeros do in any case. tests/accuracy bounds the errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, MoE
from estimator.inventory import EMBEDDING, POSITION, TOKEN_TYPE
from estimator.ops import maximum
from estimator.stack.tape import F32, HALF
from estimator.trace import value_of

Live = dict[tuple[str, str], Any]
LOGITS = 6  # bytes of buffers of the logits' size an element: 16-bit logits or their gradient, and zeros
WHOLE = 8  # numbers: flash attention takes heads of a multiple of them
TABLES = (EMBEDDING, POSITION, TOKEN_TYPE)


def known(arch: Architecture, loss: str, offload: Any, checkpointing: str, width: int) -> bool:
    """Whether such steps were looked at: decoders of transformers' attention with dense MLPs or experts (in 16 bits:
    those of fp32 break the graph), or whose layers are checkpointed; all logits, nothing offloaded."""
    blocks = MLP | MoE if width == HALF else MLP

    def plain(x: Layer) -> bool:
        a = x.mixer
        return isinstance(a, Attention) and a.form == "interface" and a.mla is None and isinstance(x.mlp, blocks)

    seen = checkpointing == "full" or all(map(plain, arch.layers))
    return loss == "full" and not offload and arch.kind == "decoder" and seen


def layer_bytes(layer: Layer, load: Any, hidden: Any, stream: int) -> Any:
    """Bytes a token that one layer keeps. stream: bytes of an element between layers."""
    a, block = layer.mixer, layer.mlp
    assert isinstance(a, Attention)
    assert isinstance(block, MLP | MoE)
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    wide = a.heads * (a.head_dim if a.v_head_dim is None else a.v_head_dim)
    if a.position != "rope" and len(a.projections) == 1:
        used = q + 2 * kv  # views of one product
    elif len(a.projections) == 1 and a.heads == a.kv_heads:
        used = 2 * q + kv + 2 * kv  # turned queries and keys beside that product, of which the values are a view
    else:
        used = 2 * q + wide  # turned queries, keys and values written out for every query head
    kept = used + wide  # the attention's output
    if a.norms:
        kept = kept + q + kv  # before their norms
    if not load.fused:
        kept = kept + 2 * a.heads * load.s  # scores and probabilities
    kept = HALF * (kept + made(block))
    if load.fused and value_of(a.head_dim) % WHOLE:  # no fused kernel takes such heads, and nothing pads them here
        kept = kept + (F32 - HALF) * used + F32 * a.heads * load.s
    narrow = load.adapter is None or load.amp or load.adapter_width != F32
    residual = 2 * hidden * stream  # the branches' outputs, or in fp32 the stream itself
    return kept + (HALF if narrow else F32) * inputs(layer, load, hidden, wide) + residual + F32 * a.heads


def made(block: MLP | MoE) -> Any:
    """Numbers a token that the matrices of a feed-forward block give, but for a dense one's last."""
    if isinstance(block, MLP):
        return (2 if block.gated else 1) * block.width
    routed = block.per_token * ((2 if block.gated else 1) * block.width + block.d)
    return routed + (0 if block.shared is None else made(block.shared))


def inputs(layer: Layer, load: Any, hidden: Any, wide: Any) -> Any:
    """Inputs a token of what trains, each once: of the projections, of an adapted matrix after the attention, of the
    feed-forward block's first matrices and of its last."""
    a, block = layer.mixer, layer.mlp
    assert isinstance(a, Attention)
    names = None if load.adapter is None else {t.name for t in load.adapter.targets}

    def trains(linears: Iterable[Linear]) -> bool:
        return names is None or any(x.name in names for x in linears)

    out: Any = hidden if trains(a.projections) else 0
    out = out + (wide if names is not None and trains((a.out,)) else 0)
    if isinstance(block, MLP):
        return out + (hidden if trains(block.linears[:-1]) else 0) + (block.width if trains(block.linears[-1:]) else 0)
    if names is not None or block is None:
        return out
    shared = 0 if block.shared is None else block.shared.width
    return out + hidden + block.per_token * (block.d + block.width) + shared


def kept(arch: Architecture, load: Any, tokens: Any) -> Live:
    """What is alive where the backward pass begins, beside what stands."""
    stream = load.width if not load.kbit else F32
    out: Live = {}
    if load.checkpointing == "full":
        layers = sum((x.times for x in arch.layers), 0) * tokens * arch.hidden * stream
    else:
        each = ((x, layer_bytes(x, load, arch.hidden, stream)) for x in arch.layers)
        layers = sum((x.times * tokens * n for x, n in each), 0)
    out["compiled graph", "kept by the layers"] = layers
    if load.amp and load.width == F32:
        cast = (w for w in arch.weights() if len(w.shape) == 2 and (arch.tied or w.role not in TABLES))
        out["compiled graph", "16-bit copies of weights"] = HALF * sum((w.times * w.elements for w in cast), 0)
        if load.adapter is None and arch.tied:  # it waits for the embedding's
            out["compiled graph", "16-bit gradient of the head"] = HALF * arch.vocab * arch.hidden
    out["compiled graph", "mask"] = HALF * load.b * load.s * load.s
    out["loss", "buffers of the logits' size"] = LOGITS * tokens * arch.vocab
    if load.adapter is None and load.width != F32 and not arch.tied:  # made while the logits' gradient is there
        made, spare = load.width * arch.vocab * arch.hidden, (LOGITS - HALF - zeros(load)) * tokens * arch.vocab
        out["compiled graph", "gradient of the head"] = maximum(made - spare, 0)
    return out


def transient(arch: Architecture, load: Any, tokens: Any) -> Any:
    """The last layer's own: the gradient of its MLP's product, and of one matrix."""
    block = arch.layers[-1].mlp
    if not isinstance(block, MLP):
        return 0
    trained = block.width * arch.hidden if load.adapter is None else 0
    return HALF * (tokens * block.width + trained)


def zeros(load: Any) -> int:
    """Bytes a logit of the zeros that stand for the gradient of the returned ones."""
    return F32 if load.widens and load.amp else HALF


def to_the_end(arch: Architecture, load: Any, tokens: Any) -> Any:
    """Buffers of the logits' size that are there where the backward pass ends."""
    return (zeros(load) + (HALF if arch.tied else 0)) * tokens * arch.vocab


def table(arch: Architecture, load: Any) -> Any:
    """The embedding's gradient, which is summed in fp32 and then converted."""
    return F32 * arch.vocab * arch.hidden if load.adapter is None and load.width != F32 else 0
