"""Time, money, energy and carbon of a training run: a step from a roofline over its products, then the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import median
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.estimates.flops import ATTENTIONS, CONVENTIONS, Pass, choice, plan
from estimator.formulas import cost, energy, time
from estimator.formulas.flops import utilisation
from estimator.models import Model
from estimator.ops import ceil_div
from estimator.recipes import find_recipe
from estimator.report import Cell, Node, Report, Table
from estimator.sizes import size_option
from estimator.steptime import Ceilings, Times, ceilings, dense_peak, ideal_seconds, pass_times
from estimator.trace import value_of
from estimator.units import COUNT, DAYS, FLOPS, GPU_HOURS, HOURS, KG, KWH, PERCENT, RATIO, SECONDS, SECONDS_PER_HOUR, TOKEN_RATE, TOKENS, USD, WATTS
from estimator.work import operations
from estimator.work.folds import Group
from estimator.work.product import FP32_BYTES, Kernel, Product

if TYPE_CHECKING:
    from estimator.recipes.base import Recipe
    from estimator.schemas import GpuSpec

DEFAULT_TOKENS = 10**9
PUE = 1.1  # Touvron et al. 2023, LLaMA, arXiv 2302.13971, section 6
INTENSITY = 0.385  # kg CO2e a kWh, the US average that LLaMA, section 6, uses
LOW_POWER = 0.7  # of the thermal design power: 280 of 400 W measured, Li et al. 2023, StarCoder, arXiv 2305.06161
RESTART_SECONDS, WRITE_SECONDS = 600.0, 60.0
RING, RING_ZERO3 = 2, 3  # passes of an all-reduce; gather twice and reduce-scatter once
# bytes of one optimizer step over those of the fused AdamW: passes over a tensor, torch/optim/*.py
# foreach: lerp 3, mul 2, addcmul 3, sqrt 2, div 2, add 2, addcdiv 4, decay 2 = 20 tensors; fused: 7
PASSES = {"adamw-fused": 7, "adamw": 20, "adamw-forloop": 20, "sgd": 3, "sgd-momentum": 5, "lion": 9, "adafactor": 12, "adamw8bit": 5, "muon": 5}
ADAMW_PASSES = 7
NF4_BYTES = 0.5625 + 2  # an unpacked weight: 4.5 bits read, 16 written


@dataclass(frozen=True, slots=True)
class Run:
    """Length and surroundings of a run, checked.

    tokens or steps or examples (with epochs, mean_tokens, packing): how long; gpus, accumulation: tokens a step.
    mfu: model FLOPs utilisation that replaces the roofline. price USD a GPU-hour; power watts a GPU; pue; intensity kg
    a kWh; embodied kg to make one GPU, life_years of use. goodput: productive share of the time, or mtbf hours of one
    GPU between failures with write_seconds a checkpoint and restart_seconds a failure. link: 10^9 bytes/s one way.
    """

    tokens: Any = None
    steps: Any = None
    examples: Any = None
    epochs: float = 1.0
    mean_tokens: Any = None
    packing: bool = False
    gpus: Any = 1
    accumulation: Any = 1
    stage: int = 0
    mfu: Any = None
    price: Any = None
    power: Any = None
    pue: Any = PUE
    intensity: Any = INTENSITY
    embodied: Any = None
    life_years: Any = 5.0
    goodput: Any = None
    mtbf: Any = None
    write_seconds: Any = WRITE_SECONDS
    restart_seconds: Any = RESTART_SECONDS
    link: Any = None


def share(value: Any, flag: str) -> float | None:
    """A share in (0, 1] from ``0.4`` or ``40%``; InputError otherwise."""
    if value is None:
        return None
    text = str(value).strip()
    number = real(text.removesuffix("%"), flag) / (100 if text.endswith("%") else 1)
    if not 0 < number <= 1:
        raise InputError(f"{flag} must be a share above 0 and at most 1 (or 100%), got {text[:40]}")
    return number


def real(value: Any, flag: str, least: float = 0.0, open_end: bool = True) -> float:
    """A finite number above ``least`` (or at least it, without ``open_end``); InputError otherwise."""
    try:
        number = float(str(value).strip())
    except ValueError:
        raise InputError(f"{flag} must be a number, got {str(value)[:40]!r}") from None
    if not number - number == 0 or number < least or (open_end and number == least) or number > 1e18:
        raise InputError(f"{flag} must be {'>' if open_end else '>='} {least:g} and finite, got {str(value)[:40]}")
    return number


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step on one GPU: its products, its times, its range and what bounds it."""

    made: Pass
    times: Times
    best: float
    low: float
    high: float
    ideal: float
    communication: float
    spec: GpuSpec
    peak: float
    notes: tuple[str, ...]


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

    options: those of :func:`estimator.estimates.flops.plan` (batch_size, seq_len, method, rank, checkpointing ...).
    Raises InputError for bad input, DoesNotFit with ``check_fit`` where the peak exceeds the GPU.
    """
    run = run or Run()
    if model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to time: give a preset or a config.json")
    choice(attention_flops, "--attention-flops", tuple(CONVENTIONS))
    choice(options.get("attention", "sdpa"), "--attention", ATTENTIONS)
    made = plan(model, mode="training", **options)
    found = find_recipe(recipe)
    gpus = int(value_of(size_option(model, run.gpus, "--gpus", "gpus")))
    step = _step(made, found, run, gpu, gpus, optimizer, dtype, quantization, attention_flops)
    fit, fit_notes = _fits(model, gpu, gpus, recipe, optimizer, quantization, check_fit, options)
    tokens_a_step = int(value_of(made.tokens)) * gpus * int(run.accumulation)
    total, length_note = _length(model, run, made, gpus, tokens_a_step)
    productive, lost = _goodput(run, gpus)
    assumptions = [*step.notes, *length_note, *lost, *fit_notes, CONVENTIONS[attention_flops], *model.notes, *made.notes]
    body, more = _body(made, step, run, gpus, tokens_a_step, total, productive, attention_flops)
    return Report(
        "train", _title(model, made, run, gpus, step), _inputs(made, run, gpu, gpus, recipe, optimizer, dtype), body,
        {"bound": "utilisation" if run.mfu is not None else step.times.bound, "fits": fit},
        (*assumptions, *more), (), (*model.notes, *made.notes, *fit_notes, *length_note), symbolic=False,
    )  # fmt: skip


def _step(
    made: Pass, recipe: Recipe, run: Run, gpu: str, gpus: int, optimizer: str, dtype: str, quantization: str, convention: str
) -> Step:
    from estimator.presets import load_gpu

    spec = load_gpu(gpu)
    kind = "fp32" if recipe.name == "torch-fp32" else dtype
    c = ceilings(spec, kind)
    width = FP32_BYTES if kind == "fp32" else 2
    ops = operations(made.arch, made.work, made.train)
    moved, notes = _optimizer_bytes(made, recipe, optimizer)
    repeats = int(run.accumulation)
    extra = _unpacking(made, quantization) + _casts(made, recipe)
    once = pass_times(ops, c, width, fp32_adapters=not recipe.amp, stream=FP32_BYTES if recipe.amp else None)
    times = Times(
        once.products * repeats, once.adapters * repeats, once.attention * repeats, (once.elementwise + extra / c.pointwise) * repeats,
        moved / c.copy, once.host * repeats,
    )  # fmt: skip
    ideal = ideal_seconds(ops, c, width) * repeats + moved / c.bandwidth
    comm, comm_notes = _communication(made, recipe, run, spec, gpus)
    hidden = times.device * 2 / 3  # a backward pass is two thirds of a step's products
    best = times.total + max(0.0, comm - hidden)
    low, high = _fastest(ops, c, width, recipe, moved, repeats, times), times.device + times.host + comm
    peak = dense_peak(spec, kind)
    mfu = share(run.mfu, "--mfu")
    basis = [*c.basis, *notes, *comm_notes]
    if mfu is not None:
        flops = float(value_of(Group("", made.list, convention == "causal").model)) * repeats
        best = low = high = time.seconds_at_utilisation(flops, 1, peak, mfu)
        basis = [f"--mfu {100 * mfu:g}% of {spec.id}'s dense {kind} peak in place of the roofline"]
    return Step(made, times, best, min(low, best), max(high, best), min(ideal, best), comm, spec, peak, tuple(basis))


def _fastest(ops: list[Product | Kernel], c: Ceilings, width: int, recipe: Recipe, moved: float, repeats: int, best: Times) -> float:
    """The step with every kernel at the rate it reaches alone: isolated products, plain copies, no waiting for the host."""
    alone = {"pointwise": c.copy, "curve": tuple((x, c.isolated) for x, _ in c.curve)}
    quick = Ceilings(**{f.name: alone.get(f.name, getattr(c, f.name)) for f in fields(Ceilings)})
    return min(best.total, pass_times(ops, quick, width, not recipe.amp).device * repeats + moved / c.bandwidth)


def _optimizer_bytes(made: Pass, recipe: Recipe, optimizer: str) -> tuple[float, list[str]]:
    """Bytes that one optimizer step reads and writes: gradients read, states and weights read and written."""
    trained = _trained(made)
    if optimizer not in PASSES:
        from estimator.optimizers import find_optimizer

        find_optimizer(optimizer)
    passes = PASSES.get(optimizer, ADAMW_PASSES)
    fused = recipe.gradients + 2 * recipe.states + (2 * recipe.master + recipe.weights if recipe.master else 2 * recipe.weights)
    if made.method not in ("full", "none") and not recipe.master and made.method != "freeze":
        fused = ADAMW_PASSES * FP32_BYTES  # adapters are kept in fp32
    note = [] if optimizer in PASSES else [f"{optimizer}: its step is taken to move what fused AdamW moves"]
    return trained * fused * passes / ADAMW_PASSES, note


def _trained(made: Pass) -> float:
    """Elements that are trained: full, or the adapters' own, or the unfrozen layers'."""
    if made.method in ("full", "none"):
        return float(value_of(sum((w.total for w in made.arch.weights()), start=0)))
    seen = {(q.name, q.layer): q for q in made.list if q.right and q.weight}
    return float(sum(value_of(q.weight) * value_of(sum(x.times for x in made.list if (x.name, x.layer) == key)) for key, q in seen.items()))


def _unpacking(made: Pass, quantization: str) -> float:
    """Bytes that unpacking quantised weights moves: each linear layer's, once a forward, recomputed and backward use."""
    if quantization == "none":
        return 0.0
    if quantization not in ("nf4", "nf4-dq", "int8"):
        raise InputError(f"--quantization {quantization}: training is timed for none, nf4, nf4-dq and int8")
    uses = (float(value_of(q.times * q.weight)) * (1 + int(q.left) + int(q.recomputed)) for q in made.list if q.operator == "linear" and q.part not in ("adapters", "output head"))
    return sum(uses) * NF4_BYTES


