"""The tables of a FLOPs report: by operator, by layer, the rules of thumb, utilisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from estimator.commands.flops.passes import CONVENTIONS, Pass
from estimator.errors import InputError
from estimator.families.base import MLP, POSITION, Architecture, Attention, Lookup
from estimator.formula import Formula
from estimator.formulas import flops as rules
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.report import Cell, Node, Table
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, COUNT, FLOPS, PERCENT, Unit
from estimator.work.folds import OPERATORS, Group, by_operator, grouped, moved_elements
from estimator.work.product import Product

INTENSITY = Unit("FLOPs/byte", "FLOP/B", "plain")


def operators(made: Pass, causal: bool) -> Table:
    groups = by_operator(made.list, causal)
    rows = tuple(
        (
            OPERATORS[g.name],
            Cell(g.forward, FLOPS),
            Cell(g.backward, FLOPS),
            Cell(g.recompute, FLOPS),
            Cell(g.total, FLOPS),
        )
        for g in groups
    )
    return Table("By operator", ("operator", "forward", "backward", "recomputed", "total"), rows)


def layers(made: Pass, causal: bool, bits: Any, gpu: str | None, dtype: str) -> Table:
    """Forward FLOPs, bytes and intensity of one layer of each kind, and of what stands outside the layers."""
    groups = grouped(
        made.list, lambda q: q.layer or ("output head" if q.part == "output head" else "embeddings"), (), causal
    )
    ridge = None
    if gpu is not None:
        from estimator.presets import load_gpu
        from estimator.roofline import dense_peak

        spec = load_gpu(gpu)
        ridge = dense_peak(spec, dtype) / spec.bandwidth_bytes_s
    rows: list[tuple[str | Cell | None, ...]] = []
    for g in groups:
        each = _distinct(g.products)
        work = sum((q.flops(causal) for q in each if q.operator != "backward"), start=0)
        moved = (
            sum((moved_elements(q) for q in each if q.operator != "backward"), start=0)
            * bits.numerator
            // (BITS_PER_BYTE * bits.denominator)
        )
        intensity = work / moved
        count = sum((q.times for q in g.products if q.name == each[0].name), start=0)
        row: list[str | Cell | None] = [
            g.name,
            Cell(count, COUNT),
            Cell(work, FLOPS),
            Cell(moved, BYTES),
            Cell(intensity, INTENSITY),
        ]
        if ridge is not None:
            row.append("compute" if value_of(intensity) >= ridge else "memory")
        rows.append(tuple(row))
    columns = ("one layer, forward", "layers", "FLOPs", "bytes", "FLOP/byte")
    note = f"every operand and result of a product moved once, in {dtype}"
    if ridge is not None:
        note += f"; {gpu} does {ridge:,.0f} FLOPs in the time of one byte"
    return Table("Arithmetic intensity", columns + (("bound",) if ridge is not None else ()), tuple(rows), note)


def _distinct(rows: Sequence[Product]) -> list[Product]:
    """One of each product: segments of a group that differ only in gradients hold the same forward products."""
    return list({q.name: q for q in rows}.values())


def rules_of_thumb(made: Pass, whole: Group) -> tuple[Table, tuple[Node, ...]]:
    """(the conventions in use beside the exact count, each with its error; the same as results)."""
    training = made.work.mode == "training"
    exact = whole.model if training else whole.forward
    rows: list[tuple[str | Cell | None, ...]] = []
    nodes = []
    for key, name, value, rule, against in _rules(made, whole):
        count = exact if against is None else against
        error = Cell(100 * (value - count) / count, PERCENT)
        rows.append((name, Cell(value, FLOPS), error, str(rule.cite).split(",")[0]))
        nodes.append(Node(f"rule.{key}_flops", name, value, FLOPS, formula=rule))
    note = "the forward pass"
    if training:
        note = "forward and gradients, nothing computed twice (96 B s L h²: recomputation too)"
    columns = ("rule", "FLOPs", "error", "source")
    return Table("Rules of thumb", columns, tuple(rows), f"error against the count above: {note}"), tuple(nodes)


def _rules(made: Pass, whole: Group) -> Iterator[tuple[str, str, Any, Formula, Any]]:
    """(key, name, value, formula, what it is held against if not the count) of the rules that describe a model."""
    arch, w, tokens = made.arch, made.work, made.tokens
    active, tables = active_params(arch), embedding_params(arch)
    moe = "active " if active != total_params(arch) else ""
    training = w.mode == "training"
    rule = rules.training_flops_6nd if training else rules.forward_flops_2nd
    if made.method != "full" and training:
        frozen = 2 * rules.forward_flops_2nd(active, tokens)
        yield "4nd", f"4 N D, N = {moe}parameters (frozen base)", frozen, rules.forward_flops_2nd, None
    head = "6 N D" if training else "2 N D"
    yield head[0] + "nd", f"{head}, N = {moe}parameters", rule(active, tokens), rule, None
    without = f"{head}, N = {moe}parameters without embeddings"
    yield head[0] + "nd_without_embeddings", without, rule(active - tables, tokens), rule, None
    mixers = [g.mixer for g in arch.layers if isinstance(g.mixer, Attention)]
    if not training or made.method != "full" or not mixers or len(mixers) != len(arch.layers):
        return
    L, a = sum((g.times for g in arch.layers), start=0), mixers[0]
    looked_up = sum((x.rows * x.width for x in arch.embeddings if isinstance(x, Lookup)), start=0)
    positions = sum(
        (x.rows * x.width for x in arch.embeddings if isinstance(x, Lookup) and x.role == POSITION), start=0
    )

    def palm(count: Any) -> Any:
        return rules.palm_training_flops(count, tokens, L, a.heads, a.head_dim, w.s)

    yield "palm", "PaLM, llm-foundry: (6 N + 12 L H Q T) D", palm(active), rules.palm_training_flops, None
    kept = active if arch.tied else active - looked_up  # a tied table multiplies as the head
    name = "torchtitan: PaLM's, N without tables that only look up"
    yield "torchtitan", name, palm(kept), rules.palm_training_flops, None
    trainer = rule(active - looked_up, tokens)
    yield "trainer", "Trainer (transformers): 6 N D, N without embedding tables", trainer, rule, None
    if positions != 0:
        nano = palm(active - positions)
        yield "nanogpt", "nanoGPT: PaLM's, N without positions", nano, rules.palm_training_flops, None
    if _is_gpt(arch):
        sizes = (w.b, L, w.s, arch.hidden, arch.vocab)
        old = rules.megatron_model_flops(*sizes)
        yield "megatron", "Megatron: 72 B L s h² (1 + s/6h + V/12hL)", old, rules.megatron_model_flops, None
        if w.checkpointing:
            again = rules.narayanan_flops(*sizes)
            yield "narayanan", "96 B s L h² (1 + s/6h + V/16Lh)", again, rules.narayanan_flops, whole.hardware


def _is_gpt(arch: Architecture) -> bool:
    """Whether every layer is what Megatron-LM's formulas describe: as many keys as queries, an ungated MLP of 4 h."""
    return all(
        isinstance(g.mixer, Attention) and g.mixer.kv_heads == g.mixer.heads and g.mixer.mla is None
        and isinstance(g.mlp, MLP) and not g.mlp.gated and g.mlp.linears[-1].d_in == 4 * arch.hidden
        for g in arch.layers
    )  # fmt: skip


def utilisation(made: Pass, seconds: float, gpu: str | None, dtype: str) -> Table:
    """MFU and HFU of a measured time, under both conventions of attention."""
    if gpu is None:
        raise InputError("--seconds needs --gpu: utilisation is a share of its peak")
    if not 0 < seconds < float("inf"):
        raise InputError(f"--seconds must be a finite number > 0, got {seconds}")
    from estimator.presets import load_gpu
    from estimator.roofline import dense_peak

    peak = dense_peak(load_gpu(gpu), dtype)
    rows: list[tuple[str | Cell | None, ...]] = []
    for convention in CONVENTIONS:
        g = Group("", made.list, convention == "causal")
        cells = [Cell(100 * rules.utilisation(value_of(f), seconds, 1, peak), PERCENT) for f in (g.model, g.hardware)]
        rows.append((f"{convention} attention", Cell(g.model, FLOPS), *cells))
    return Table(
        "Utilisation", ("convention", "model FLOPs", "MFU", "HFU"), tuple(rows), f"of {gpu}'s dense {dtype} peak"
    )
