"""Tensor and expert parallelism over the inventory: the shape of every weight on one of t x e GPUs.

As Megatron-LM cuts them (core/tensor_parallel/layers.py, core/transformer): projections into heads and the MLP's first
matrices by columns, the matrices after them by rows, the vocabulary padded and cut; norms, routers, latent
projections and biases of row-parallel layers are copied. Key/value heads fewer than GPUs are copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.errors import InputError
from estimator.families.base import (
    MLP,
    Architecture,
    Attention,
    Copies,
    Extra,
    Layer,
    Linear,
    Lookup,
    MoE,
    NoMixer,
    SideChain,
    StateSpace,
)
from estimator.families.feeds import Ahead
from estimator.inventory import EMBEDDING, Weight
from estimator.ops import exact_div, round_up
from estimator.records import dataclass
from estimator.trace import value_of

VOCAB_MULTIPLE = 128  # Megatron-LM --make-vocab-size-divisible-by: the vocabulary is padded to 128 x t
LATENT = ("q_a_proj", "kv_a_proj_with_mqa", "kv_a_proj")  # MLA's down-projections: too small to cut
WHOLE, COLUMN, ROW = "whole", "column", "row"


@dataclass(frozen=True, slots=True)
class Cut:
    """Degrees that cut weights: tensor and expert parallelism; expert_tensor: the GPUs that share each expert, where
    they are not the tensor group."""

    tensor: Any = 1
    expert: Any = 1
    expert_tensor: Any = None

    @property
    def of_experts(self) -> Cut:
        """How each expert is cut."""
        return self if self.expert_tensor is None else Cut(self.expert_tensor, self.expert)

    def part(self, n: Any, what: str) -> Any:
        """n/t; InputError naming what cannot be divided."""
        if n % self.tensor:
            raise InputError(f"--tensor-parallel {value_of(self.tensor)} does not divide {what} = {value_of(n)}")
        return exact_div(n, self.tensor)

    def vocabulary(self, rows: Any) -> Any:
        """Rows of a vocabulary-parallel table on one GPU, padding included."""
        if self.tensor == 1:
            return rows
        return round_up(rows, VOCAB_MULTIPLE * self.tensor) // self.tensor

    def kv_heads(self, a: Attention) -> Any:
        """Key and value heads on one GPU; at least one, copied where there are fewer heads than GPUs."""
        if a.kv_heads % self.tensor == 0:
            return a.kv_heads // self.tensor
        if self.tensor % a.kv_heads == 0:
            return 1
        raise InputError(
            f"--tensor-parallel {value_of(self.tensor)} does not divide num_key_value_heads = {value_of(a.kv_heads)}"
        )


def linear(lin: Linear, how: str, cut: Cut, d_out: Any = None) -> Iterator[Weight]:
    """The weights of a Linear on one GPU; ``d_out`` where a column-parallel one keeps more than 1/t."""
    d_in, out = lin.d_in, lin.d_out
    if how == COLUMN:
        out = cut.part(lin.d_out, f"the {value_of(lin.d_out):,} outputs of {lin.name}") if d_out is None else d_out
    elif how == ROW:
        d_in = cut.part(lin.d_in, f"the {value_of(lin.d_in):,} inputs of {lin.name}")
    yield from Linear(lin.name, d_in, out, lin.bias, lin.conv1d, lin.role).weights()


def attention(a: Attention, cut: Cut) -> Iterator[Weight]:
    """Projections cut by heads, the output matrix by rows."""
    cut.part(a.heads, "num_attention_heads")
    if a.mla is not None:
        for p in a.projections:
            yield from linear(p, WHOLE if p.name.rpartition(".")[2] in LATENT else COLUMN, cut)
    else:
        kept = cut.kv_heads(a)
        q = a.heads * a.head_dim
        for i, p in enumerate(a.projections):
            if len(a.projections) == 1:
                out = cut.part(q, "the queries") + exact_div((p.d_out - q) * kept, a.kv_heads)
            else:
                out = cut.part(p.d_out, "the queries") if i == 0 else exact_div(p.d_out * kept, a.kv_heads)
            yield from linear(p, COLUMN, cut, out)
    yield from linear(a.out, ROW, cut)
    for norm in a.norms:
        yield from norm.weights()
    for extra in a.extras:
        for w in extra.weights():
            by_head = len(w.shape) == 1 and w.shape[0] == a.heads
            yield Weight(w.name, (w.shape[0] // cut.tensor,), 1, w.role) if by_head else w


def mlp(m: MLP, cut: Cut) -> Iterator[Weight]:
    """Gate and up by columns, down by rows."""
    cut.part(m.width, "intermediate_size")
    *first, last = m.linears
    for p in first:
        yield from linear(p, COLUMN, cut)
    yield from linear(last, ROW, cut)


def expert_stacks(m: MoE, cut: Cut) -> tuple[Extra, ...]:
    """The stacked weights of this GPU's experts, its part of each one's width. InputError where they do not divide."""
    if m.num % cut.expert:
        raise InputError(f"--expert-parallel {value_of(cut.expert)} does not divide num_experts = {value_of(m.num)}")
    last = {len(e.shape): e.name for e in m.experts}  # down, and its bias

    def part(e: Extra) -> Extra:
        own, down = list(e.shape[1:]), last[len(e.shape)] == e.name
        wide = [i for i, n in enumerate(own) if n in (m.width, 2 * m.width)]
        if wide and not (down and len(own) == 1):  # up lies by its outputs first, down last, where that is open
            at = wide[-1] if down else wide[0]
            own[at] = own[at] // cut.of_experts.tensor
        return e._replace(shape=(e.shape[0] // cut.expert, *own))

    return tuple(map(part, m.experts))


def moe(m: MoE, cut: Cut) -> Iterator[Weight]:
    """Experts dealt to the expert-parallel GPUs and each cut like an MLP; the router copied."""
    each = cut.of_experts
    each.part(m.width, "the expert's width")
    for part in m.router:
        yield from part.weights()
    for extra in expert_stacks(m, cut):
        yield from extra.weights()
    if m.shared is not None:
        yield from mlp(m.shared, cut)
    if m.shared_gate is not None:
        yield from m.shared_gate.weights()


def state_space(s: StateSpace, cut: Cut) -> Iterator[Weight]:
    """Channels and heads are dealt: matrices out of the inner width by rows, all others by columns."""
    for p in s.linears:
        yield from linear(p, ROW if p.d_in == s.inner else COLUMN, cut)
    others: tuple[Any, ...] = (*s.extras, *s.norms)
    for part in others:
        for w in part.weights():
            yield Weight(w.name, (cut.part(w.shape[0], f"{w.name}, dimension 0,"), *w.shape[1:]), 1, w.role)


def layer(one: Layer, cut: Cut) -> list[Weight]:
    """The weights of one layer on one GPU (``times`` is 1)."""
    out: list[Weight] = []
    mixers = (one.mixer, *(x for x in (one.cross, one.second) if x is not None))
    for mixer in mixers:
        if isinstance(mixer, NoMixer):
            continue
        out += state_space(mixer, cut) if isinstance(mixer, StateSpace) else attention(mixer, cut)
    if one.mlp is not None:
        out += moe(one.mlp, cut) if isinstance(one.mlp, MoE) else mlp(one.mlp, cut)
    for chain in one.chains:
        out += side_chain(chain, cut)
    if one.then is not None:
        out += layer(one.then, cut)
    named = {w.name for w in out}
    alone = one._replace(times=1, indices=None, shared=False, ahead=None, then=None)
    return out + [w for w in alone.weights() if w.name not in named]


def side_chain(chain: SideChain, cut: Cut) -> Iterator[Weight]:
    """A chain beside the branches: two matrices through a narrower width are cut as an MLP's, all others copied.

    Source: vLLM model_executor/models/gemma3n.py of 0.19.0 (LAuReL's pair is column- and row-parallel, AltUp's matrices
    and those of the layer's input are copied).
    """
    matrices = [x for x in chain.parts() if isinstance(x, Linear)]
    pair = len(matrices) == 2 and not chain.scaled and value_of(matrices[0].d_out) % value_of(cut.tensor) == 0
    for part in chain.parts():
        if pair and isinstance(part, Linear):
            yield from linear(part, COLUMN if part is matrices[0] else ROW, cut)
        else:
            yield from part.weights()


def ahead(block: Ahead, times: int, cut: Cut) -> Iterator[Weight]:
    """A block that ``times`` layers share, cut once, and each layer's own matrices, which are copied.

    Source: vLLM model_executor/models/zamba2.py of 0.19.0. The matrices of a low rank, which it cuts there by columns,
    are copied here.
    """
    yield from attention(block.attention, cut)
    yield from mlp(block.mlp, cut)
    others: tuple[Any, ...] = (*block.norms, *(x for pair in block.pairs for x in pair))
    for part in others:
        yield from (w._replace(times=len(block.ordinals) if "{i}" in w.name else 1) for w in part.weights())
    yield from block.out.weights(times)


def beside(arch: Architecture, cut: Cut) -> Iterator[Weight]:
    """What stands beside the embeddings on one GPU: tables by the vocabulary, matrices by columns, norms copied.

    Source: vLLM model_executor/models/gemma3n.py and gemma4.py of 0.19.0.
    """
    for part in arch.beside:
        yield from _beside(part, cut)


def _beside(part: Any, cut: Cut) -> Iterator[Weight]:
    if isinstance(part, Lookup):
        yield from Lookup(part.name, cut.vocabulary(part.rows), part.width, part.role).weights()
    elif isinstance(part, Linear):
        yield from linear(part, COLUMN, cut)
    elif isinstance(part, Copies):
        for each in part.linears:
            yield from linear(each, COLUMN, cut)
    else:
        yield from part.weights()


def first(arch: Architecture, cut: Cut) -> list[Weight]:
    """What stands before the layers on one GPU."""
    out: list[Weight] = []
    for part in (*arch.embeddings, *arch.encoder_embeddings):
        if isinstance(part, Lookup) and part.role == EMBEDDING:
            part = Lookup(part.name, cut.vocabulary(part.rows), part.width, part.role)
        out += part.weights()
    return [*out, *beside(arch, cut)]


def last(arch: Architecture, cut: Cut) -> list[Weight]:
    """What stands after the layers on one GPU."""
    out: list[Weight] = []
    for part in (*arch.encoder_final, *arch.final, *arch.pooler):
        out += _beside(part, cut) if isinstance(part, Copies) else part.weights()
    if arch.head is not None:
        h = arch.head
        out += Linear(h.name, h.d_in, cut.vocabulary(h.d_out), h.bias, h.conv1d, h.role).weights()
    for part in arch.head_extras:
        for w in part.weights():
            by_word = len(w.shape) == 1 and w.shape[0] == arch.vocab
            out.append(Weight(w.name, (cut.vocabulary(w.shape[0]),), 1, w.role) if by_word else w)
    return [*out, *arch.loose_weights()]


def token_table(arch: Architecture, cut: Cut) -> list[Weight]:
    """The token table alone: the last pipeline stage's copy of a tied one."""
    return [w for w in first(arch, cut) if w.role == EMBEDDING][:1]
