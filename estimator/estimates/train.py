"""Time, money, energy and carbon of a training run: a step from a roofline over its products, then the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from estimator.errors import InputError
from estimator.estimates.train_run import LETTERS, Run, energy_rows, length, money, named, productive_share
from estimator.estimates.train_step import Step, one_step
from estimator.formulas import cost, time
from estimator.formulas.flops import utilisation
from estimator.models import Model
from estimator.ops import ceil_div
from estimator.parallel.degrees import Degrees
from estimator.parallel.sharding import STAGES
from estimator.recipes import find_recipe
from estimator.report import Cell, Node, Report, Table
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import COUNT, DAYS, FLOPS, GPU_HOURS, HOURS, PERCENT, RATIO, SECONDS, TOKEN_RATE, TOKENS, USD
from estimator.work.folds import Group
from estimator.work.passes import ATTENTIONS, CONVENTIONS, Pass, choice, plan
from estimator.work.times import ADAPTERS, ATTENTION, ELEMENTWISE, KERNELS, OPTIMIZER, PRODUCTS


def train(
    model: Model,
    run: Run | None = None,
    *,
    gpu: str = "h100-sxm",
    recipe: str = "torch-bf16",
    optimizer: str = "adamw-fused",
    dtype: str = "bf16",
    quantization: str = "none",
    attention_flops: str = "full",
    check_fit: bool = False,
    **options: Any,
) -> Report:
    """Time, GPU-hours, USD, kWh and CO2 of training ``model``.

    options: those of :func:`estimator.work.passes.plan` (batch_size, seq_len, method, rank, checkpointing ...).
    Raises InputError for bad input, DoesNotFit with ``check_fit`` where the peak exceeds the GPU.
    """
    run = run or Run()
    if model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to time: give a preset or a config.json")
    choice(attention_flops, "--attention-flops", tuple(CONVENTIONS))
    choice(options.get("attention", "sdpa"), "--attention", ATTENTIONS)
    made = plan(model, mode="training", uncapped=True, **options)
    found = find_recipe(recipe)
    degrees = _degrees(model, run)
    gpus = degrees.gpus
    step = one_step(made, found, run, gpu, degrees, optimizer, dtype, quantization, attention_flops)
    if check_fit and not degrees.plain:
        raise InputError("--check-fit with tensor or pipeline parallelism: use llmcalc zero --check-fit")
    fit, fit_notes = _fits(model, gpu, gpus, recipe, optimizer, quantization, check_fit, options)
    tokens_a_step = int(value_of(made.tokens)) * degrees.data * int(run.accumulation)
    total, length_note = length(model, run, made, gpus, tokens_a_step)
    productive, lost = productive_share(run, gpus)
    assumptions = [
        *step.notes,
        *length_note,
        *lost,
        *fit_notes,
        CONVENTIONS[attention_flops],
        *model.notes,
        *made.notes,
    ]
    body, more = _body(made, step, run, gpus, tokens_a_step, total, productive, attention_flops)
    return Report(
        "train",
        _title(model, made, run, gpus, step),
        _inputs(made, run, gpu, gpus, recipe, optimizer, dtype),
        body,
        {"bound": "utilisation" if run.mfu is not None else step.bound, "fits": fit},
        (*assumptions, *more),
        (),
        (*model.notes, *made.notes, *fit_notes, *length_note),
        letters=LETTERS,
    )


def _degrees(model: Model, run: Run) -> Degrees:
    """How the GPUs are divided. Raises InputError where the degrees do not divide them."""
    given = (
        ("--gpus", "gpus", run.gpus),
        ("--tensor-parallel", "tensor_parallel", run.tensor_parallel),
        ("--pipeline-parallel", "pipeline_parallel", run.pipeline_parallel),
    )
    if run.stage not in STAGES:
        raise InputError(f"--stage must be 0, 1, 2 or 3, got {run.stage}")
    gpus, tensor, pipeline = (int(value_of(size_option(model, value, flag, field))) for flag, field, value in given)
    return Degrees(gpus, tensor, pipeline)


def _fits(
    model: Model,
    gpu: str,
    gpus: int,
    recipe: str,
    optimizer: str,
    quantization: str,
    check_fit: bool,
    options: Mapping[str, Any],
) -> tuple[bool | None, list[str]]:
    """Whether a step fits one GPU (:func:`estimator.estimates.memory.memory`); DoesNotFit with ``check_fit``."""
    if gpus > 1 and not check_fit:
        return None, [f"whether it fits on {gpus:,} GPUs depends on how it is sharded: llmcalc zero"]
    from estimator.estimates.memory import memory

    wanted = {
        k: v
        for k, v in options.items()
        if k
        in (
            "batch_size",
            "seq_len",
            "attention",
            "checkpointing",
            "method",
            "rank",
            "targets",
            "args",
            "trainable_layers",
        )
    }
    if gpus > 1:
        wanted |= {"gpus": gpus}
    try:
        report = memory(
            model, "training", recipe, check_fit, gpu, optimizer=optimizer, quantization=quantization, **wanted
        )
    except InputError as error:
        if check_fit:
            raise
        return None, [f"whether it fits is not known: {error}"]
    fits = report.facts.get("fits")
    if fits is False:
        return False, [
            f"a step does not fit on one {gpu}: llmcalc memory --mode training says why, --check-fit makes it an error"
        ]
    return (True if fits else None), []


def _title(model: Model, made: Pass, run: Run, gpus: int, step: Step) -> str:
    w = made.work
    how = "" if made.method in ("full", "none") else f", {made.method}"
    size = f"{value_of(w.b):,} x {value_of(w.s):,} tokens"
    each = "a GPU" if step.parts == 1 else f"{step.parts:,} GPUs"
    return f"Training {model.name} on {gpus:,} x {step.spec.name}: {size} {each} and step{how}"


def _inputs(made: Pass, run: Run, gpu: str, gpus: int, recipe: str, optimizer: str, dtype: str) -> dict[str, Any]:
    w = made.work
    rest = {
        f.name: getattr(run, f.name)
        for f in fields(Run)
        if f.name not in ("gpus",) and getattr(run, f.name) is not None
    }
    return {
        "model": made.model.name,
        "batch_size": value_of(w.b),
        "seq_len": value_of(w.s),
        "gpu": gpu,
        "gpus": gpus,
        "recipe": recipe,
        "optimizer": optimizer,
        "dtype": dtype,
        "method": made.method,
    } | {k: str(v) for k, v in rest.items()}


def _body(
    made: Pass, step: Step, run: Run, gpus: int, tokens_a_step: int, total: int, productive: float, convention: str
) -> tuple[tuple[Node | Table, ...], list[str]]:
    t, spec = step.times, step.spec
    rates = {k: time.token_rate(tokens_a_step, v) for k, v in (("low", step.low), ("high", step.high))}
    traced = bool(made.model.config and made.model.config.traced)
    seconds, tokens, count = (
        named(traced, n, v) for n, v in (("t_step", step.best), ("B", tokens_a_step), ("N", gpus))
    )
    total, peak = named(traced, "D", total), named(traced, "F", step.peak)
    productive = named(traced, "g", productive) if productive != 1 else 1
    rates["best"] = time.token_rate(tokens, seconds)
    parts = [
        ("matrix products", t.of(PRODUCTS)),
        ("adapters in fp32", t.of(ADAPTERS)),
        ("attention", t.of(ATTENTION)),
        ("norms, activations, sums, loss", t.of(ELEMENTWISE)),
        ("optimizer step", t.of(OPTIMIZER)),
        ("starting and ending kernels", t.of(KERNELS)),
    ]
    rows = [Node("", name, seconds, SECONDS) for name, seconds in parts if seconds]
    flops = Group("", made.list, convention == "causal")
    repeats = int(run.accumulation)
    model_flops = named(traced, "C", value_of(flops.model) * repeats)
    mfu = utilisation(model_flops, seconds, step.parts, peak)
    time_rows = [
        Node(
            "step_seconds",
            "A step",
            step.best,
            SECONDS,
            children=()
            if run.mfu is not None
            else (
                Node.sum("device_seconds", "the device", rows),
                Node("host_seconds", "the host, launching kernels", t.host, SECONDS),
                *(
                    (
                        Node(
                            "communication_seconds", "between GPUs", step.exchange.data + step.exchange.model, SECONDS
                        ),
                    )
                    if gpus > 1
                    else ()
                ),
            ),
            note=f"{tokens_a_step:,} tokens",
        ),
        Node("step_seconds.low", "every kernel as fast as alone", step.low, SECONDS),
        Node("step_seconds.high", "device, host and network one after the other", step.high, SECONDS),
        Node("step_seconds.ideal", "the roofline alone", step.ideal, SECONDS),
        Node("tokens_per_second", "Tokens a second", rates["best"], TOKEN_RATE, formula=time.token_rate),
        Node("tokens_per_second_per_gpu", "a GPU", rates["best"] / count, TOKEN_RATE),
        Node("mfu", "MFU", mfu, RATIO, formula=utilisation, note=f"{convention} attention, of {spec.id}'s peak"),
    ]
    hours = {k: time.run_hours(total, r, productive) for k, r in rates.items()}
    spent = {k: cost.gpu_hours(h, count) for k, h in hours.items()}
    for found in (hours, spent):  # only the best estimate has a derivation
        found |= {k: value_of(v) for k, v in found.items() if k != "best"}
    price_rows, price_note = money(run, spec, spent, traced)
    power_rows, power_note = energy_rows(run, spec, spent, traced)
    run_rows = [
        Node("tokens", "Tokens", total, TOKENS),
        Node("steps", "Steps", ceil_div(total, tokens), COUNT),
        Node("hours", "Hours", hours["best"], HOURS, formula=time.run_hours),
        Node("days", "Days", hours["best"] / 24, DAYS),
        Node("goodput", "Productive share of the time", productive, RATIO),
        Node("gpu_hours", "GPU-hours", spent["best"], GPU_HOURS, formula=cost.gpu_hours),
        *price_rows,
        *power_rows,
    ]
    tables = _convention_table(made, step, repeats)
    spread = _range_table(hours, spent, price_rows, power_rows)
    return (Node.group("Step", time_rows), Node.group("Run", run_rows), spread, tables), [*price_note, *power_note]


def _range_table(hours: Mapping[str, float], spent: Mapping[str, float], money: list[Node], power: list[Node]) -> Table:
    by_key = {n.key: n.value for n in (*money, *power)}

    def cell(value: Any, unit: Any) -> Cell | None:
        return None if value is None else Cell(value, unit)

    rows: tuple[tuple[str | Cell | None, ...], ...] = (
        ("hours", *(Cell(hours[k], HOURS) for k in ("low", "best", "high"))),
        ("GPU-hours", *(Cell(spent[k], GPU_HOURS) for k in ("low", "best", "high"))),
        ("USD", cell(by_key.get("usd.low"), USD), cell(by_key.get("usd"), USD), cell(by_key.get("usd.high"), USD)),
    )
    return Table("Range", ("", "low", "best", "high"), rows)


def _convention_table(made: Pass, step: Step, repeats: int) -> Table:
    rows: list[tuple[str | Cell | None, ...]] = []
    for name in CONVENTIONS:
        g = Group("", made.list, name == "causal")
        spent = (float(value_of(f)) * repeats for f in (g.model, g.hardware))
        shares = [100 * utilisation(f, step.best, step.parts, step.peak) for f in spent]
        rows.append((f"{name} attention", Cell(g.model, FLOPS), *(Cell(s, PERCENT) for s in shares)))
    return Table(
        "Utilisation under both conventions",
        ("convention", "model FLOPs", "MFU", "HFU"),
        tuple(rows),
        "HFU counts what is computed twice too",
    )


__all__ = ["Run", "Step", "train"]
