"""torch.compile: what inductor's graphs keep between the forward and the backward pass.

The compiler decides; this is what it decided. Read off the allocator's history of six steps of transformers.Trainer
with torch_compile (H100, torch 2.11, transformers 5.17: Llama, GPT-2, Qwen 2.5 and Qwen 3; full, LoRA and checkpointed;
bf16 and fp32 weights): every large buffer alive at the peak carried its line of generated code. A layer keeps what goes
into and comes out of its matrix products and its attention, in the products' width; norms, activations and rotations in
between are computed again. Under the compiler a mask is always made, so keys and values are written out for every query
head. Three more buffers of the logits' size (one of them zeros: the gradient of the returned logits) live through the
whole backward pass. tests/accuracy bounds the errors: within 1% of these steps.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Layer
from estimator.stack.tape import F32, HALF

Live = dict[tuple[str, str], Any]
LOGITS = 6  # bytes of buffers of the logits' size an element: 16-bit logits or their gradient, and fp32 zeros


def known(arch: Architecture, loss: str, offload: bool) -> bool:
    """Whether such steps were looked at: decoders of plain attention and a dense MLP, all logits, nothing offloaded."""

    def plain(x: Layer) -> bool:
        a = x.mixer
        return isinstance(a, Attention) and a.form == "interface" and a.mla is None and isinstance(x.mlp, MLP)

    return loss == "full" and not offload and arch.kind == "decoder" and all(map(plain, arch.layers))


def layer_bytes(layer: Layer, hidden: Any, stream: int, adapted: bool) -> Any:
    """Bytes a token that one layer keeps. stream: bytes of an element between layers."""
    a, block = layer.mixer, layer.mlp
    assert isinstance(a, Attention)
    assert isinstance(block, MLP)
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    wide = a.heads * (a.head_dim if a.v_head_dim is None else a.v_head_dim)
    kept = (3 if block.gated else 2) * block.width  # gate and up, and what they give
    if a.position == "rope" or len(a.projections) > 1:
        kept = kept + 2 * q + wide  # turned queries, keys and values written out for every query head
    else:
        kept = kept + q + 2 * kv  # views of one product
    kept = kept + wide  # the attention's output
    if a.norms:
        kept = kept + q + kv  # before their norms
    kept = kept + 2 * hidden + (wide if adapted else 0)  # the outputs of the two norms
    residual = 2 * hidden * stream  # the branches' outputs, or in fp32 the stream itself
    return HALF * kept + residual + F32 * a.heads


def kept(arch: Architecture, load: Any, tokens: Any) -> Live:
    """What is alive where the backward pass begins, beside what stands."""
    stream = load.width if not load.kbit else F32
    out: Live = {}
    if load.checkpointing == "full":
        layers = sum((x.times for x in arch.layers), 0) * tokens * arch.hidden * stream
    else:
        adapted = load.adapter is not None
        each = ((x, layer_bytes(x, arch.hidden, stream, adapted)) for x in arch.layers)
        layers = sum((x.times * tokens * n for x, n in each), 0)
    out["compiled graph", "kept by the layers"] = layers
    if load.amp and load.width == F32:
        copied = sum((w.times * w.elements for w in arch.weights() if len(w.shape) == 2), 0)
        out["compiled graph", "16-bit copies of weights"] = HALF * copied
        if load.adapter is None:
            out["compiled graph", "16-bit gradient of the head"] = HALF * arch.vocab * arch.hidden
    out["compiled graph", "mask"] = HALF * load.b * load.s * load.s
    out["loss", "buffers of the logits' size"] = LOGITS * tokens * arch.vocab
    return out


def transient(arch: Architecture, load: Any, tokens: Any) -> Any:
    """The last layer's own: the gradient of its MLP's product, and of one matrix."""
    block = arch.layers[-1].mlp
    assert isinstance(block, MLP)
    trained = block.width * arch.hidden if load.adapter is None else 0
    return HALF * (tokens * block.width + trained)


def table(arch: Architecture, load: Any) -> Any:
    """The embedding's gradient, which is summed in fp32."""
    return F32 * arch.vocab * arch.hidden if load.adapter is None else 0
