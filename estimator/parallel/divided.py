"""Tensor parallelism as PyTorch has it: the model as one of ``t`` GPUs holds it, and what its layers then exchange.

transformers' tp_plan and torch.distributed.tensor.parallel (parallelize_module) cut q, k, v, gate and up by their
outputs, o and down by their inputs; where q, k and v, or gate and up, are one matrix, or are normed over all heads
("colwise_gather_output", "rowwise_split_input"), the weights are cut and what passes between them is whole. Experts are
cut like MLPs, or dealt; MLA is cut where it has heads, its latents are whole. What a class's plan leaves out
(:mod:`estimator.families.plans`) is whole on every GPU. With sequence parallelism (torchtitan's plan) the table, the
norms' tokens and the head are divided too. The blocks keep their names; ``across`` of a matrix says what is exchanged
around it (:mod:`estimator.stack.across`).

Sources: transformers 5.17 distributed/tensor_parallel.py, models/*/configuration_*.py (base_model_tp_plan);
torchtitan models/llama3/parallelize.py.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, Lookup, MoE
from estimator.families.common_parts import COLUMN, REJOINED, ROW, WHOLE_INPUT, WHOLE_OUTPUT
from estimator.families.plans import ATTENTION, EXPERTS, SHARED, left_whole
from estimator.inventory import EMBEDDING
from estimator.ops import exact_div
from estimator.parallel.tensor import Cut, expert_stacks
from estimator.peft.base import Adapter, PeftTensor
from estimator.same import Same
from estimator.trace import value_of

FLAG = "--tensor-parallel"


def one_rank(arch: Architecture, t: Any, sequence: bool) -> Architecture:
    """The model on one of ``t`` GPUs. InputError for models without such a plan, and sizes that cannot be divided."""
    if t == 1:
        return arch
    cut = Cut(t)
    layers = tuple(_layer(x, cut, sequence, left_whole(arch.model_type)) for x in arch.layers)
    head = arch.head
    if head is not None:
        cut.part(head.d_out, "the vocabulary")
        head = head._replace(d_out=exact_div(head.d_out, t), across=COLUMN)
    tables = tuple(_table(x, cut) if sequence else x for x in arch.embeddings)
    return arch._replace(layers=layers, head=head, embeddings=tables)


def _layer(x: Layer, cut: Cut, sequence: bool, whole: tuple[str, ...]) -> Layer:
    a, block = x.mixer, x.mlp
    plain = (
        isinstance(a, Attention) and a.form == "interface"
        and not (a.gate or a.joint or a.reuses or a.extras or a.disentangled or a.pool or a.routed)
        and (a.mla or len(a.projections) == 3 or (len(a.projections) == 1 and a.taken == "slices"))
        and a.out_norm is None and a.out_gate is None and a.indexer is None and _divisible(block)
        and not (x.cross or x.second or x.extras or x.chains or x.streams or x.ahead or x.shared or x.residual_weights)
    )  # fmt: skip
    if not plain:
        raise InputError(
            f"{FLAG} {value_of(cut.tensor)}: simulated for attention with q, k, v apart or sliced from one matrix, "
            "for MLA, and a dense MLP or experts; use --mode training --recipe megatron"
        )
    assert isinstance(a, Attention)
    assert isinstance(block, (MLP, MoE))
    if sequence and (a.mla or _sliced(a) or not isinstance(block, MLP) or block.fused):
        raise InputError(
            "--sequence-parallel: experts, MLA, norms over all heads, q, k, v or gate and up in one matrix have no "
            "such plan; leave it out"
        )
    divided = _experts(block, cut, whole) if isinstance(block, MoE) else _mlp(block, cut, "intermediate_size")
    return x._replace(mixer=a if ATTENTION in whole else _attention(a, cut), mlp=divided)


def _divisible(block: Any) -> bool:
    if isinstance(block, MoE):
        return not (block.latent or block.norms or block.idle) and (block.shared is None or _divisible(block.shared))
    return isinstance(block, MLP) and not (block.norm or block.extras or block.receptance)


def _sliced(a: Attention) -> bool:
    """Whether what the projections give is needed whole: it is sliced, or normed over all heads."""
    return len(a.projections) == 1 or any(n.width != a.head_dim for n in a.norms)


def _experts(block: MoE, cut: Cut, whole: tuple[str, ...]) -> MoE:
    """Every expert is cut like an MLP, on all its tokens; what the GPUs' parts add up to is reduced where it lies."""
    if block.shared is not None and SHARED not in whole:
        block = block._replace(shared=_mlp(block.shared, cut, "the shared experts' width"))
    if EXPERTS in whole:
        return block
    width = cut.part(block.width, "the expert's width")
    return block._replace(width=width, experts=expert_stacks(block, cut))


