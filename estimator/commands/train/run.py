"""A run's length, failures, money and energy: what surrounds the steps of :mod:`estimator.commands.train.step`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from estimator.commands.flops.passes import Pass
from estimator.commands.train.question import INTENSITY, PUE, Train
from estimator.errors import InputError
from estimator.formulas import cost, energy, time
from estimator.ops import ceil_div
from estimator.parallel.degrees import Degrees
from estimator.prices import price_of
from estimator.records import dataclass
from estimator.report import Node
from estimator.sizes import size_option
from estimator.trace import trace, value_of
from estimator.units import KG, KWH, SECONDS_PER_HOUR, USD, WATTS

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

DEFAULT_TOKENS = 10**9
LOW_POWER = 0.7  # of the thermal design power: 280 of 400 W measured, Li et al. 2023, StarCoder, arXiv 2305.06161
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
    return trace(name, value, integer=isinstance(value, int)) if traced else value


@dataclass(frozen=True, slots=True)
class Run:
    """A training question, read: how the GPUs are divided, ZeRO's stage, micro-batches, storage and optimizer."""

    question: Train
    degrees: Degrees
    stage: int = 0
    accumulation: int = 1
    quantization: str = "none"
    optimizer: str = "adamw-fused"


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


def length(run: Run, made: Pass, tokens_a_step: int) -> tuple[int, list[str]]:
    """Tokens of the whole run, padding included."""
    q, model = run.question, run.question.model
    given = [
        f for f, v in (("--tokens", q.tokens), ("--steps", q.steps), ("--examples", q.examples)) if v is not None
    ]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: give one of them")
    if q.tokens is not None:
        return int(value_of(size_option(model, q.tokens, "--tokens", "tokens"))), []
    if q.steps is not None:
        return int(value_of(size_option(model, q.steps, "--steps", "steps"))) * tokens_a_step, []
    if q.examples is None:
        return DEFAULT_TOKENS, [f"--tokens, --steps or --examples not given: a run of {DEFAULT_TOKENS:,} tokens"]
    examples, s = int(value_of(size_option(model, q.examples, "--examples", "examples"))), int(value_of(made.work.s))
    epochs = real(q.epochs, "--epochs")
    mean = (
        s
        if q.mean_tokens is None
        else int(value_of(size_option(model, q.mean_tokens, "--mean-tokens", "mean_tokens")))
    )
    if mean > s:
        raise InputError(f"--mean-tokens {mean}: longer than --seq-len {s}")
    rows = ceil_div(examples * mean, s) if q.packing else examples
    a_step = max(1, tokens_a_step // s)
    steps = math.ceil(Fraction(str(epochs)) * ceil_div(rows, a_step))  # transformers/trainer.py: max_steps
    how = (
        f"packed into {rows:,} rows of {s:,}"
        if q.packing
        else f"each padded to {s:,} tokens ({mean:,} on average are real)"
    )
    return steps * tokens_a_step, [f"{examples:,} examples {how}, {epochs:g} epochs: {steps:,} steps"]


def productive_share(run: Run) -> tuple[float, list[str]]:
    """(productive share of the time, how it was taken)."""
    q, gpus = run.question, run.degrees.gpus
    given = share(q.goodput, "--goodput")
    if given is not None and q.mtbf is not None:
        raise InputError(f"--mtbf {q.mtbf} changes nothing beside --goodput: leave one of them out")
    if given is not None:
        return given, [f"--goodput {given:g}: share of the time that makes progress"]
    if q.mtbf is None:
        return 1.0, ["no failures (--goodput, or --mtbf hours of one GPU)"]
    every = real(q.mtbf, "--mtbf") * SECONDS_PER_HOUR / gpus
    write, restart = (
        real(q.write_seconds, "--write-seconds"),
        real(q.restart_seconds, "--restart-seconds", open_end=False),
    )
    interval = time.checkpoint_interval(write, every)
    kept = time.goodput(write, interval, every, restart)
    if kept <= 0:
        raise InputError(
            f"--mtbf {q.mtbf}: a failure every {every:,.0f} s leaves no time for checkpoints ({write:g} s) and "
            f"restarts ({restart:g} s)"
        )
    return kept, [
        f"a failure every {every / SECONDS_PER_HOUR:,.2f} h on {gpus:,} GPUs, a checkpoint every "
        f"{interval / 60:,.1f} min ({write:g} s each), {restart:g} s a restart"
    ]


def money(q: Train, spec: GpuSpec, spent: Mapping[str, Any], traced: bool) -> tuple[list[Node], list[str]]:
    """(rows of the cost, how the price was found)."""
    price = price_of(spec, q.price)
    if price.usd is None:
        return [Node("usd", "Cost", None, USD, note=price.note)], []
    best = cost.rental_usd(spent["best"], named(traced, "usd", price.usd))
    rows = [Node("usd", "Cost", best, USD, formula=cost.rental_usd)]
    quotes = (("low", price.low), ("high", price.high))
    rows += [Node(f"usd.{k}", f"{k}est quote", cost.rental_usd(spent[k], p), USD) for k, p in quotes]
    return rows, [price.note]


def energy_rows(q: Train, spec: GpuSpec, spent: Mapping[str, Any], traced: bool) -> tuple[list[Node], list[str]]:
    pue = real(q.pue, "--pue", 1.0, open_end=False)
    intensity = real(q.carbon_intensity, "--carbon-intensity", open_end=False)
    if q.power is not None:
        watts = low = real(q.power, "--power")
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
        Node.of("co2_kg", "CO2e", energy.co2_kg, kwh, named(traced, "ci", intensity)),
    ]
    notes = [
        note,
        f"PUE {pue:g}" + (" (LLaMA, arXiv 2302.13971)" if q.pue == PUE else ""),
        f"{intensity:g} kg CO2e a kWh" + (" (US average, LLaMA)" if q.carbon_intensity == INTENSITY else ""),
    ]
    if q.embodied is not None:
        life = real(q.life_years, "--life-years") * HOURS_A_YEAR
        rows.append(
            Node(
                "embodied_kg",
                "CO2e of making the GPUs, its share",
                energy.embodied_kg(spent["best"], real(q.embodied, "--embodied"), life),
                KG,
                formula=energy.embodied_kg,
            )
        )
    return rows, notes
