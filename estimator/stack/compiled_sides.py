"""torch.compile of encoders and encoder-decoders: what inductor's graphs keep for the backward pass.

Traced without a card: torch 2.11's min-cut partitioner (torch/_functorch/partitioners.py) and inductor's generated
code, run on fake tensors with transformers 5.17; sixteen steps were measured beside it (stacks_compiled.json.gz). As
for decoders, a layer keeps what goes into and comes out of its matrix products and its attention; beside that

- a mask of a byte an element for each dropout. Random numbers are not drawn again: the masks are kept, not their seeds.
- under autocast the sums between layers in fp32 where a torch.nn.LayerNorm gave what is added to (BERT, BART).
- without an attention mask in the batch transformers makes one of views while it is traced (masking_utils.py,
  _ignore_bidirectional_mask_sdpa). Its last stride is 0, so no fused kernel takes it (sdp_utils.cpp,
  check_last_dim_stride_equals_1_dense): scores are computed by _scaled_dot_product_attention_math, in fp32. T5's
  permuted biases go the same way with any batch.
- BART's loops over layers stop the tracing (a random number decides whether a layer is skipped): each layer is a graph
  of its own, with its own copy of the mask and of the encoder's states in 16 bits.
- T5 under autocast of fp32 weights keeps scaled queries and keys in fp32 beside the 16-bit ones.

Products whose sides are no multiple of 8 are timed padded and as they are (_inductor/fx_passes/pad_mm.py), and the
faster is taken: an odd vocabulary was padded in each of its measured products in 16 bits, 30,522 in some, which is not
counted. How many buffers of the logits' size that leaves alive at once is read off those steps.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, Norm
from estimator.stack.compiled import TABLES, Live
from estimator.stack.tape import BOOL, F32, HALF
from estimator.trace import value_of

LOGITS = 3  # buffers of the logits' size: they, the zeros that stand for the returned ones' gradient, and the loss's


def known(arch: Architecture, loss: str, offload: Any, checkpointing: str, whole: bool) -> bool:
    """Whether such steps were traced: language models of plain attention and dense MLPs of which all trains (whole)."""

    def plain(x: Layer) -> bool:
        found = [a for a in (x.mixer, x.cross) if a is not None]
        usual = all(isinstance(a, Attention) and a.disentangled is None and a.mla is None for a in found)
        biased = isinstance(x.mixer, Attention) and x.mixer.position == "relative" and not arch.trains_cached
        return usual and isinstance(x.mlp, MLP) and not x.shared and not biased and x.wiring in ("pre", "post")

    sides = arch.kind in ("encoder", "encoder-decoder") and arch.has_head and not arch.pooler and not arch.towers
    usual = arch.encoder_tokens is None and not arch.facts.get("bias_each") and not offload and checkpointing == "none"
    return whole and sides and usual and loss == "full" and all(map(plain, arch.layers))


def product_width(load: Any) -> int:
    """Bytes of a number that a matrix product takes."""
    return HALF if load.amp else int(load.width)


def kernel(arch: Architecture, a: Attention, load: Any) -> str:
    """Which attention runs: "eager", "fused" with a mask, or "math" where none takes the mask."""
    if not load.fused:
        return "eager"
    if arch.trains_cached:  # T5: biases of zeros over the encoder are contiguous
        return "fused" if a.cross else "math"
    made = (a.causal and not a.cross) or a.window is not None  # written out number by number
    return "fused" if load.masked or made else "math"


def scores(a: Attention, load: Any, kind: str, s_k: Any) -> Any:
    """Bytes of scores that a query keeps: the sums of fused kernels, or probabilities, and what is dropped of them."""
    w, n = product_width(load), a.heads * s_k
    if kind == "fused":
        return F32 * a.heads
    drops = load.drops.attention
    if kind == "math":
        return (F32 * (2 if drops and not load.amp else 1) + (BOOL if drops else 0)) * n
    second = w if drops or load.amp or (a.softmax == "fp32" and w != F32) else 0
    first = F32 if load.amp else w  # autocast takes the softmax in fp32
    return (first + second + (BOOL if drops else 0)) * n


def attention(arch: Architecture, a: Attention, load: Any) -> Any:
    """Bytes a token that one attention keeps beside its input and its output matrix's product."""
    w, q, kv = product_width(load), a.heads * a.head_dim, a.kv_heads * a.head_dim
    kind = kernel(arch, a, load)
    used = q + 2 * kv
    if a.position == "rope" and len(a.projections) == 1 and kind == "fused":
        used = used + q + kv  # turned queries and keys beside the product of which the values are a view
    again = F32 * (q + kv) if arch.trains_cached and kind == "math" and load.amp and load.width == F32 else 0
    return (F32 if kind == "math" and not load.amp else w) * used + w * q + again + scores(a, load, kind, load.s)


