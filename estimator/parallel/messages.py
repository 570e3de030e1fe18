"""What tensor, context, expert and pipeline parallelism send: a layer and a step, by group.

Sources: Megatron-LM (arXiv 1909.08053, section 3): two all-reduces a layer and direction; Korthikanti et al. (arXiv
2205.05198, section 4.2.2): with sequence parallelism each becomes a reduce-scatter and an all-gather of the same size;
Ring Attention (arXiv 2310.01889): keys and values go round; GShard (arXiv 2006.16668): two all-to-alls a direction.
"""

from __future__ import annotations

from math import comb
from typing import Any

from estimator.families.base import Attention, MoE
from estimator.formulas.zero import ring_elements
from estimator.ops import ceil_div
from estimator.parallel.activations import FP32, HALF, MicroBatch
from estimator.parallel.degrees import INSIDE, Degrees
from estimator.parallel.pipeline import Stage
from estimator.records import dataclass
from estimator.trace import value_of

# of the link inside a node, by a dispatch or combine: 153 to 158 of an H800's 200 GB/s (deepseek-ai/DeepEP, README)
REACHED = 0.78
BOTH = 2  # the backward pass sends what the forward pass sends


@dataclass(frozen=True, slots=True)
class Message:
    """Bytes that one GPU sends in a group: ``layer`` in one layer (or boundary) and micro-batch, ``step`` in a step.

    crossing: what the link carries of them, as a share (beyond 1 where it is not used in full)
    ports: to the network, that it goes through in a node
    """

    group: str
    what: str
    over: Any
    layer: Any
    step: Any
    link: str
    crossing: float = 1.0
    ports: int = 1


def messages(stage: Stage, work: MicroBatch, degrees: Degrees, m: Any, d: Any, chunks: int) -> list[Message]:
    """All that the GPU of this pipeline stage sends beside data parallelism, in a step of ``m`` micro-batches."""
    out: list[Message] = []

    def send(group: str, what: str, layer: Any, each: Any, crossing: float = 1.0) -> None:
        """``each``: in one micro-batch."""
        over, link, ports = getattr(degrees, group), degrees.link(group), degrees.ports(group)
        out.append(Message(group, what, over, layer, m * each, link, crossing, ports))

    n, t = work.tokens, degrees.tensor
    again = 1 if work.recompute == "full" else 0
    if t != 1:
        blocks = max(((1 if g.wiring == "parallel" else 2) for g, _ in stage.layers), default=0)
        half = ring_elements(n * d, t) * HALF
        once = 2 * half
        # a block's input is kept in parts (Korthikanti, section 4.2.2): the backward pass gathers it once more
        block = once * (BOTH + again) + (half if work.sequence else 0)
        per = sum(count * sums(g) * block for g, count in stage.layers)
        ends = (once if stage.first else 0) + (3 * 2 * ring_elements(n, t) * FP32 + once if stage.last else 0)
        what = "reduce-scatter and all-gather" if work.sequence else "all-reduce"
        send("tensor", f"{what} of activations", blocks * block, per + ends)
    if degrees.context != 1:
        each = [
            (kv_bytes(g.mixer, work, degrees), count) for g, count in stage.layers if isinstance(g.mixer, Attention)
        ]
        # forward: keys and values; backward: keys and values again, and their gradients
        layer = max((x for x, _ in each), default=0) * 3
        send("context", "keys and values round the ring", layer, sum(3 * x * count for x, count in each))
    if degrees.expert != 1:
        routed = [(g.mlp, count) for g, count in stage.layers if isinstance(g.mlp, MoE)]
        each = [(routed_bytes(of, n, degrees, d), count) for of, count in routed]
        layer = max((x for x, _ in each), default=0) * (BOTH + again)
        reached = max((crossing(block, degrees) for block, _ in routed), default=1.0)
        per = sum((BOTH + again) * x * count for x, count in each)
        send("expert", "all-to-all of routed tokens", layer, per, reached)
    if degrees.pipeline != 1:
        one = ceil_div(HALF * n * d, work.norm_part)
        sides = (0 if stage.first and chunks == 1 else 1) + (0 if stage.last and chunks == 1 else 1)
        send("pipeline", "activations and their gradients", one, chunks * sides * one)
    return out


def sums(layer: Any) -> int:
    """Row-parallel outputs of a layer that must be summed."""
    return 1 if layer.wiring == "parallel" else 2 + (1 if layer.cross else 0) - (0 if layer.mlp is not None else 1)


def kv_bytes(a: Attention, work: MicroBatch, degrees: Degrees) -> Any:
    """Keys and values that leave a GPU while those of all others pass by: (c-1) blocks of its own size."""
    d_v = a.head_dim if a.v_head_dim is None else a.v_head_dim
    kept = work.cut.kv_heads(a) if a.mla is None else a.heads // work.cut.tensor
    return (degrees.context - 1) * HALF * work.tokens * kept * (a.head_dim + d_v)


def routed_bytes(m: MoE, n: Any, degrees: Degrees, d: Any) -> Any:
    """Dispatch and combine of one pass, with balanced routing: the share of the routed tokens that lives elsewhere."""
    own = n * degrees.each_expert // degrees.tensor  # where the tensor group does not share experts, each has its part
    return 2 * ring_elements(HALF * own * m.per_token * d, degrees.expert)


def crossing(m: MoE, degrees: Degrees) -> float:
    """The share of the routed tokens' bytes that the experts' link carries.

    Inside a node, more than all: a dispatch reaches :data:`REACHED` of the link. Between nodes, a token goes once to a
    node that holds some of its experts, and from GPU to GPU inside it (DeepEP; Megatron-Core's flex dispatcher).
    """
    span = int(value_of(degrees.each_expert * degrees.expert))
    if degrees.link("expert") == INSIDE:
        return 1 / REACHED
    nodes, ranks = span / degrees.node, int(value_of(degrees.expert))
    groups, chosen = (int(value_of(x)) for x in m.groups)
    if nodes < groups:
        groups = chosen = 1
    experts, k = int(value_of(m.num)) * chosen // groups, int(value_of(m.per_token))
    here = int(value_of(m.num) / nodes)
    met = chosen / groups * (1 - comb(max(0, experts - here), k) / comb(experts, k))
    return (nodes - 1) * met / (k * (ranks - 1) / ranks)
