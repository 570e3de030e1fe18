"""Activations that one GPU saves for the backward pass, layer by layer, under tensor, sequence and context parallelism.

Korthikanti et al. 2022 (arXiv 2205.05198, section 4) count them for a GPT layer; the same count is done here over the
blocks of any architecture, so that grouped queries, gated MLPs and experts are counted too. 16-bit numbers, 1-byte
dropout masks. For a GPT layer with dropout it is the paper's s*b*h*(34 + 5*a*s/h), term by term.
"""

from __future__ import annotations

from typing import Any

from estimator.errors import InputError
from estimator.families.base import MLP, Attention, Layer, MoE, NoMixer, StateSpace
from estimator.ops import ceil_div, exact_div
from estimator.parallel.tensor import Cut
from estimator.records import dataclass
from estimator.trace import value_of

HALF = 2  # bytes of a 16-bit number
FP32 = 4
MASK = 1  # bytes of a dropout mask's element
RECOMPUTATION = ("none", "selective", "full")


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One micro-batch: ``b`` sequences of ``s`` tokens on a GPU group.

    context   GPUs that share a sequence; sequence: norms and dropouts split over the tensor group
    fused     no scores are kept (FlashAttention), only a log-sum-exp a row; dropout: masks are kept
    """

    b: Any
    s: Any
    cut: Cut
    context: Any = 1
    sequence: bool = False
    fused: bool = True
    dropout: bool = False
    recompute: str = "none"

    @property
    def tokens(self) -> Any:
        """Tokens of a micro-batch on one context-parallel GPU."""
        return self.b * (self.s // self.context)

    @property
    def norm_part(self) -> Any:
        """GPUs over which norms, dropouts and block inputs are split."""
        return self.cut.tensor if self.sequence else 1


def check(work: MicroBatch) -> None:
    """InputError for sizes that do not divide."""
    if work.s % work.context:
        raise InputError(f"--context-parallel {value_of(work.context)} does not divide --seq-len {value_of(work.s)}")
    if (work.s // work.context) % work.norm_part:
        raise InputError(
            f"--sequence-parallel: --tensor-parallel {value_of(work.cut.tensor)} does not divide "
            f"{value_of(work.s)} tokens"
        )


def layer_bytes(layer: Layer, work: MicroBatch, d: Any) -> Any:
    """Bytes that one layer of width ``d`` keeps of one micro-batch."""
    if work.recompute == "full":
        return exact_div(HALF * work.tokens * d, work.norm_part)
    total: Any = 0
    for norm in layer.norms:
        total = total + exact_div(HALF * work.tokens * norm.width * norm.copies, work.norm_part)
    for mixer in (layer.mixer, *(x for x in (layer.cross, layer.second) if x is not None)):
        if isinstance(mixer, NoMixer):
            continue
        if isinstance(mixer, StateSpace):
            raise InputError(
                f"activations of {mixer.kind} layers have no closed form; simulated: llmcalc memory --mode training "
                "--recipe torch-mixed"
            )
        total = total + attention_bytes(mixer, work, d)
    if isinstance(layer.mlp, MoE):
        total = total + moe_bytes(layer.mlp, work, d)
    elif layer.mlp is not None:
        total = total + mlp_bytes(layer.mlp, work, d)
    return total


def attention_bytes(a: Attention, work: MicroBatch, d: Any) -> Any:
    """The block's input, q, k, v, the core, the output matrix's input and the dropout after it."""
    n, cut = work.tokens, work.cut
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    heads, kept = (
        cut.part(a.heads, "num_attention_heads"),
        (cut.kv_heads(a) if a.mla is None else cut.part(a.heads, "heads")),
    )
    q, kv = heads * a.head_dim, kept * (a.head_dim + d_v)
    total = exact_div(HALF * n * d, work.norm_part) + HALF * n * (q + kv) + HALF * n * heads * d_v
    if work.fused:
        total = total + FP32 * n * heads
    elif work.recompute == "none":
        # softmax output, dropout mask, dropout output: 5 bytes a score; without dropout the softmax output alone
        total = total + (2 * HALF + MASK if work.dropout else HALF) * heads * n * work.s
    return total + (exact_div(MASK * n * d, work.norm_part) if work.dropout else 0)


def mlp_bytes(m: MLP, work: MicroBatch, d: Any) -> Any:
    """The block's input, the activation's input (both halves where gated) and output, and the dropout after it."""
    n = work.tokens
    width = work.cut.part(m.width, "intermediate_size")
    total = exact_div(HALF * n * d, work.norm_part) + HALF * n * width * (3 if m.gated else 2)
    return total + (exact_div(MASK * n * d, work.norm_part) if work.dropout else 0)


def moe_bytes(m: MoE, work: MicroBatch, d: Any) -> Any:
    """Router input and fp32 scores; routed copies of the tokens, as many as are sent away; the experts' insides."""
    n = work.tokens
    each = work.cut.of_experts
    routed = n * m.per_token * each.tensor // work.cut.tensor
    width = each.part(m.width, "the expert's width")
    total = exact_div(HALF * n * d, work.norm_part) + FP32 * n * m.num
    total = total + HALF * routed * d + HALF * routed * width * (3 if m.gated else 2) + HALF * routed * d
    return total + (mlp_bytes(m.shared, work, d) if m.shared is not None else 0)


def last_bytes(work: MicroBatch, d: Any, rows: Any) -> Any:
    """Inputs of the final norm and the output matrix, fp32 logits over ``rows`` words (Korthikanti, section 4.3)."""
    return 2 * exact_div(HALF * work.tokens * d, work.norm_part) + FP32 * work.tokens * rows


def times(share: Any, amount: Any) -> Any:
    """``amount`` bytes for a number of micro-batches that may be a fraction, rounded up to whole bytes."""
    top, bottom = getattr(share, "numerator", share), getattr(share, "denominator", 1)
    return ceil_div(amount * top, bottom) if bottom != 1 else amount * share