def expert_rank(arch: Architecture, ways: Any) -> Architecture:
    """The model where each of ``ways`` GPUs has some of the experts, and all the tokens (transformers' ep_plan): the
    rows of other GPUs' experts are sorted behind and skipped. InputError where there are none, or they do not divide.
    """
    if ways == 1:
        return arch
    if not any(isinstance(x.mlp, MoE) for x in arch.layers):
        raise InputError(f"--expert-parallel {value_of(ways)}: the model has no experts")

    def divided(x: Layer) -> Layer:
        if not isinstance(x.mlp, MoE):
            return x
        return x._replace(mlp=x.mlp._replace(experts=expert_stacks(x.mlp, Cut(1, ways))))

    return arch._replace(layers=tuple(map(divided, arch.layers)))


def _attention(a: Attention, cut: Cut) -> Attention:
    if a.mla:
        heads = cut.part(a.heads, "num_attention_heads")
        *narrow, query, down, up = a.projections
        own = (*narrow, _columns(query, cut), down._replace(across=REJOINED), _columns(up, cut))
        return a._replace(projections=own, out=_rows(a.out, cut), heads=heads, kv_heads=heads)
    if _sliced(a):
        apart = tuple(_columns(p, cut)._replace(across=WHOLE_OUTPUT) for p in a.projections)
        return a._replace(projections=apart, out=_rows(a.out, cut)._replace(across=WHOLE_INPUT))
    heads, kept = cut.part(a.heads, "num_attention_heads"), cut.part(a.kv_heads, "num_key_value_heads")
    q, k, v = (_columns(p, cut) for p in a.projections)
    return a._replace(projections=(q, k, v), out=_rows(a.out, cut), heads=heads, kv_heads=kept)


def _mlp(block: MLP, cut: Cut, of: str) -> MLP:
    *first, last = block.linears
    if block.fused:
        both = _columns(first[0], cut)._replace(across=WHOLE_OUTPUT)
        return block._replace(linears=(both, _rows(last, cut)._replace(across=WHOLE_INPUT)))
    width = cut.part(block.width, of)
    return block._replace(linears=(*(_columns(p, cut) for p in first), _rows(last, cut)), width=width)


def _columns(p: Linear, cut: Cut) -> Linear:
    return p._replace(d_out=cut.part(p.d_out, f"the outputs of {p.name}"), across=COLUMN)


def _rows(p: Linear, cut: Cut) -> Linear:
    return p._replace(d_in=cut.part(p.d_in, f"the inputs of {p.name}"), across=ROW)


def _table(part: Any, cut: Cut) -> Any:
    if isinstance(part, Lookup) and part.role == EMBEDDING:
        return part._replace(rows=cut.part(part.rows, "the vocabulary"), across=ROW)
    return part


@lru_cache(maxsize=64)
def _adapter(adapter: Same[Adapter], share: Same[Architecture], ways: Any) -> Adapter:
    of = {p.name: p.across for x in share.it.layers for p in x.linears()}
    if any(of.get(t.module) not in (COLUMN, ROW, "") for t in adapter.it.tensors):
        raise InputError(f"{FLAG} {value_of(ways)}: LoRA is simulated on q, k, v, o, gate, up and down, each apart")

    def cut(t: PeftTensor) -> PeftTensor:
        rows, columns = t.shape
        if of[t.module] == COLUMN and t.name.startswith("lora_B"):
            return t._replace(shape=(exact_div(rows, ways), columns))
        if of[t.module] == ROW and t.name.startswith("lora_A"):
            return t._replace(shape=(rows, exact_div(columns, ways)))
        return t

    return replace(adapter.it, tensors=tuple(map(cut, adapter.it.tensors)))


def adapter_of_rank(adapter: Adapter, share: Architecture, ways: Any) -> Adapter:
    """LoRA as peft divides it (tuners/lora/model.py): B of a matrix cut by outputs, A of one cut by inputs."""
    return _adapter(Same(adapter), Same(share), ways)


__all__ = ["FLAG", "adapter_of_rank", "expert_rank", "one_rank"]
