"""Modeling code that is not transformers': what torchtune and litgpt keep differently.

Both write the norm out in fp32 to its end, copy keys and values for every query head and score the tokens in parts,
once the logits of all are there.

Source: torchtune 0.6.1, modules/{attention,rms_norm,position_embeddings,transformer}.py and
loss/ce_chunked_output_loss.py; litgpt 0.5.13, model.py, utils.py (chunked_cross_entropy), finetune/{full,lora}.py.
"""

from __future__ import annotations

from typing import Any

from estimator.families.base import MLP, Architecture, Attention, Linear
from estimator.inventory import HEAD
from estimator.stack import ops
from estimator.stack.losses import (
    chunked_loss,
    cross_entropy,
    fused_loss,
    output_weight,
    rows_loss,
    tiled_loss,
)
from estimator.stack.machine import Machine
from estimator.stack.nn import product
from estimator.stack.releases import Release
from estimator.stack.tape import F32, GradFn, Tape, Tensor

PARTS = 8  # torchtune: CEWithChunkedOutputLoss, num_output_chunks
PART = 128  # litgpt: lm_head_chunk_size, tokens

TORCHTUNE = Release("torchtune 0.6", repeats_heads=True, wide_norms=True, pairs=True, table=True)
LITGPT = Release("litgpt 0.5", repeats_heads=True, wide_norms=True, unties=True, fuses=True)
UNSLOTH = Release("Unsloth 2026.10", table=True, joins=True, scratch=True)


def rotated_pairs(t: Tape, x: Tensor) -> Tensor:
    """RotaryPositionalEmbeddings: in fp32, the even and the odd numbers apart, stacked and converted back."""
    wide = t.alloc(x.n, F32, "in fp32")
    halves = [t.alloc(x.n // 2, F32, "rotated half") for _ in range(2)]
    stacked = t.alloc(x.n, F32, "rotated, in fp32")
    del halves
    out = t.emit("rotated", x.n, x.w, (x,), _pairs_bwd, None, (x.n, x.w))
    del wide, stacked
    return out


def _pairs_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """Each of the four selections gives back zeros of the whole size with its part filled in, and they are summed."""
    n, w = node.extra
    wide = t.alloc(n, F32, "gradient in fp32")
    half = t.alloc(n // 2, F32, "gradient of a half")
    total = t.alloc(n, F32, "gradient of the pairs")
    part = t.alloc(n, F32, "gradient of a selection")
    del half, part, wide
    out = t.alloc(n, w, "gradient of the rotation")
    del total
    return (out,)


def padded_adapters(m: Machine, q: Tensor, a: Attention) -> Tensor:
    """What litgpt's LoRAQKVLinear leaves behind where queries, keys and values are simulated one by one.

    Where not all three are adapted, index_copy_ keeps what goes into the zeros. Where no head is repeated, the values
    are a view of all three, which live on with them.
    """
    if len(a.projections) != 3 or not m.t.grad:
        return q
    adapted = [p.d_out for p in a.projections if m.adapters(p.name) is not None]
    width = sum(adapted) if 0 < len(adapted) < 3 else 0
    if a.heads == a.kv_heads:
        width = width + a.projections[0].d_out + a.projections[1].d_out
    kept = m.t.alloc(m.rows * width, q.w, "queries, keys and values in one")
    out = Tensor(q.n, q.w, q.st)
    m.t.record(out, (q,), _same_bwd, [kept.st])
    return out


def _same_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    return (g,)


def parts_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """torchtune: eight parts, each upcast for its loss; the logits of all are named until the last is scored."""
    return _in_parts(m, x, arch, -(-m.s // PARTS), True)[0]


def held_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """litgpt: scored 128 tokens at a time in the logits' width; the loop names the logits until the step is over.

    Where the output matrix is frozen, as it is under LoRA, it is computed 128 tokens at a time too.
    """
    t, weight = m.t, output_weight(m, arch)
    if weight.node is None:
        loss, m.named = _in_parts(m, x, arch, PART, False)
        return loss
    made = product(t, x, weight, None, m.rows * arch.vocab, "logits", name="lm_head", rows=m.rows)
    m.named = [made]
    rows = m.b * (m.s - 1)
    scored = ops.piece(t, made, rows * arch.vocab)
    if m.b != 1:  # the last token of each row is left out, so that they do not lie in one piece
        scored = ops.copy(t, scored, "scored logits")
    sizes = _sizes(rows, PART)
    parts = ops.split(t, scored, [n * arch.vocab for n in sizes])
    return _summed(t, [cross_entropy(t, part, n) for part, n in zip(parts, sizes, strict=True)])


def _sizes(n: Any, size: Any) -> list[Any]:
    """Of ``n`` in parts of ``size``, and of the rest."""
    return [size] * int(n // size) + ([n % size] if n % size else [])


def _in_parts(m: Machine, x: Tensor, arch: Architecture, size: Any, wide: bool) -> tuple[Tensor, list[Tensor]]:
    t, weight = m.t, output_weight(m, arch)
    tokens = _sizes(m.s, size)
    logits = []
    for h, n in zip(ops.split(t, x, [m.b * n * arch.hidden for n in tokens]), tokens, strict=True):
        if m.b != 1 and weight.node is not None:  # a part of every row does not lie in one piece
            h = ops.copy(t, h, "part of the tokens")
        logits.append(product(t, h, weight, None, m.b * n * arch.vocab, "logits", name="lm_head", rows=m.b * n))
    losses = []
    scored = list(logits)
    if m.b != 1 and not wide:  # each row's last token is left out of litgpt's last part, which is copied
        scored[-1] = ops.copy(t, scored[-1], "scored logits")
    for made, n in zip(scored, tokens, strict=True):
        losses.append(cross_entropy(t, ops.to(t, made, F32) if wide else made, m.b * n))
    return _summed(t, losses), logits


def _summed(t: Tape, losses: list[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = ops.add(t, total, loss)
    return total


def own_weights(arch: Architecture, code: Release, adapted: bool) -> Architecture:
    """The architecture as the code holds it: an output matrix of its own where it ties none, one matrix for queries,
    keys and values (but under an adapter, whose targets have the names of three)."""
    if code.unties and arch.tied and arch.has_head:
        arch = arch._replace(head=Linear(arch.head_name, arch.hidden, arch.vocab, role=HEAD), tied=False)
    if not code.fuses:
        return arch
    layers = (x._replace(mixer=_attends(x.mixer), mlp=_one_kernel(x.mlp)) for x in arch.layers)
    if not adapted:
        layers = (x._replace(mixer=_fused(x.mixer)) for x in layers)
    return arch._replace(layers=tuple(layers), linear_class="Linear")


def _attends(a: Any) -> Any:
    """litgpt's attention is causal without a mask, whatever the class does in transformers."""
    return a._replace(form="interface", mask="needed") if isinstance(a, Attention) and a.form == "broadcast" else a


def _one_kernel(block: Any) -> Any:
    """litgpt's GELU by tanh is PyTorch's kernel, which keeps its input alone."""
    return block._replace(act="gelu_pytorch_tanh") if isinstance(block, MLP) and block.act == "gelu_new" else block


def _fused(a: Any) -> Any:
    if not isinstance(a, Attention) or len(a.projections) != 3:
        return a
    first = a.projections[0]
    return a._replace(projections=(first._replace(d_out=sum(p.d_out for p in a.projections)),))


LOSSES = {
    "chunked": chunked_loss, "fused": fused_loss, "tiled": tiled_loss, "parts": parts_loss, "held": held_loss,
    "rows": rows_loss,
}  # fmt: skip
