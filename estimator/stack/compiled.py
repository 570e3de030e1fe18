"""torch.compile: what inductor's graphs keep between the forward and the backward pass.

The compiler decides; this is what it decided. Read off the allocator's history of steps of transformers.Trainer and of
a loop (torch 2.11, transformers 5.17: six of Llama, GPT-2, Qwen 2.5 and Qwen 3 on an H100, and twelve of other decoders
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

from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Layer, MoE
from estimator.inventory import EMBEDDING, POSITION, TOKEN_TYPE
from estimator.ops import maximum
from estimator.stack.tape import F32, HALF

Live = dict[tuple[str, str], Any]
LOGITS = 6  # bytes of buffers of the logits' size an element: 16-bit logits or their gradient, and zeros
TABLES = (EMBEDDING, POSITION, TOKEN_TYPE)


def known(arch: Architecture, loss: str, offload: Any, checkpointing: str) -> bool:
    """Whether such steps were looked at: decoders of transformers' attention with dense MLPs or experts, or whose
    layers are checkpointed; all logits, nothing offloaded."""

    def plain(x: Layer) -> bool:
        a = x.mixer
        return isinstance(a, Attention) and a.form == "interface" and a.mla is None and isinstance(x.mlp, MLP | MoE)

    seen = checkpointing == "full" or all(map(plain, arch.layers))
    return loss == "full" and not offload and arch.kind == "decoder" and seen


def layer_bytes(layer: Layer, load: Any, hidden: Any, stream: int) -> Any:
    """Bytes a token that one layer keeps. stream: bytes of an element between layers."""
    a, block = layer.mixer, layer.mlp
    assert isinstance(a, Attention)
    assert isinstance(block, MLP | MoE)
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    wide = a.heads * (a.head_dim if a.v_head_dim is None else a.v_head_dim)
    if a.position == "rope" or len(a.projections) > 1:
        kept = 2 * q + wide  # turned queries, keys and values written out for every query head
    else:
        kept = q + 2 * kv  # views of one product
    kept = kept + wide  # the attention's output
    if a.norms:
        kept = kept + q + kv  # before their norms
    if not load.fused:
        kept = kept + 2 * a.heads * load.s  # scores and probabilities
    inner = fed(block, load.adapter is None)
    residual = 2 * hidden * stream  # the branches' outputs, or in fp32 the stream itself
    if load.adapter is None or load.amp or load.adapter_width != F32:
        inputs = HALF * (2 * hidden + (wide if load.adapter is not None else 0))  # the outputs of the two norms
    else:
        inputs = F32 * adapted_inputs(layer, load, hidden, wide)
        inner = inner - adapted_width(block, load)  # it is kept in fp32 alone
    return HALF * (kept + inner) + inputs + residual + F32 * a.heads


def fed(block: MLP | MoE, trains: bool) -> Any:
    """Numbers a token that a feed-forward block keeps; ``trains``: the experts do, and so their inputs are kept too."""
    if isinstance(block, MLP):
        return (3 if block.gated else 2) * block.width  # gate and up, and what they give
    out = (2 if block.gated else 1) * block.width + block.d
    routed = block.per_token * (out + (block.width + block.d if trains else 0))
    return routed + (0 if block.shared is None else fed(block.shared, trains))


def adapted_width(block: MLP | MoE, load: Any) -> Any:
    """Inputs of an adapted last matrix of an MLP, a token."""
    names = {t.name for t in load.adapter.targets}
    return block.width if isinstance(block, MLP) and block.linears[-1].name in names else 0


def adapted_inputs(layer: Layer, load: Any, hidden: Any, wide: Any) -> Any:
    """Inputs of adapted modules a token, each once: of the projections, the attention's last matrix, the MLP's first
    matrices and its last."""
    a, block = layer.mixer, layer.mlp
    assert isinstance(a, Attention)
    names = {t.name for t in load.adapter.targets}
    out: Any = hidden if any(p.name in names for p in a.projections) else 0
    out = out + (wide if a.out.name in names else 0)
    if isinstance(block, MLP):
        out = out + (hidden if any(x.name in names for x in block.linears[:-1]) else 0) + adapted_width(block, load)
    return out


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
