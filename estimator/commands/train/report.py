"""Time, money, energy and carbon of a training run: a step from a roofline over its products, then the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from estimator.card import find_card
from estimator.commands.flops.passes import CONVENTIONS, Pass, plan
from estimator.commands.flops.question import Flops
from estimator.commands.memory.question import Memory
from estimator.commands.train import generation
from estimator.commands.train.question import Train
from estimator.commands.train.run import LETTERS, Run, energy_rows, length, money, named, productive_share
from estimator.commands.train.step import StepTime, one_step
from estimator.errors import InputError
from estimator.families.base import MoE
from estimator.fit import YES, Fit, fit_of, require_fit
from estimator.formulas import cost, time
from estimator.formulas.flops import utilisation
from estimator.models import Model
from estimator.names import choice
from estimator.ops import ceil_div
from estimator.parallel.degrees import Degrees
from estimator.parallel.links import node_size
from estimator.parallel.request import zero_stage
from estimator.presets import load_gpu
from estimator.questions import ask
from estimator.questions.base import Unsaid, sizes_of
from estimator.questions.read import batch, recipe_of, scored, storage_of
from estimator.recipes.base import FP32_BYTES, Recipe
from estimator.report import Cell, Node, Report, Table
from estimator.roofline import half_of
from estimator.sizes import as_number, size_option
from estimator.trace import value_of, wordless
from estimator.units import (
    BYTES,
    COUNT,
    DAYS,
    FLOPS,
    GPU_HOURS,
    HOURS,
    PERCENT,
    RATIO,
    SECONDS,
    TOKEN_RATE,
    TOKENS,
    USD,
)
from estimator.work.folds import Group
from estimator.work.times import ADAPTERS, ATTENTION, ELEMENTWISE, KERNELS, OPTIMIZER, PRODUCTS, ROUTING


def train(model: Model | str, **options: Any) -> Report:
    """Time, GPU-hours, USD, kWh and CO2 of training ``model``.

    options: the fields of :class:`~.question.Train` (tokens, batch_size, method, gpus, stage ...).
    Raises InputError for bad input, DoesNotFit with ``check_fit`` where the step does not fit the GPU.
    """
    q = ask(Train, model, options)
    report = answer(q)
    if q.check_fit:
        require_fit(report)
    return report


def answer(q: Train) -> Report:
    """The report of a question."""
    model = q.model
    if model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to time: give a preset or a config.json")
    choice(q.attention_flops, "--attention-flops", tuple(CONVENTIONS))
    said: list[str] = []
    if isinstance(q.dtype, Unsaid) and (half := half_of(load_gpu(q.gpu))) != q.dtype:
        said.append(f"--dtype not given: {half}, as {q.gpu} multiplies no {q.dtype}")
        q = replace(q, dtype=half)
    recipe = recipe_of(q, said)
    q = scored(q, recipe)
    model = q.model
    made = plan(one_pass(q, recipe))
    run = run_of(q, recipe, said)
    loop = _not_timed(q, recipe)
    gpus = run.degrees.gpus
    step = one_step(made, recipe, run)
    fit, held, fits, verdict, fit_notes = _fits(run)
    tokens_a_step = int(value_of(made.tokens)) * run.degrees.data * run.accumulation
    total, length_note = length(run, made, tokens_a_step)
    productive, lost = productive_share(run)
    assumptions = [
        *said, *step.notes, *loop, *length_note, *lost, *fit_notes, CONVENTIONS[q.attention_flops], *model.notes,
        *made.notes,
    ]  # fmt: skip
    made_before = generation.generated(run, recipe, made.work.s)
    apart = generation.rows(made_before, run, step.spec, total, tokens_a_step)
    beside = generation.said(made_before, run, apart)
    groups, more = _body(made, step, run, tokens_a_step, total, productive)
    body = (*groups, *apart, *held, *((fit.node(),) if fit else ()))
    facts = {"bound": "utilisation" if q.mfu is not None else step.bound, "fits": fits}
    if wordless():
        return Report("train", "", {}, body, facts)
    return Report(
        "train",
        _title(model, made, gpus, step),
        _inputs(made, run, recipe.name),
        body,
        facts,
        (*beside, *assumptions, *more),
        (),
        (*model.notes, *made.notes, *fit_notes, *length_note, *loop, *beside),
        letters=LETTERS,
        verdict=verdict,
        brief=_brief(body, fit),
    )


def _not_timed(q: Train, recipe: Recipe) -> list[str]:
    """What of the training loop's options the time has no use for: the memory has, but that of a paper's recipe."""
    from estimator.commands.memory.stack import unused_by
    from estimator.commands.memory.storage import STACK
    from estimator.questions.base import given

    if recipe.kind not in ("simulated", "deepspeed"):
        return unused_by(recipe, q, set(STACK) - {"accumulation", "packing", "compile"})

    timed = ["accumulation", "packing", "prepare_kbit", "transformers", "reentrant", "gradients", "hold_outputs",
             "compile", "reference"]  # fmt: skip
    if recipe.width != FP32_BYTES:
        timed.append("autocast")
    names = ", ".join(f.flag for f in given(q) if f.name in STACK and f.name not in timed)
    return [f"{names}: counted in the memory of the step, not in its time"] if names else []


def run_of(q: Train, recipe: Recipe, said: list[str]) -> Run:
    """The question, read. An optimizer that is not asked for is the recipe's, as it is in ``memory``."""
    repeats = int(value_of(size_option(q.model, q.accumulation, "--accumulation", "accumulation")))
    declared = q.model.declared.scheme
    own = storage_of(q, said) or (declared.name if declared else "none")
    return Run(q, _degrees(q), zero_stage(q.stage), repeats, own, q.optimizer or recipe.optimizer)


