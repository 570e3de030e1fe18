"""Speed of a serving engine: one request, a batch that stays full, and requests that arrive at a rate.

A decode step of c sequences carries the prompts that arrive meanwhile: in a closed loop c/osl requests end a step, and
c isl / osl prompt tokens ride along. The times of the passes are the roofline's with measured ceilings
(:mod:`estimator.serving.step`); what an engine adds is fitted by ``benchmarks/fit_engines.py`` and stands in
:mod:`estimator.engines.pace`, with its error out of sample.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from estimator.engines import answers
from estimator.engines.asked import ServerAsked, whole
from estimator.engines.brief import of_speed
from estimator.engines.pace import ALL_REDUCES, FP4, PACE, Pace, reads_by_query, steps_ahead, sums_directly
from estimator.engines.queueing import Arriving, ReplicaRoom, arrivals
from estimator.engines.rank import ServedRank
from estimator.engines.speculation import speculation
from estimator.errors import InputError
from estimator.fit import Fit
from estimator.formula import Citation
from estimator.prices import price_of
from estimator.records import dataclass
from estimator.report import Node, Report, Table
from estimator.roofline import machine
from estimator.serving.picture import doubling
from estimator.serving.step import Serving, decode, prefill
from estimator.trace import value_of
from estimator.units import MILLION, SECONDS, SECONDS_PER_HOUR, TOKEN_RATE, USD
from estimator.work.times import LINKS, MEMORY, PRODUCTS, Times

if TYPE_CHECKING:
    from estimator.render.plots import Figure

DEFAULT_PROMPT, DEFAULT_NEW = 2048, 256
LITTLE = Citation("Little 1961, A Proof for the Queuing Formula L = lambda W")


@dataclass(frozen=True, slots=True)
class RequestLoad:
    """A request's shape and how many are there.

    prompt     tokens that are computed: not those whose cache was found; new: tokens generated
    sequences  a replica; found: tokens of the prompt that are in the cache already
    """

    prompt: int
    new: int
    sequences: float
    found: int = 0

    @property
    def context(self) -> float:
        """Cached tokens of a sequence in the middle of its generation."""
        return self.found + self.prompt + self.new / 2


class Passes:
    """The passes of a model on a card, each folded once: loads, shares of a load and the ideal ask for the same."""

    def __init__(self, serve: Serving) -> None:
        self.serve = serve
        self.prefill = cache(partial(prefill, serve))
        self.decode = cache(partial(decode, serve))


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of an engine's passes.

    passes    of the model on the card; stages: of a pipeline, which pass a batch's parts along
    pace      the engine's own share; step_tokens: tokens of its longest step; ahead: steps scheduled before a newcomer
    ideal     True for the roofline alone
    """

    passes: Passes
    pace: Pace
    stages: int
    step_tokens: int
    ideal: bool = False
    ahead: float = 0.0

    @property
    def serve(self) -> Serving:
        """The model on the card."""
        return self.passes.serve

    def of(self, serve: Serving) -> Speed:
        """The same engine with another model on the card."""
        return replace(self, passes=Passes(serve))

    @property
    def server(self) -> float:
        """Seconds between a request and its first step."""
        return 0.0 if self.ideal else self.pace.server

    def together(self, sequences: float, tokens: int) -> int:
        """Prompts of ``tokens`` tokens that a step computes at once."""
        return max(1, min(round(sequences), self.step_tokens // max(1, tokens)))

    def prompt(self, sequences: float, tokens: int) -> float:
        """Seconds to compute ``sequences`` prompts of ``tokens`` tokens, in the engine's chunks."""
        together = self.together(sequences, tokens)
        made = self.passes.prefill(together, tokens)
        if self.ideal:
            return float(value_of(made.ideal)) * sequences / together
        return self.paced(made, self.pace.prompt) * sequences / together

    def step(self, sequences: float, context: float) -> float:
        """Seconds of a decode step of ``sequences`` with ``context`` cached tokens each."""
        made = self.decoded(sequences, context)
        if self.ideal:
            return float(value_of(made.ideal))
        return self.paced(made, self.pace.step) + self.pace.sequence * self._rows(sequences)

    def decoded(self, sequences: float, context: float) -> Times:
        """The pass of such a step through a stage."""
        return self.passes.decode(self._rows(sequences), max(1, round(context)))

    def _rows(self, sequences: float) -> int:
        return max(1, round(sequences / self.stages))

    def weights(self, made: Times) -> float:
        """Seconds in which a decode step ``made`` waits for its weights; the ideal shares no reading."""
        return 0.0 if self.ideal else weights_read(made) * self.pace.step * self._wide

    @property
    def _wide(self) -> float:
        return FP4 if self.serve.machine.dtype == "fp4" else 1.0

    def paced(self, made: Times, multiple: float) -> float:
        """Seconds of a pass: its own work and its all-reduces, each by the engine's multiple."""
        links = float(value_of(made.of(LINKS)))
        work = float(value_of(made.device)) - links
        return work * multiple * self._wide + links * ALL_REDUCES


def weights_read(made: Times) -> float:
    """Seconds of a pass in which products wait for their weights."""
    return float(value_of(made.parts.get((PRODUCTS, MEMORY), 0)))


def carried(every: float, sequences: float, read: float) -> float:
    """Seconds that the prompts of the other sequences add to the decode steps of one.

    A prompt that shares a step's pass shares its weights, whose ``read`` seconds the step has counted already.

    every: seconds of the prompts of all ``sequences``.
    """
    one = every / max(1.0, sequences)
    return (every - one) * (1 - min(read, one) / one)


def report(asked: ServerAsked, rank: ServedRank, sizes: tuple[int, int], found: Fit | None = None,
           changes: Table | None = None, best_change: str = "") -> Report:  # fmt: skip
    """The answer of ``infer``. sizes: the engine's (sequences at once, tokens a step)."""
    q = asked.question
    if asked.spec is None:
        raise InputError("--engine: speed needs a preset of a GPU: --gpu h100-sxm")
    if asked.arch.kind != "decoder" or not asked.arch.has_head:
        raise InputError(f"{asked.model.name}: an encoder generates nothing; its pass is in: llmcalc flops")
    load, wanted = load_of(asked, rank, sizes[0])
    pace = PACE[asked.engine]
    best = speed_of(asked, pace, sizes[1])
    ideal = replace(best, ideal=True)
    price = price_of(asked.spec, q.price)
    figures = _figures(best, load)
    floor = _figures(ideal, load)  # latencies of what runs at once; the rate of all that is asked for
    all_at_once = replace(load, sequences=max(wanted, load.sequences))
    floor["tokens_per_second"] = _figures(ideal, all_at_once)["tokens_per_second"]
    usd = None if price.usd is None else price.usd * asked.gpus / SECONDS_PER_HOUR
    data = min(asked.data, asked.batch)  # replicas beyond the requests stand idle
    body: list[Any] = [
        _ranged("prefill_seconds", f"Prompts of {load.sequences:,.0f} requests", figures, floor, pace),
        _ranged("ttft_seconds", "First token of one request, alone", figures, floor, pace),
        _ranged("loaded_ttft_seconds", "First token among the others, in the mean", figures, floor, pace),
        _ranged("decode_step_seconds", "A decode step", figures, floor, pace),
        _ranged("itl_seconds", "Between tokens, prompts of others included", figures, floor, pace),
        _rate(figures, floor, pace, data),
    ]
    if usd is not None:
        body.append(_money(figures, usd, data))
    spoken, queue = [], ""
    if q.draft_model is not None:
        drafted, assumed = speculation(
            q, asked.engine, best, load.sequences, load.context, figures["decode_step_seconds"]
        )
        body.append(drafted)
        spoken.append(assumed)
    if q.rate is not None:
        room = ReplicaRoom(float(admitted(rank, load, sizes[0])), asked.data, usd)
        met = arrivals(lambda c: arriving(best, load, c), float(q.rate), load.new, room)
        most = {n.key: n.value for n in met.walk()}["rate.most"]
        queue = "" if q.rate < most else f" {q.rate:g} requests a second are more than it can serve: {most:.3g}."
        body.append(met)
    body += [answers.budget(asked, rank), answers.pool(asked, rank)]
    facts = {"bound": figures["bound"]} | ({"fits": found.answer} if found else {})
    if found is not None:
        body.append(answers.fit_rows(found))
    if changes is not None:
        body.append(changes)
    who = f"{answers.requests(asked.batch, asked.context)} "
    verdict = (found.sentence(who) + best_change if found else "") + queue
    shape = f"{asked.batch:,} x ({load.prompt + load.found:,} + {load.new:,}) tokens"
    title = f"Serving {asked.model.name} in {asked.engine}: {shape} on {asked.gpus} x {asked.card}"
    inputs = {
        "model": asked.model.name, "engine": asked.engine, "gpu": asked.card, "gpus": asked.gpus, "dtype": asked.dtype,
        "quantization": asked.store.scheme, "batch_size": asked.batch, "seq_len": load.prompt + load.found,
        "new_tokens": load.new, "price": price.usd,
    }  # fmt: skip
    notes = [*asked.said, *best.serve.machine.notes, price.note, *answers.said(asked, rank), pace.said, *spoken]
    if load.found:
        notes.append(
            f"--prefix-hit: {load.found:,} prompt tokens are found in the cache; the rest's attention to them and what "
            "sequences share of the pool are not counted"
        )
    if load.sequences < wanted:
        notes.append(f"the pool holds {load.sequences:,.0f} of {wanted:,.0f} sequences at once: the rest waits")
    return Report(
        "infer", title, inputs, tuple(body), facts, tuple(dict.fromkeys((*notes, *asked.model.notes))), (LITTLE,),
        tuple(asked.model.notes), verdict=verdict, brief=of_speed(body, changes),
        figure=lambda: _curve(title, best, load, int(admitted(rank, load, sizes[0])), data),
    )  # fmt: skip


def _curve(title: str, speed: Speed, load: RequestLoad, most: int, replicas: int) -> Figure:
    """Time between tokens against tokens a second, for 1, 2, 4 ... sequences a replica up to ``most``."""
    from estimator.serving.picture import AtOnce, latency

    at = [(c, _figures(speed, replace(load, sequences=float(c)))) for c in doubling(most)]
    points = [AtOnce(c * replicas, f["tokens_per_second"] * replicas, f["itl_seconds"]) for c, f in at]
    note = "beside the points: sequences at once, up to what is admitted"
    return latency(title, points, "generated tokens/s", "ms between tokens, prompts of others included", note)


def shaped(asked: ServerAsked) -> ServerAsked:
    """The question about requests of its prompt and new tokens, which have defaults of their own here."""
    prompt, new = shape_of(asked)
    return replace(asked, context=prompt + new)


def shape_of(asked: ServerAsked) -> tuple[int, int]:
    """(prompt, new tokens) of a request."""
    q = asked.question
    prompt = min(DEFAULT_PROMPT, asked.length) if q.seq_len is None else whole(q, "seq_len", 1)
    return prompt, whole(q, "new_tokens", DEFAULT_NEW)


def load_of(asked: ServerAsked, rank: ServedRank, most: int) -> tuple[RequestLoad, float]:
    """What runs at once a replica (at most what the pool holds and the engine admits), and what is asked for."""
    q = asked.question
    prompt, new = shape_of(asked)
    hit = 0.0 if q.prefix_hit is None else float(q.prefix_hit)
    if not 0 <= hit < 1:
        raise InputError(f"--prefix-hit must be from 0 to below 1, got {hit:g}")
    wanted = asked.batch / asked.data
    computed = max(1, round(prompt * (1 - hit)))
    load = RequestLoad(computed, max(1, new), wanted, prompt - computed)
    return replace(load, sequences=max(1.0, min(wanted, int(admitted(rank, load, most))))), wanted


def admitted(rank: ServedRank, load: RequestLoad, most: int) -> Any:
    """Sequences of a load that a replica runs at once: ``most``, or what the pool holds of them in steady decode."""
    if rank.pool is None:
        return most
    return min(most, rank.pool.concurrency(load.found + load.prompt + max(1, load.new // 2), steady=True))


def speed_of(asked: ServerAsked, pace: Pace, step_tokens: int) -> Speed:
    """The passes of the model on the card, in the type that its scheme is multiplied in."""
    assert asked.spec is not None
    device = machine(asked.spec.id, asked.store.compute_type(asked.spec, asked.dtype))
    link = asked.spec.link.name if asked.spec.link else ""
    direct = sums_directly(asked.engine, asked.version, link, asked.tensor)
    serve = Serving(
        asked.arch, device, asked.store.element, asked.store.width, 0, asked.kv_bits, asked.tensor, "fused", True,
        dealt=asked.dealt, by_query=reads_by_query(asked.engine, asked.version), direct=direct,
    )  # fmt: skip
    ahead = steps_ahead(asked.engine, asked.version)
    return Speed(Passes(serve), pace, asked.pipeline, step_tokens, ahead=ahead)


def _figures(speed: Speed, load: RequestLoad) -> dict[str, Any]:
    """Seconds and rates of a load that stays full."""
    c, context = load.sequences, load.context
    every = speed.prompt(c, load.prompt)
    first = speed.prompt(1, load.prompt) + speed.server
    step, made = speed.step(c, context), speed.decoded(c, context)
    whole = every + (load.new - 1) * step
    met = arriving(speed, load, c, (c - 1) / whole)
    return {
        "prefill_seconds": every, "ttft_seconds": first, "decode_step_seconds": step,
        "loaded_ttft_seconds": max(first, met.first) if c > 1 else first,
        "itl_seconds": step + carried(every, c, speed.weights(made)) / load.new,
        "tokens_per_second": c * load.new / whole, "output_seconds": step / c,
        "input_seconds": every / (c * (load.prompt + load.found)), "bound": made.bound,
    }  # fmt: skip


def arriving(speed: Speed, load: RequestLoad, sequences: float, rate: float = 0.0) -> Arriving:
    """Prompts of ``load`` that arrive ``rate`` a second beside ``sequences`` that decode."""
    own = speed.prompt(1, load.prompt)
    chunks = max(1, -(-load.prompt // speed.step_tokens))
    shared = min(own, speed.weights(speed.decoded(sequences, load.context)) * chunks)
    step = speed.step(sequences, load.context)
    return Arriving(rate, step, own - shared, speed.server, chunks, 0.0 if speed.ideal else speed.ahead)


def _ranged(key: str, label: str, at: dict[str, Any], floor: dict[str, Any], pace: Pace) -> Node:
    low, high = (at[key] * x for x in pace.ends)
    inner = [at[key] * x for x in pace.middle]
    rows = [
        Node(f"{key}.ideal", "ideal roofline: data sheet peaks", min(at[key], floor[key]), SECONDS),
        Node(f"{key}.low", "low: 95 of 100 are slower", max(low, min(at[key], floor[key])), SECONDS),
        Node(f"{key}.p25", "a quarter is faster", inner[0], SECONDS),
        Node(f"{key}.p75", "a quarter is slower", inner[1], SECONDS),
        Node(f"{key}.high", "high: 95 of 100 are faster", high, SECONDS),
    ]
    return Node.group("", [Node(key, label, at[key], SECONDS), *rows])


def _rate(at: dict[str, Any], floor: dict[str, Any], pace: Pace, replicas: int) -> Node:
    key = "tokens_per_second"
    best = at[key] * replicas
    ideal = max(at[key], floor[key]) * replicas
    rows = [
        Node(f"{key}.ideal", "ideal roofline", ideal, TOKEN_RATE),
        Node(f"{key}.low", "low", best / pace.ends[1], TOKEN_RATE),
        Node(f"{key}.p25", "a quarter is slower", best / pace.middle[1], TOKEN_RATE),
        Node(f"{key}.p75", "a quarter is faster", min(ideal, best / pace.middle[0]), TOKEN_RATE),
        Node(f"{key}.high", "high", min(ideal, best / pace.ends[0]), TOKEN_RATE),
    ]
    return Node.group("", [Node(key, "Generated tokens a second", best, TOKEN_RATE), *rows])


def _money(at: dict[str, Any], usd: float, replicas: int) -> Node:
    """USD a million tokens: all by what is generated, and input and output by the seconds that each takes."""
    rate = at["tokens_per_second"] * replicas
    rows = [
        Node("usd_per_million_tokens", "A million generated tokens, prompts included", usd * MILLION / rate, USD),
        Node("usd_per_million_input_tokens", "Input", usd * MILLION * at["input_seconds"] / replicas, USD),
        Node("usd_per_million_output_tokens", "Output", usd * MILLION * at["output_seconds"] / replicas, USD),
    ]
    return Node.group("Money", rows)


__all__ = ["RequestLoad", "Speed", "report"]