def _casts(made: Pass, recipe: Recipe) -> float:
    """Autocast: every fp32 weight to bf16 once a pass, its gradient back."""
    if not recipe.amp:
        return 0.0
    return sum(float(value_of(q.times * q.weight)) * (1 + int(q.right)) for q in made.list if q.weight) * (FP32_BYTES + 2)


def _communication(made: Pass, recipe: Recipe, run: Run, spec: GpuSpec, gpus: int) -> tuple[float, list[str]]:
    if gpus == 1:
        return 0.0, []
    rate = real(run.link, "--link") * 10**9 if run.link is not None else spec.link_bytes_s
    if rate is None:
        raise InputError(f"--gpus {gpus}: {spec.id} has no link in its preset; give --link in 10^9 bytes/s one way")
    passes = RING_ZERO3 if run.stage == 3 else RING
    seconds = time.collective_seconds(_trained(made) * recipe.gradients, gpus, rate, passes)
    where = f"{rate / 1e9:g} GB/s one way" + ("" if run.link is not None else f", {spec.id}'s own link, between all GPUs (slower networks: --link)")
    return seconds, [f"data parallel over {gpus:,} GPUs: gradients at {where}, hidden behind the backward pass where it is longer"]


def _length(model: Model, run: Run, made: Pass, gpus: int, tokens_a_step: int) -> tuple[int, list[str]]:
    """Tokens of the whole run, padding included."""
    given = [f for f, v in (("--tokens", run.tokens), ("--steps", run.steps), ("--examples", run.examples)) if v is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: give one of them")
    if run.tokens is not None:
        return int(value_of(size_option(model, run.tokens, "--tokens", "tokens"))), []
    if run.steps is not None:
        return int(value_of(size_option(model, run.steps, "--steps", "steps"))) * tokens_a_step, []
    if run.examples is None:
        return DEFAULT_TOKENS, [f"--tokens, --steps or --examples not given: a run of {DEFAULT_TOKENS:,} tokens"]
    examples, s = int(value_of(size_option(model, run.examples, "--examples", "examples"))), int(value_of(made.work.s))
    epochs = real(run.epochs, "--epochs")
    mean = s if run.mean_tokens is None else int(value_of(size_option(model, run.mean_tokens, "--mean-tokens", "mean_tokens")))
    if mean > s:
        raise InputError(f"--mean-tokens {mean}: longer than --seq-len {s}")
    rows = ceil_div(examples * mean, s) if run.packing else examples
    steps = ceil_div(int(rows * epochs), max(1, tokens_a_step // s))
    how = f"packed into {rows:,} rows of {s:,}" if run.packing else f"each padded to {s:,} tokens ({mean:,} on average are real)"
    return steps * tokens_a_step, [f"{examples:,} examples {how}, {epochs:g} epochs: {steps:,} steps"]


def _goodput(run: Run, gpus: int) -> tuple[float, list[str]]:
    """(productive share of the time, how it was taken)."""
    given = share(run.goodput, "--goodput")
    if given is not None:
        return given, [f"--goodput {given:g}: share of the time that makes progress"]
    if run.mtbf is None:
        return 1.0, ["no failures (--goodput, or --mtbf hours of one GPU)"]
    every = real(run.mtbf, "--mtbf") * SECONDS_PER_HOUR / gpus
    write, restart = real(run.write_seconds, "--write-seconds"), real(run.restart_seconds, "--restart-seconds", open_end=False)
    interval = time.checkpoint_interval(write, every)
    kept = time.goodput(write, interval, every, restart)
    if kept <= 0:
        raise InputError(f"--mtbf {run.mtbf}: a failure every {every:,.0f} s leaves no time for checkpoints of {write:g} s and restarts of {restart:g} s")
    return kept, [f"a failure every {every / SECONDS_PER_HOUR:,.2f} h on {gpus:,} GPUs, a checkpoint every {interval / 60:,.1f} min ({write:g} s each), {restart:g} s a restart"]


def _fits(
    model: Model, gpu: str, gpus: int, recipe: str, optimizer: str, quantization: str, check_fit: bool, options: Mapping[str, Any]
) -> tuple[bool | None, list[str]]:
    """Whether a step fits one GPU, by :func:`estimator.estimates.memory.memory`; with ``check_fit`` DoesNotFit is raised."""
    if gpus > 1 and not check_fit:
        return None, [f"whether it fits on {gpus:,} GPUs depends on how it is sharded: llmcalc zero"]
    from estimator.estimates.memory import memory

    wanted = {k: v for k, v in options.items() if k in ("batch_size", "seq_len", "attention", "checkpointing", "method", "rank", "targets", "args", "trainable_layers")}
    if gpus > 1:
        wanted |= {"gpus": gpus}
    try:
        report = memory(model, "training", recipe, check_fit, gpu, optimizer=optimizer, quantization=quantization, **wanted)
    except InputError as error:
        if check_fit:
            raise
        return None, [f"whether it fits is not known: {error}"]
    fits = report.facts.get("fits")
    if fits is False:
        return False, [f"a step does not fit on one {gpu}: llmcalc memory --mode training says why, --check-fit makes it an error"]
    return (True if fits else None), []


def _title(model: Model, made: Pass, run: Run, gpus: int, step: Step) -> str:
    w = made.work
    how = "" if made.method in ("full", "none") else f", {made.method}"
    return f"Training {model.name} on {gpus:,} x {step.spec.name}: {value_of(w.b):,} x {value_of(w.s):,} tokens a GPU and step{how}"


def _inputs(made: Pass, run: Run, gpu: str, gpus: int, recipe: str, optimizer: str, dtype: str) -> dict[str, Any]:
    w = made.work
    rest = {f.name: getattr(run, f.name) for f in fields(Run) if f.name not in ("gpus",) and getattr(run, f.name) is not None}
    return {"model": made.model.name, "batch_size": value_of(w.b), "seq_len": value_of(w.s), "gpu": gpu, "gpus": gpus, "recipe": recipe, "optimizer": optimizer, "dtype": dtype, "method": made.method} | {k: str(v) for k, v in rest.items()}


def _body(
    made: Pass, step: Step, run: Run, gpus: int, tokens_a_step: int, total: int, productive: float, convention: str
) -> tuple[tuple[Node | Table, ...], list[str]]:
    t, spec = step.times, step.spec
    rates = {k: time.token_rate(tokens_a_step, v) for k, v in (("best", step.best), ("low", step.low), ("high", step.high))}
    parts = [
        ("matrix products", t.products), ("adapters in fp32" if t.adapters else "", t.adapters), ("attention", t.attention),
        ("norms, activations, sums, loss", t.elementwise), ("optimizer step", t.optimizer),
    ]  # fmt: skip
    rows = [Node("", name, seconds, SECONDS) for name, seconds in parts if name and seconds]
    flops = Group("", made.list, convention == "causal")
    repeats = int(run.accumulation)
    mfu = utilisation(float(value_of(flops.model)) * repeats, step.best, 1, step.peak)
    time_rows = [
        Node("step_seconds", "A step", step.best, SECONDS, children=() if run.mfu is not None else (
            Node.sum("device_seconds", "the device", rows),
            Node("host_seconds", "the host, launching kernels", t.host, SECONDS),
            *((Node("communication_seconds", "gradients between GPUs", step.communication, SECONDS),) if gpus > 1 else ()),
        ), note=f"{tokens_a_step:,} tokens"),
        Node("step_seconds.low", "every kernel as fast as alone", step.low, SECONDS),
        Node("step_seconds.high", "device, host and network one after the other", step.high, SECONDS),
        Node("step_seconds.ideal", "the roofline alone", step.ideal, SECONDS),
        Node("tokens_per_second", "Tokens a second", rates["best"], TOKEN_RATE, formula=time.token_rate),
        Node("tokens_per_second_per_gpu", "a GPU", rates["best"] / gpus, TOKEN_RATE),
        Node("mfu", "MFU", mfu, RATIO, formula=utilisation, note=f"{convention} attention, of {spec.id}'s peak"),
    ]  # fmt: skip
    hours = {k: time.run_hours(total, r, productive) for k, r in rates.items()}
    spent = {k: cost.gpu_hours(h, gpus) for k, h in hours.items()}
    money, price_note = _money(run, spec, spent)
    power, power_note = _energy(run, spec, spent)
    run_rows = [
        Node("tokens", "Tokens", total, TOKENS),
        Node("steps", "Steps", ceil_div(total, tokens_a_step), COUNT),
        Node("hours", "Hours", hours["best"], HOURS, formula=time.run_hours),
        Node("days", "Days", hours["best"] / 24, DAYS),
        Node("goodput", "Productive share of the time", productive, RATIO),
        Node("gpu_hours", "GPU-hours", spent["best"], GPU_HOURS, formula=cost.gpu_hours),
        *money, *power,
    ]  # fmt: skip
    tables = _convention_table(made, step, repeats)
    spread = _range_table(hours, spent, money, power)
    return (Node.group("Step", time_rows), Node.group("Run", run_rows), spread, tables), [*price_note, *power_note]


def _money(run: Run, spec: GpuSpec, spent: Mapping[str, float]) -> tuple[list[Node], list[str]]:
    if run.price is not None:
        price = real(run.price, "--price", open_end=False)
        low = high = price
        note = f"--price {price:g} USD a GPU-hour"
    elif spec.prices:
        quotes = [p.usd_per_hour for p in spec.prices]
        price, low, high = median(quotes), min(quotes), max(quotes)
        note = f"{spec.id}: {price:g} USD an hour, the median of {len(quotes)} quotes from {min(p.date for p in spec.prices)} to {max(p.date for p in spec.prices)} ({low:g} to {high:g})"
    else:
        return [Node("usd", "Cost", None, USD, note=f"no price for {spec.id}: give --price")], []
    rows = [Node("usd", "Cost", cost.rental_usd(spent["best"], price), USD, formula=cost.rental_usd)]
    rows += [Node(f"usd.{k}", f"{k}est quote", cost.rental_usd(spent[k], p), USD) for k, p in (("low", low), ("high", high))]
    return rows, [note]


def _energy(run: Run, spec: GpuSpec, spent: Mapping[str, float]) -> tuple[list[Node], list[str]]:
    pue = real(run.pue, "--pue", 1.0, open_end=False)
    intensity = real(run.intensity, "--carbon-intensity", open_end=False)
    if run.power is not None:
        watts = low = real(run.power, "--power")
        note = f"--power {watts:g} W a GPU"
    elif spec.power is not None:
        watts, low = spec.power.tdp_w, LOW_POWER * spec.power.tdp_w
        note = f"{watts:g} W a GPU, {spec.id}'s thermal design power; low: {LOW_POWER:.0%} of it, as StarCoder measured on A100s"
    else:
        return [Node("energy_kwh", "Energy", None, KWH, note="no power in the preset: give --power"), Node("co2_kg", "CO2e", None, KG)], []
    kwh = energy.energy_kwh(spent["best"], watts, pue)
    rows = [
        Node("power_watts", "Power of one GPU", watts, WATTS),
        Node("energy_kwh", "Energy", kwh, KWH, formula=energy.energy_kwh),
        Node("energy_kwh.low", "at the power that is typical", energy.energy_kwh(spent["low"], low, pue), KWH),
        Node("co2_kg", "CO2e", energy.co2_kg(kwh, intensity), KG, formula=energy.co2_kg),
    ]
    notes = [note, f"PUE {pue:g}" + (" (LLaMA, arXiv 2302.13971)" if run.pue == PUE else ""), f"{intensity:g} kg CO2e a kWh" + (" (US average, LLaMA)" if run.intensity == INTENSITY else "")]
    if run.embodied is not None:
        life = real(run.life_years, "--life-years") * 8766
        rows.append(Node("embodied_kg", "CO2e of making the GPUs, its share", energy.embodied_kg(spent["best"], real(run.embodied, "--embodied"), life), KG, formula=energy.embodied_kg))
    return rows, notes


def _range_table(hours: Mapping[str, float], spent: Mapping[str, float], money: list[Node], power: list[Node]) -> Table:
    by_key = {n.key: n.value for n in (*money, *power)}

    def cell(value: Any, unit: Any) -> Cell | None:
        return None if value is None else Cell(value, unit)

    rows = (
        ("hours", *(Cell(hours[k], HOURS) for k in ("low", "best", "high"))),
        ("GPU-hours", *(Cell(spent[k], GPU_HOURS) for k in ("low", "best", "high"))),
        ("USD", cell(by_key.get("usd.low"), USD), cell(by_key.get("usd"), USD), cell(by_key.get("usd.high"), USD)),
    )
    return Table("Range", ("", "low", "best", "high"), rows)


def _convention_table(made: Pass, step: Step, repeats: int) -> Table:
    rows = []
    for name in CONVENTIONS:
        g = Group("", made.list, name == "causal")
        shares = [100 * utilisation(float(value_of(f)) * repeats, step.best, 1, step.peak) for f in (g.model, g.hardware)]
        rows.append((f"{name} attention", Cell(g.model, FLOPS), *(Cell(s, PERCENT) for s in shares)))
    return Table("Utilisation under both conventions", ("convention", "model FLOPs", "MFU", "HFU"), tuple(rows), "HFU counts what is computed twice too")


__all__ = ["Run", "Step", "train"]
