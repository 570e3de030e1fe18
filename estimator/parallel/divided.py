"""Tensor parallelism as PyTorch has it: the model as one of ``t`` GPUs holds it, and what its layers then exchange.

transformers' tp_plan and torch.distributed.tensor.parallel (parallelize_module) cut q, k, v, gate and up by their
outputs, o and down by their inputs; with sequence parallelism (torchtitan's plan) the table, the norms' tokens and the
head are divided too. The blocks keep their names; ``across`` of a matrix says what is exchanged around it
(:mod:`estimator.stack.across`).

Sources: transformers 5.17 distributed/tensor_parallel.py, models/*/configuration_*.py (base_model_tp_plan);
torchtitan models/llama3/parallelize.py.
"""

from __future__ import annotations

from typing import Any

from estimator.errors import InputError
from estimator.families.base import MLP, Architecture, Attention, Layer, Linear, Lookup
from estimator.families.parts import COLUMN, ROW
from estimator.inventory import EMBEDDING
from estimator.ops import exact_div
from estimator.parallel.tensor import Cut
from estimator.trace import value_of

FLAG = "--tensor-parallel"


def one_rank(arch: Architecture, t: Any, sequence: bool) -> Architecture:
    """The model on one of ``t`` GPUs. InputError for models without such a plan, and sizes that cannot be divided."""
    if t == 1:
        return arch
    cut = Cut(t)
    layers = tuple(_layer(x, cut) for x in arch.layers)
    head = arch.head
    if head is not None:
        cut.part(head.d_out, "the vocabulary")
        head = head._replace(d_out=exact_div(head.d_out, t), across=COLUMN)
    tables = tuple(_table(x, cut) if sequence else x for x in arch.embeddings)
    return arch._replace(layers=layers, head=head, embeddings=tables)


def _layer(x: Layer, cut: Cut) -> Layer:
    a, block = x.mixer, x.mlp
    plain = (
        isinstance(a, Attention) and isinstance(block, MLP) and a.form == "interface" and len(a.projections) == 3
        and not (a.mla or a.gate or a.joint or a.reuses or a.extras or a.disentangled or a.pool or a.routed)
        and a.out_norm is None and a.out_gate is None and a.indexer is None
        and all(n.width == a.head_dim for n in a.norms)
        and not (block.fused or block.norm or block.extras or block.receptance)
        and not (x.cross or x.second or x.extras or x.chains or x.streams or x.ahead or x.shared or x.residual_weights)
    )  # fmt: skip
    if not plain:
        raise InputError(
            f"{FLAG} {value_of(cut.tensor)}: simulated for attention with separate q, k, v, normed by heads if at all, "
            "and a dense MLP; use --mode training --recipe megatron"
        )
    assert isinstance(a, Attention)
    assert isinstance(block, MLP)
    heads, kept = cut.part(a.heads, "num_attention_heads"), cut.part(a.kv_heads, "num_key_value_heads")
    q, k, v = (_columns(p, cut) for p in a.projections)
    mixer = a._replace(projections=(q, k, v), out=_rows(a.out, cut), heads=heads, kv_heads=kept)
    *first, last = block.linears
    fed = block._replace(
        linears=(*(_columns(p, cut) for p in first), _rows(last, cut)), width=cut.part(block.width, "intermediate_size")
    )
    return x._replace(mixer=mixer, mlp=fed)


def _columns(p: Linear, cut: Cut) -> Linear:
    return p._replace(d_out=cut.part(p.d_out, f"the outputs of {p.name}"), across=COLUMN)


def _rows(p: Linear, cut: Cut) -> Linear:
    return p._replace(d_in=cut.part(p.d_in, f"the inputs of {p.name}"), across=ROW)


def _table(part: Any, cut: Cut) -> Any:
    if isinstance(part, Lookup) and part.role == EMBEDDING:
        return part._replace(rows=cut.part(part.rows, "the vocabulary"), across=ROW)
    return part


__all__ = ["FLAG", "one_rank"]
