"""A run's length, failures, money and energy: what surrounds the steps of :mod:`estimator.estimates.train_step`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.formulas import cost, energy, time
from estimator.models import Model
from estimator.ops import ceil_div
from estimator.report import Node
from estimator.sizes import size_option
from estimator.trace import trace, value_of
from estimator.units import KG, KWH, SECONDS_PER_HOUR, USD, WATTS
from estimator.work.passes import Pass

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

DEFAULT_TOKENS = 10**9
PUE = 1.1  # Touvron et al. 2023, LLaMA, arXiv 2302.13971, section 6
INTENSITY = 0.385  # kg CO2e a kWh, the US average that LLaMA, section 6, uses
LOW_POWER = 0.7  # of the thermal design power: 280 of 400 W measured, Li et al. 2023, StarCoder, arXiv 2305.06161
RESTART_SECONDS, WRITE_SECONDS = 600.0, 60.0
HOURS_A_YEAR = 8766  # 365.25 days
LETTERS = {
    "t_step": "seconds of an optimizer step",
    "B": "tokens of an optimizer step, all GPUs",
    "N": "GPUs",
    "D": "tokens of the run",
    "F": "peak of one GPU, FLOP/s",
    "g": "productive share of the time",
    "C": "model FLOPs of a step and GPU",
    "usd": "USD a GPU-hour",
    "W": "watts of one GPU",
    "pue": "overhead of the data centre",
    "ci": "kg CO2e a kWh",
}


def named(traced: bool, name: str, value: Any) -> Any:
    """``value`` under a letter of :data:`LETTERS` in a run that derives, else as it is."""
    return trace(name, value, name=name, integer=isinstance(value, int)) if traced else value


@dataclass(frozen=True, slots=True)
class Run:
    """Length and surroundings of a run, checked.

    tokens or steps or examples (with epochs, mean_tokens, packing): how long; gpus, accumulation: tokens a step.
    stage: of ZeRO; tensor_parallel, pipeline_parallel: GPUs that share one copy of the model.
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
    tensor_parallel: Any = 1
    pipeline_parallel: Any = 1
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


def length(model: Model, run: Run, made: Pass, gpus: int, tokens_a_step: int) -> tuple[int, list[str]]:
    """Tokens of the whole run, padding included."""
    given = [
        f for f, v in (("--tokens", run.tokens), ("--steps", run.steps), ("--examples", run.examples)) if v is not None
    ]
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
    mean = (
        s
        if run.mean_tokens is None
        else int(value_of(size_option(model, run.mean_tokens, "--mean-tokens", "mean_tokens")))
    )
    if mean > s:
        raise InputError(f"--mean-tokens {mean}: longer than --seq-len {s}")
    rows = ceil_div(examples * mean, s) if run.packing else examples
    steps = ceil_div(int(rows * epochs), max(1, tokens_a_step // s))
    how = (
        f"packed into {rows:,} rows of {s:,}"
        if run.packing
        else f"each padded to {s:,} tokens ({mean:,} on average are real)"
    )
    return steps * tokens_a_step, [f"{examples:,} examples {how}, {epochs:g} epochs: {steps:,} steps"]


def productive_share(run: Run, gpus: int) -> tuple[float, list[str]]:
    """(productive share of the time, how it was taken)."""
    given = share(run.goodput, "--goodput")
    if given is not None:
        return given, [f"--goodput {given:g}: share of the time that makes progress"]
    if run.mtbf is None:
        return 1.0, ["no failures (--goodput, or --mtbf hours of one GPU)"]
    every = real(run.mtbf, "--mtbf") * SECONDS_PER_HOUR / gpus
    write, restart = (
        real(run.write_seconds, "--write-seconds"),
        real(run.restart_seconds, "--restart-seconds", open_end=False),
    )
    interval = time.checkpoint_interval(write, every)
    kept = time.goodput(write, interval, every, restart)
    if kept <= 0:
        raise InputError(
            f"--mtbf {run.mtbf}: a failure every {every:,.0f} s leaves no time for checkpoints ({write:g} s) and "
            f"restarts ({restart:g} s)"
        )
    return kept, [
        f"a failure every {every / SECONDS_PER_HOUR:,.2f} h on {gpus:,} GPUs, a checkpoint every "
        f"{interval / 60:,.1f} min ({write:g} s each), {restart:g} s a restart"
    ]


def money(run: Run, spec: GpuSpec, spent: Mapping[str, Any], traced: bool) -> tuple[list[Node], list[str]]:
    if run.price is not None:
        price = real(run.price, "--price", open_end=False)
        low = high = price
        note = f"--price {price:g} USD a GPU-hour"
    elif spec.prices:
        quotes = [p.usd_per_hour for p in spec.prices]
        price, low, high = median(quotes), min(quotes), max(quotes)
        dates = sorted(p.date for p in spec.prices)
        note = (
            f"{spec.id}: {price:g} USD an hour, the median of {len(quotes)} quotes from {dates[0]} to {dates[-1]} "
            f"({low:g} to {high:g})"
        )
    else:
        return [Node("usd", "Cost", None, USD, note=f"no price for {spec.id}: give --price")], []
    rows = [
        Node("usd", "Cost", cost.rental_usd(spent["best"], named(traced, "usd", price)), USD, formula=cost.rental_usd)
    ]
    rows += [
        Node(f"usd.{k}", f"{k}est quote", cost.rental_usd(spent[k], p), USD) for k, p in (("low", low), ("high", high))
    ]
    return rows, [note]


def energy_rows(run: Run, spec: GpuSpec, spent: Mapping[str, Any], traced: bool) -> tuple[list[Node], list[str]]:
    pue = real(run.pue, "--pue", 1.0, open_end=False)
    intensity = real(run.intensity, "--carbon-intensity", open_end=False)
    if run.power is not None:
        watts = low = real(run.power, "--power")
        note = f"--power {watts:g} W a GPU"
    elif spec.power is not None:
        watts, low = spec.power.tdp_w, LOW_POWER * spec.power.tdp_w
        note = (
            f"{watts:g} W a GPU, {spec.id}'s thermal design power; low: {LOW_POWER:.0%} of it, as StarCoder measured "
            "on A100s"
        )
    else:
        return [
            Node("energy_kwh", "Energy", None, KWH, note="no power in the preset: give --power"),
            Node("co2_kg", "CO2e", None, KG),
        ], []
    kwh = energy.energy_kwh(spent["best"], named(traced, "W", watts), named(traced, "pue", pue))
    rows = [
        Node("power_watts", "Power of one GPU", watts, WATTS),
        Node("energy_kwh", "Energy", kwh, KWH, formula=energy.energy_kwh),
        Node("energy_kwh.low", "at the power that is typical", energy.energy_kwh(spent["low"], low, pue), KWH),
        Node("co2_kg", "CO2e", energy.co2_kg(kwh, named(traced, "ci", intensity)), KG, formula=energy.co2_kg),
    ]
    notes = [
        note,
        f"PUE {pue:g}" + (" (LLaMA, arXiv 2302.13971)" if run.pue == PUE else ""),
        f"{intensity:g} kg CO2e a kWh" + (" (US average, LLaMA)" if run.intensity == INTENSITY else ""),
    ]
    if run.embodied is not None:
        life = real(run.life_years, "--life-years") * HOURS_A_YEAR
        rows.append(
            Node(
                "embodied_kg",
                "CO2e of making the GPUs, its share",
                energy.embodied_kg(spent["best"], real(run.embodied, "--embodied"), life),
                KG,
                formula=energy.embodied_kg,
            )
        )
    return rows, notes