def feed(block: MLP, load: Any) -> Any:
    """Bytes a token of a feed-forward block: what its first matrices give, and what goes into its last."""
    w = product_width(load)
    made: Any = (2 if block.gated else 1) * w * block.width
    if block.act == "relu" and not block.gated:
        made = BOOL * block.width  # its sign is enough
    return made + w * block.width + (BOOL * block.width if load.drops.inner else 0)


def layer_norm(part: Any) -> bool:
    """Whether it is torch.nn.LayerNorm."""
    return isinstance(part, Norm) and part.kind == "layer"


def layer_bytes(arch: Architecture, layer: Layer, load: Any) -> Any:
    """Bytes a token that one layer keeps."""
    w, d, drops = product_width(load), arch.hidden, load.drops
    branches = 2 if layer.cross is None else 3
    summed = layer.wiring == "post" or "post_mixer" in layer.norm_roles or any(map(layer_norm, arch.embeddings))
    wide = load.amp and summed  # torch.nn.LayerNorm gives fp32 under autocast, and so what is added to it
    stream = F32 if wide or (load.width == F32 and not (load.amp and drops.branch)) else w
    out = branches * d * (w + stream) + sum((BOOL * d for x in (drops.mixer, *[drops.branch] * (branches - 1)) if x), 0)
    for a in (layer.mixer, layer.cross):
        if isinstance(a, Attention):
            out = out + attention(arch, a, load)
    if layer.cross is not None and wide:
        out = out + w * d  # the encoder's states
    assert isinstance(layer.mlp, MLP)
    return out + feed(layer.mlp, load)


def masks(arch: Architecture, load: Any) -> Any:
    """Bytes of masks and position biases, for each side or for each of BART's layers."""
    w, pairs = product_width(load), load.b * load.s * load.s
    if arch.trains_cached:
        heads = next(a.heads for a in arch.attentions)
        return w * pairs * heads * (3 if load.masked else 1)
    alone = arch.kind == "encoder-decoder"
    made = 0
    for layer in arch.layers:
        for a in (layer.mixer, layer.cross):
            if isinstance(a, Attention) and kernel(arch, a, load) != "math":
                made = made + layer.times if alone else 1
    return w * pairs * made


def padded(arch: Architecture, load: Any) -> bool:
    """Whether the products with the output matrix are padded, as those of odd vocabularies in 16 bits were."""
    return product_width(load) == HALF and bool(value_of(arch.vocab) % 2)


def zeros_apart(arch: Architecture, load: Any) -> bool:
    """Whether fp32 zeros stand beside all else: accelerate widens the logits in the graph, and the loss did not."""
    return bool(load.widens and load.amp and arch.kind == "encoder" and not arch.wide_loss)


def logits_bytes(arch: Architecture, load: Any) -> Any:
    """Bytes a token of what is as large as the logits where the backward pass begins."""
    w = product_width(load)
    if arch.buffers and load.amp and load.width == F32:  # a bias of the logits that is no weight stays in fp32
        return (2 * F32 + HALF) * arch.vocab
    widened = F32 - HALF if zeros_apart(arch, load) else 0
    return (LOGITS * w + widened + (w if padded(arch, load) else 0)) * arch.vocab


def kept(arch: Architecture, load: Any, tokens: Any) -> Live:
    """What is alive where the backward pass begins, beside what stands."""
    w, d, drops = product_width(load), arch.hidden, load.drops
    sides = 2 if arch.kind == "encoder-decoder" else 1
    out: Live = {("compiled graph", "kept by the layers"): sum(
        (x.times * tokens * layer_bytes(arch, x, load) for x in arch.layers), 0
    )}  # fmt: skip
    dense = sum(1 for x in arch.head_extras if isinstance(x, Linear))
    ends = sides * (load.width * d + (BOOL * d if drops.embedding else 0)) + (3 * dense or sides) * w * d
    out["compiled graph", "beside the layers"] = tokens * ends
    if load.amp and load.width == F32:
        cast = sum((x.times * x.elements for x in arch.weights() if len(x.shape) == 2 and x.role not in TABLES), 0)
        out["compiled graph", "16-bit copies of weights"] = HALF * (cast + (arch.vocab * d if arch.tied else 0))
    out["compiled graph", "mask"] = masks(arch, load)
    out["loss", "buffers of the logits' size"] = tokens * logits_bytes(arch, load)
    if padded(arch, load) and zeros_apart(arch, load):
        out["compiled graph", "padded output matrix"] = HALF * arch.vocab * d
    return out