FIRST = ("step_seconds", "tokens_per_second", "mfu", "hours", "gpu_hours", "usd", "energy_kwh", "co2_kg")


def _brief(body: tuple[Node | Table, ...], fit: Fit | None) -> tuple[Node, ...]:
    """The rows that people ask first."""
    found = {n.key: n for part in body if isinstance(part, Node) for n in part.walk()}
    rows = [found[k]._replace(key="", children=(), how="") for k in FIRST if k in found and found[k].value is not None]
    if fit is not None:
        rows.append(Node("", f"Needed on {fit.card}", fit.need.best, BYTES))
    if "generation.hours" in found:
        for key, what in (("hours", "hours"), ("usd", "cost")):
            rows.append(found[f"generation.{key}"]._replace(key="", label=f"Generating, not in it: {what}"))
    if "host_node_bytes" in found:
        rows.append(Node("", "On the host of a node", found["host_node_bytes"].value, BYTES))
    return (Node.group("", rows),)


def one_pass(q: Train, recipe: Recipe) -> Flops:
    """The pass that a step repeats."""
    sequences = recipe.sequences
    if q.checkpointing == "selective":
        raise InputError("--checkpointing selective is not timed: use none or full, or llmcalc memory for its bytes")
    same = ("seq_len", "method", "rank", "targets", "args", "trainable_layers", "checkpointing",
            "attention_flops")  # fmt: skip
    return Flops(
        batch_size=q.batch_size if sequences == 1 else str(sequences * value_of(batch(q.model, q.batch_size))),
        model=q.model, mode="training", uncapped=True, attention=q.attention or "sdpa",
        forced=q.attention == "sdpa" or (q.attention is None and recipe.kernels.attention),
        **{k: getattr(q, k) for k in same},
    )  # fmt: skip


def _degrees(q: Train) -> Degrees:
    """How the GPUs are divided. Raises InputError where the degrees do not divide them."""
    from estimator.presets import load_gpu

    names = ("gpus", "tensor_parallel", "pipeline_parallel", "context_parallel", "expert_parallel")
    found = (size_option(q.model, getattr(q, name), f"--{name.replace('_', '-')}", name) for name in names)
    gpus, tensor, pipeline, context, expert = (int(value_of(n)) for n in found)
    if expert != 1 and not any(isinstance(layer.mlp, MoE) for layer in q.model.architecture.layers):
        raise InputError(f"--expert-parallel {expert}: {q.model.name} has no experts")
    node = node_size(q.gpus_per_node, load_gpu(q.gpu))
    return Degrees(gpus, tensor, pipeline, context, expert, q.sequence_parallel, node, q.expert_tensor_parallel)


def _fits(run: Run) -> tuple[Fit | None, list[Node], str | None, str, list[str]]:
    """(fit, the host's rows, the answer, verdict, notes): whether a step fits one GPU and, where it offloads, the host,
    as ``memory`` says it of the same options."""
    from estimator.commands.memory.host import host_of, node_of, ram_of, verdict_of, worst_of
    from estimator.commands.memory.needed import needed
    from estimator.commands.memory.plan import plan as memory_plan

    q = run.question
    same = [f.name for f in fields(Memory) if hasattr(q, f.name) and f.name not in ("dtype", "check_fit")]
    asked = Memory(**{k: getattr(q, k) for k in same} | {
        "mode": "training", "optimizer": run.optimizer, "attention": q.attention or "sdpa",
        "gpus": run.degrees.gpus if run.degrees.gpus > 1 else None, "stage": q.stage if run.degrees.gpus > 1 else None,
        "micro_batches": str(run.accumulation) if not run.degrees.plain else "1",
        "accumulation": "1" if str(q.pipeline_parallel) != "1" else q.accumulation,  # a pipeline's micro-batches
    })  # fmt: skip
    try:
        planned = memory_plan(asked)
        card = find_card(q.gpu, q.gpu_memory)
        peak, host = needed(planned), host_of(planned)
        fit = fit_of(peak, card, "training")
        ram = ram_of(asked, host, card, None if fit is None else fit.need)
    except InputError as error:
        if q.check_fit or q.ram is not None:
            raise
        return None, [], None, "", [f"whether it fits is not known: {error}"]
    best = ""
    if fit is not None and fit.answer != YES and not wordless():
        from estimator.commands.memory.changes import advice

        best = advice(asked, card, peak)[1]
    answered = worst_of(None if fit is None else fit.answer, ram)
    return fit, [] if host is None else [node_of(host)], answered, verdict_of(fit, best, host, ram), []


