"""Speed of a serving engine: one request, a batch that stays full, and requests that arrive at a rate.

A decode step of c sequences carries the prompts that arrive meanwhile: in a closed loop c/osl requests end a step, and
c isl / osl prompt tokens ride along. The times of the passes are the roofline's with measured ceilings
(:mod:`estimator.serving.step`); what an engine adds is fitted by ``benchmarks/fit_engines.py`` and stands in
:mod:`estimator.engines.pace`, with its error out of sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.engines import answers
from estimator.engines.asked import ServerAsked, whole
from estimator.engines.brief import of_speed
from estimator.engines.lengths import check_request
from estimator.engines.lettered import MEANT, Terms, quotient, stated
from estimator.engines.pace import PACE, Pace, reads_by_query, steps_ahead, sums_directly
from estimator.engines.queueing import Arriving, ReplicaRoom, arrivals
from estimator.engines.rank import ServedRank
from estimator.engines.speculation import speculation
from estimator.engines.speed import Passes, RequestLoad, Speed, carried
from estimator.errors import InputError, InternalError
from estimator.fit import Fit
from estimator.formula import Citation
from estimator.parallel.links import node_size
from estimator.prices import price_of
from estimator.report import Node, Report, Table
from estimator.roofline import machine
from estimator.serving.picture import doubling
from estimator.serving.step import Serving
from estimator.trace import value_of, wordless
from estimator.units import MILLION, SECONDS, SECONDS_PER_HOUR, TOKEN_RATE, USD
from estimator.working import Step, Working, over, plus, times

if TYPE_CHECKING:
    from estimator.render.plots import Figure

DEFAULT_PROMPT, DEFAULT_NEW = 2048, 256
LITTLE = Citation("Little 1961, A Proof for the Queuing Formula L = lambda W")


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
    terms = Terms() if asked.derives else None
    if terms is not None:
        figures = _in_letters(terms, figures, _figures(replace(best, passes=Passes(best.serve, terms)), load))
    work = _workings(terms, figures, load, best)
    floor = _figures(ideal, load)  # latencies of what runs at once; the rate of all that is asked for
    all_at_once = replace(load, sequences=max(wanted, load.sequences), waiting=0.0)
    floor["tokens_per_second"] = _figures(ideal, all_at_once)["tokens_per_second"]
    usd = None if price.usd is None else price.usd * asked.gpus / SECONDS_PER_HOUR
    data = min(asked.data, asked.batch)  # replicas beyond the requests stand idle
    body: list[Any] = [
        _ranged("prefill_seconds", f"Prompts of {load.sequences:,.0f} requests", figures, floor, pace, work),
        _ranged("ttft_seconds", "First token of one request, alone", figures, floor, pace, work),
        _ranged("loaded_ttft_seconds", "First token among the others, in the mean", figures, floor, pace, work),
        _ranged("decode_step_seconds", "A decode step", figures, floor, pace, work),
        _ranged("itl_seconds", "Between tokens, prompts of others included", figures, floor, pace, work),
        _rate(figures, floor, pace, data, work),
    ]
    if usd is not None:
        body.append(_money(figures, usd, data, load))
    spoken, queue = [], ""
    if q.draft_model is not None:
        drafted, assumed = speculation(q, asked.engine, best, load, figures, data)
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
    if wordless():
        return Report("infer", "", {}, tuple(body), facts)
    if changes is not None:
        body.append(changes)
    who = f"{answers.requests(asked, sizes[0])} "
    verdict = (found.sentence(who) + best_change if found else "") + queue + asked.but
    shape = f"{asked.batch:,} x ({load.prompt + load.found:,} + {load.new:,}) tokens"
    title = f"Serving {asked.model.name} in {asked.engine}: {shape} on {asked.gpus} x {asked.card}"
    inputs = {
        "model": asked.model.name, "engine": asked.engine, "gpu": asked.card, "gpus": asked.gpus, "dtype": asked.dtype,
        "quantization": asked.store.scheme, "batch_size": asked.batch, "seq_len": load.prompt + load.found,
        "new_tokens": load.new, "price": price.usd,
    }  # fmt: skip
    notes = [*asked.said, *best.serve.machine.notes, price.note, *answers.said(asked, rank), pace.said, *spoken]
    group = max(asked.tensor, asked.expert_ranks)
    if asked.spec is not None and group > (node := node_size(None, asked.spec)):
        what = f"--tensor-parallel {group}" if group == asked.tensor else f"experts over {group} GPUs"
        notes.append(
            f"{what}: more than the {node} GPUs that share a fast link, over which sums are timed all the same: the "
            "network's latency comes on top of every layer"
        )
    if asked.expert_ranks > asked.tensor:
        notes.append(
            f"experts over {asked.expert_ranks} GPUs: each layer gathers the tokens of all and sums the results back "
            "round a ring, every expert as busy as the others (no server of this kind was measured)"
        )
    if load.found:
        notes.append(
            f"--prefix-hit: {load.found:,} prompt tokens are found in the cache; the rest's attention to them and what "
            "sequences share of the pool are not counted"
        )
    if load.sequences < wanted:
        notes.append(
            f"{load.sequences:,.0f} of {wanted:,.0f} sequences run at once: the rest waits, which the first token "
            "among the others counts"
        )
    return Report(
        "infer", title, inputs, tuple(body), facts, tuple(dict.fromkeys((*notes, *asked.model.notes))), (LITTLE,),
        tuple(asked.model.notes), verdict=verdict, brief=of_speed(body, changes),
        letters=MEANT | terms.letters if terms else {},
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
    """(prompt, new tokens) of a request: as given, else as many as the longest sequence has room for."""
    q, length = asked.question, asked.length
    new = None if q.new_tokens is None else whole(q, "new_tokens", DEFAULT_NEW)
    least = min(DEFAULT_NEW, max(1, length - 1)) if new is None else new
    prompt = min(DEFAULT_PROMPT, max(1, length - least)) if q.seq_len is None else whole(q, "seq_len", 1)
    if new is None:
        new = min(DEFAULT_NEW, max(1, length - prompt))
    check_request(q, asked.engine, length, prompt, new)
    return prompt, new


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
    at_once = max(1.0, min(wanted, int(admitted(rank, load, most))))
    return replace(load, sequences=at_once, waiting=max(0.0, wanted - at_once)), wanted


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
        experts=asked.expert_ranks, together=asked.data if asked.joint else 1,
    )  # fmt: skip
    ahead = steps_ahead(asked.engine, asked.version)
    return Speed(Passes(serve), pace, asked.pipeline, step_tokens, ahead=ahead)


def _figures(speed: Speed, load: RequestLoad) -> dict[str, Any]:
    """Seconds and rates of a load that stays full."""
    c, context = load.sequences, load.context
    every = speed.prompt(c, load.prompt)
    first = speed.prompt(1, load.prompt) + speed.server
    step, made = speed.step(c, context), speed.decoded(c, context)
    whole = load.seconds(every, step)
    met = arriving(speed, load, c, (c - 1) / whole)
    among = max(first, met.first) if c > 1 else first
    more = carried(every, load, speed.spare(load)) / load.new
    return {
        "prefill_seconds": every, "ttft_seconds": first, "decode_step_seconds": step,
        "loaded_ttft_seconds": among + load.waiting * whole / c,  # a place is free as often as a request ends
        "itl_seconds": step + more, "carried_seconds": more,
        "tokens_per_second": c * load.new / whole, "output_seconds": step / c,
        "input_seconds": every / (c * (load.prompt + load.found)), "bound": made.bound,
    }  # fmt: skip


def arriving(speed: Speed, load: RequestLoad, sequences: float, rate: float = 0.0) -> Arriving:
    """Prompts of ``load`` that arrive ``rate`` a second beside ``sequences`` that decode."""
    load = replace(load, sequences=float(sequences))
    own = speed.prompt(1, load.prompt)
    chunks = max(1, -(-load.prompt // speed.step_tokens))
    shared = min(own, speed.spare(load) * chunks)
    adds = min(own - shared, speed.prompt(sequences, load.prompt) / sequences)  # several compute together
    step = speed.step(sequences, load.context)
    return Arriving(rate, step, adds, speed.server, chunks, 0.0 if speed.ideal else speed.ahead)


def _in_letters(terms: Terms, plain: dict[str, Any], traced: dict[str, Any]) -> dict[str, Any]:
    """The traced figures, which must be the plain ones; what queues make of them are letters of their own."""
    more = terms.one(traced["carried_seconds"], "what the prompts of others add to a step")
    first = terms.one(traced["loaded_ttft_seconds"], "first token among the others: queueing of what arrives")
    made = traced | {"itl_seconds": traced["decode_step_seconds"] + more, "loaded_ttft_seconds": first,
                     "carried_seconds": more}  # fmt: skip
    for key, value in plain.items():
        if value_of(made[key]) != value:
            raise InternalError(f"{key}: {value_of(made[key])} in letters, {value} in numbers")
    return made


def _workings(terms: Terms | None, at: dict[str, Any], load: RequestLoad, speed: Speed) -> dict[str, Working]:
    """How each figure comes about, in a run that derives."""
    if terms is None:
        return {}
    pace, c, new = speed.pace, load.sequences, load.new
    prompt = f"the parts of a prompt's pass{_longer(pace.prompt)}"
    step = f"the parts of a step{_longer(pace.step)}"
    sequence = f", and {pace.sequence:g} s a sequence (fitted)" if pace.sequence else ""
    every, one = at["prefill_seconds"], at["decode_step_seconds"]
    rate = over(c * new, plus(every, times(new - 1, one)))
    return {
        "prefill_seconds": terms.working(every, f"{prompt}, for {c:,.0f} requests"),
        "ttft_seconds": terms.working(at["ttft_seconds"], f"{prompt}, and {pace.server:g} s of the server (fitted)"),
        "loaded_ttft_seconds": stated("a running step's rest, the steps ahead, its own prompt, and those that arrive"),
        "decode_step_seconds": terms.working(one, step + sequence),
        "itl_seconds": lambda: [Step("a step, and what the prompts of others add", plus(one, at["carried_seconds"]))],
        "tokens_per_second": lambda: [Step(f"{c:,.0f} x {new:,} tokens over prompts and {new - 1:,} steps", rate)],
    }


def _longer(multiple: float) -> str:
    return "" if multiple == 1 else f", all but its all-reduces {multiple:g} times as long (fitted)"


def _ranged(key: str, label: str, at: dict[str, Any], floor: dict[str, Any], pace: Pace,
            work: Mapping[str, Working]) -> Node:  # fmt: skip
    value, ideal = float(value_of(at[key])), float(value_of(min(at[key], floor[key])))
    (low, high), inner = pace.ends, pace.middle
    rows = [
        Node(f"{key}.ideal", "ideal roofline: data sheet peaks", ideal, SECONDS),
        Node(f"{key}.low", "low: 95 of 100 are slower", max(value * low, ideal), SECONDS),
        Node(f"{key}.p25", "a quarter is faster", value * inner[0], SECONDS),
        Node(f"{key}.p75", "a quarter is slower", value * inner[1], SECONDS),
        Node(f"{key}.high", "high: 95 of 100 are faster", value * high, SECONDS),
    ]
    return Node.group("", [Node(key, label, at[key], SECONDS, working=work.get(key)), *rows])


def _rate(at: dict[str, Any], floor: dict[str, Any], pace: Pace, replicas: int, work: Mapping[str, Working]) -> Node:
    key = "tokens_per_second"
    best = at[key] * replicas
    number = float(value_of(best))
    ideal = max(number, floor[key] * replicas)
    rows = [
        Node(f"{key}.ideal", "ideal roofline", ideal, TOKEN_RATE),
        Node(f"{key}.low", "low", number / pace.ends[1], TOKEN_RATE),
        Node(f"{key}.p25", "a quarter is slower", number / pace.middle[1], TOKEN_RATE),
        Node(f"{key}.p75", "a quarter is faster", min(ideal, number / pace.middle[0]), TOKEN_RATE),
        Node(f"{key}.high", "high", min(ideal, number / pace.ends[0]), TOKEN_RATE),
    ]
    how = work.get(key) if replicas == 1 else None
    return Node.group("", [Node(key, "Generated tokens a second", best, TOKEN_RATE, working=how), *rows])


def _money(at: dict[str, Any], usd: float, replicas: int, load: RequestLoad) -> Node:
    """USD a million tokens: all by what is generated, and input and output by the seconds that each takes."""
    rate, million = at["tokens_per_second"] * replicas, usd * MILLION
    said = f"a million tokens, at {usd:.6g} USD a second"
    read, one = load.sequences * (load.prompt + load.found) * replicas, load.sequences * replicas
    parts = (times(million, at[key]) for key in ("prefill_seconds", "decode_step_seconds"))
    rows = [
        Node(
            "usd_per_million_tokens", "A million generated tokens, prompts included", million / rate, USD,
            working=quotient(million, rate, said),
        ),
        Node(
            "usd_per_million_input_tokens", "Input", million * at["input_seconds"] / replicas, USD,
            working=stated(f"{said}, over the prompts' tokens", over(next(parts), read)),
        ),
        Node(
            "usd_per_million_output_tokens", "Output", million * at["output_seconds"] / replicas, USD,
            working=stated(f"{said}, over those of a step", over(next(parts), one)),
        ),
    ]  # fmt: skip
    return Node.group("Money", rows)


__all__ = ["RequestLoad", "Speed", "report"]
