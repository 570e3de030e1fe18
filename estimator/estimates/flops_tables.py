"""The tables of a FLOPs report: by operator, by layer, the rules of thumb, utilisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Attention
from estimator.formula import Formula
from estimator.formulas import flops as rules
from estimator.formulas.params import active_params, embedding_params, total_params
from estimator.inventory import EMBEDDING, POSITION
from estimator.report import Cell, Table
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, COUNT, FLOPS, PERCENT, Unit
from estimator.work.folds import OPERATORS, Group, by_operator, grouped, moved_elements
from estimator.work.passes import CONVENTIONS, Pass
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


def rules_of_thumb(made: Pass, whole: Group) -> Table:
    """The rules of thumb beside the exact count, each with its error."""
    arch, w = made.arch, made.work
    total, active, tables = total_params(arch), active_params(arch), embedding_params(arch)
    tokens, training = made.tokens, w.mode == "training"
    exact = whole.model if training else whole.forward
    rows: list[tuple[str | Cell | None, ...]] = []

    def add(name: str, value: Any, rule: Formula, count: Any = exact) -> None:
        error = 100 * (value - count) / count
        rows.append((name, Cell(value, FLOPS), Cell(error, PERCENT), str(rule.cite).split(",")[0]))

    moe = "active " if active != total else ""
    if made.method != "full" and training:
        add(
            f"4 N D, N = {moe}parameters (frozen base)",
            2 * rules.forward_flops_2nd(active, tokens),
            rules.forward_flops_2nd,
        )
    for name, count in ((f"N = {moe}parameters", active), (f"N = {moe}parameters without embeddings", active - tables)):
        if training:
            add(f"6 N D, {name}", rules.training_flops_6nd(count, tokens), rules.training_flops_6nd)
        else:
            add(f"2 N D, {name}", rules.forward_flops_2nd(count, tokens), rules.forward_flops_2nd)
    mixers = [g.mixer for g in arch.layers if isinstance(g.mixer, Attention)]
    if training and made.method == "full" and mixers and len(mixers) == len(arch.layers):
        L, a = sum((g.times for g in arch.layers), start=0), mixers[0]
        add(
            "(6 N + 12 L H Q T) D, PaLM",
            rules.palm_training_flops(active, tokens, L, a.heads, a.head_dim, w.s),
            rules.palm_training_flops,
        )
        tables_in = sum((w_.times * w_.elements for w_ in arch.weights() if w_.role in (EMBEDDING, POSITION)), start=0)
        positions = sum((w_.times * w_.elements for w_ in arch.weights() if w_.role == POSITION), start=0)
        add(
            "6 N D, N = parameters but the input embeddings, the Trainer's total_flos",
            rules.training_flops_6nd(active - tables_in, tokens),
            rules.training_flops_6nd,
        )
        for who, count in (("nanoGPT (no position table)", active - positions), ("torchtitan", active)):
            add(
                f"(6 N + 12 L H Q T) D, {who}",
                rules.palm_training_flops(count, tokens, L, a.heads, a.head_dim, w.s),
                rules.palm_training_flops,
            )
        add(
            "72 B L s h² (1 + s/6h + V/12hL)",
            rules.megatron_model_flops(w.b, L, w.s, arch.hidden, arch.vocab),
            rules.megatron_model_flops,
        )
        if w.checkpointing:
            add(
                "96 B s L h² (1 + s/6h + V/16Lh)",
                rules.narayanan_flops(w.b, L, w.s, arch.hidden, arch.vocab),
                rules.narayanan_flops,
                whole.hardware,
            )
    against = "the forward pass"
    if training:
        against = "forward and gradients, nothing computed twice (96 B s L h²: recomputation too)"
    return Table(
        "Rules of thumb", ("rule", "FLOPs", "error", "source"), tuple(rows), f"error against the count above: {against}"
    )


def utilisation(made: Pass, seconds: float, gpu: str | None, dtype: str) -> Table:
    """MFU and HFU of a measured time, under both conventions of attention."""
    if gpu is None:
        raise InputError("--seconds needs --gpu: utilisation is a share of its peak")
    if not seconds > 0:
        raise InputError(f"--seconds must be > 0, got {seconds}")
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