def _title(model: Model, made: Pass, gpus: int, step: StepTime) -> str:
    w = made.work
    how = "" if made.method == "full" else f", {made.method}"
    size = f"{value_of(w.b):,} x {value_of(w.s):,} tokens"
    each = "a GPU" if step.parts == 1 else f"for {step.parts:,} GPUs"
    return f"Training {model.name} on {gpus:,} x {step.spec.name}: {size} {each} and step{how}"


def _inputs(made: Pass, run: Run, recipe: str) -> dict[str, Any]:
    w, q = made.work, run.question
    hidden = ("model", "args", "check_fit", "seq_len", "batch_size", "recipe", "optimizer", "gpus", "dtype", "gpu")
    rest = {f.name: getattr(q, f.name) for f in fields(q) if f.name not in hidden}
    sizes = sizes_of(Train)

    def told(name: str, value: Any) -> Any:
        return as_number(name, value) if name in sizes else value if isinstance(value, int | float) else str(value)

    own = {"recipe": recipe, "optimizer": run.optimizer, "quantization": run.quantization, "method": made.method}
    return {
        "model": made.model.name, "batch_size": value_of(w.b), "seq_len": value_of(w.s), "gpu": q.gpu,
        "gpus": run.degrees.gpus, "dtype": q.dtype,
    } | {k: told(k, v) for k, v in rest.items() if v not in (None, "", False)} | own  # fmt: skip


def _shares(step: StepTime, gpus: int) -> tuple[Node, ...]:
    """Where the seconds of a step go."""
    t = step.times
    device = {
        "matrix products": PRODUCTS, "adapters in fp32": ADAPTERS, "attention": ATTENTION,
        "norms, activations, sums, loss": ELEMENTWISE, "optimizer step": OPTIMIZER,
        "starting and ending kernels": KERNELS, "waiting for the routing": ROUTING,
    }  # fmt: skip
    rows = [
        Node.sum("device_seconds", "the device", [Node("", k, t.of(v), SECONDS) for k, v in device.items() if t.of(v)]),
        Node("host_seconds", "the host, launching kernels", t.host, SECONDS),
    ]
    if step.hooks:
        rows.append(Node("hooks_seconds", "of it, hooks of what shards", step.hooks, SECONDS))
    if gpus > 1:
        rows.append(Node("communication_seconds", "between GPUs", step.exchange.data + step.exchange.model, SECONDS))
    return tuple(rows)


def _body(
    made: Pass, step: StepTime, run: Run, tokens_a_step: int, total: int, productive: float
) -> tuple[tuple[Node | Table, ...], list[str]]:
    q, gpus, convention = run.question, run.degrees.gpus, run.question.attention_flops
    spec = step.spec
    rates = {k: time.token_rate(tokens_a_step, v) for k, v in (("low", step.low), ("high", step.high))}
    traced = made.model.derives
    seconds, tokens, count = (
        named(traced, n, v) for n, v in (("t_step", step.best), ("B", tokens_a_step), ("N", gpus))
    )
    total, peak = named(traced, "D", total), named(traced, "F", step.peak)
    productive = named(traced, "g", productive) if productive != 1 else 1
    rates["best"] = time.token_rate(tokens, seconds)
    flops = Group("", made.list, convention == "causal")
    repeats = run.accumulation
    model_flops = named(traced, "C", value_of(flops.model) * repeats)
    mfu = utilisation(model_flops, seconds, step.parts, peak)
    time_rows = [
        Node("step_seconds", "A step", step.best, SECONDS, () if q.mfu is not None else _shares(step, gpus),
             note=f"{tokens_a_step:,} tokens"),
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
    price_rows, price_note = money(q, spec, spent, traced)
    power_rows, power_note = energy_rows(q, spec, spent, traced)
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
    groups = (Node.group("Step", time_rows), Node.group("Run", run_rows))
    if wordless():
        return groups, []
    tables = (_range_table(hours, spent, price_rows, power_rows), _convention_table(made, step, repeats))
    return (*groups, *tables), [*price_note, *power_note]


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


def _convention_table(made: Pass, step: StepTime, repeats: int) -> Table:
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
