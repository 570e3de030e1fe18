"""Which cards serve a model: every card, count, layout, storage and engine that holds the load, timed and priced."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log2
from typing import Any

from estimator.commands.infer.question import Infer
from estimator.commands.plan import search
from estimator.commands.plan.figure import PlanAxes
from estimator.commands.plan.layouts import NODE, ServingLayout, plain, ways
from estimator.commands.plan.question import Serve
from estimator.commands.plan.remedy import remedy
from estimator.commands.plan.search import (
    LayoutsTried,
    Reasons,
    RowLimit,
    RowStyle,
    Shortfall,
    Way,
    cards,
    counts,
    watched,
)
from estimator.engines import server_of
from estimator.errors import InputError
from estimator.questions import ask
from estimator.records import NamedTuple, dataclass
from estimator.report import Cell, Report, numbers_of
from estimator.sizes import size_option
from estimator.units import (
    MILLION,
    RATIO,
    SECONDS,
    SECONDS_PER_HOUR,
    USD,
    human_seconds,
    parse_seconds,
    parse_size,
)

FEWER_BITS, MOST_WHERE_NONE = ("fp8", "awq"), 512  # what is looked at where nothing fits: storage, GPUs
USUAL = "1..8"
MOST, GROWN = 4096, 3  # GPUs that are looked at unasked, and how often more are
HOURS_A_DAY = 24


@dataclass(frozen=True, slots=True)
class ServedWay(Way):
    """One way to serve: a row. hours and usd: of a million generated tokens.

    usd_per_hour    of all GPUs; bill: of the days of service
    ttft_seconds    to the first token, itl_seconds between tokens, under the load
    max_batch       requests of this context that all GPUs hold at once
    """

    engine: str
    usd_per_hour: float | None
    bill: float | None
    ttft_seconds: float
    itl_seconds: float
    max_batch: int

    @property
    def order(self) -> tuple[float, ...]:
        """Where as many requests are served for as much money, the one that keeps them waiting least."""
        return self.cost, self.hours, self.itl_seconds, self.ttft_seconds


def serve(q: Serve) -> Report:
    """The report of a question."""
    if q.model.kind == "symbolic":
        raise InputError("--model symbolic has no sizes to plan with: give a preset or a config.json")
    if q.gpus is not None:
        return _served_by(q, q.gpus)[0]
    made, most = _served_by(q, USUAL)
    n = NODE
    for _ in range(GROWN):
        if not most or q.rate is None:
            break
        n = 2 ** ceil(log2(n * max(q.rate / most, 2)))  # replicas share the requests evenly
        if n > MOST:
            break
        more, most = _served_by(q, str(n), f"--gpus not given: {n}, since {USUAL} do not keep up")
        made = more if not most else made
    return made


class ServedWays(NamedTuple):
    """A search: its rows, why cards have none, layouts tried, and whether it was stopped."""

    rows: list[ServedWay]
    why: Reasons
    tried: int
    stopped: str


def _served_by(q: Serve, gpus: str, said: str = "") -> tuple[Report, float]:
    """(the report for so many GPUs, the requests a second that the best of them keeps up with if none is enough)."""
    asked = _load(q)
    found = _search(q, gpus)
    what = f"{asked.rate:g} requests a second" if asked.rate else f"{asked.sequences:,} requests at once"
    title = f"Serving {q.model.name} to {what}: {asked.prompt:,} + {asked.new:,} tokens each"
    inputs = {"model": q.model.name, "context": asked.prompt + asked.new, "new_tokens": asked.new,
              "concurrency": asked.sequences, "rate": q.rate, "gpu": q.gpu,
              "gpus": search.number(gpus, "--gpus", "gpus"), "engine": q.engine, "ttft": q.ttft, "itl": q.itl,
              "days": q.days, "usd": q.usd}  # fmt: skip
    tried, limits = LayoutsTried(found.tried, len(found.rows)), _limits(q)
    notes = (*([said] if said else []), *_notes(q), *([found.stopped] if found.stopped else []), *q.model.notes)
    none = "Nothing serves this: no layout that was tried has a request for every replica."
    stored = FEWER_BITS if q.quantization is None and plain(q) else ()
    grows = found.why.most and q.gpus is None  # more GPUs are looked at anyway
    other = None if found.rows or found.stopped or grows else remedy(
        q, found.why, counts(gpus), MOST_WHERE_NONE, limits, lambda x: _search(x, str(x.gpus or gpus)).rows, stored
    )  # fmt: skip
    made = search.report(
        "serve", title, inputs, found.rows, limits, q.top, found.why, notes, tried, none, _shown(q), other
    )
    return made, 0.0 if found.rows else found.why.most


def _search(q: Serve, gpus: str) -> ServedWays:
    """Every way that holds the load. InputError where all are refused."""
    asked = _load(q)
    wanted = list(ways(q, gpus))
    rows: list[ServedWay] = []
    why = Reasons(cards(q.gpu))
    refused: list[ServingLayout] = []

    def look(way: ServingLayout) -> None:
        if way.experts and way.data == 1 and replace(way, experts=False) not in refused:
            return  # a tensor group cuts its experts as well as it deals them, where the engine loads such parts
        try:
            found = _row(q, asked, way)
        except InputError as error:
            why.refuses(way.gpu, error)
            refused.append(way)
            return
        if isinstance(found, ServedWay):
            rows.append(found)
        elif found is not None:
            why.lacks(way.gpu, found)

    stopped = watched(wanted, "planning", look)
    if refused and len(refused) == len(wanted):
        raise next(iter(why.refused.values()))
    return ServedWays(rows, why, len(wanted), stopped)


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """A request's prompt and new tokens; sequences at once, or requests a second."""

    prompt: int
    new: int
    sequences: int
    rate: float | None


def _load(q: Serve) -> ServiceLoad:
    context = int(size_option(None, q.context, "--context", "seq_len", "length"))
    new = int(size_option(None, q.new_tokens, "--new-tokens", "new_tokens", "length"))
    if new >= context:
        raise InputError(f"--new-tokens {new:,} leaves no prompt in --context {context:,}")
    if q.rate is not None and not 0 < q.rate < float("inf"):
        raise InputError(f"--rate must be above 0 requests a second, got {q.rate:g}")
    return ServiceLoad(context - new, new, parse_size(str(q.concurrency), "--concurrency", "length"), q.rate)


def _row(q: Serve, load: ServiceLoad, way: ServingLayout) -> ServedWay | Shortfall | None:
    """The row of one way, as ``infer`` answers it; what it lacks; None for a replica that has nothing to do.

    Raises InputError where it is refused.
    """
    options: dict[str, Any] = {"engine": way.engine, "gpu": way.gpu}
    joint = way.experts and way.engine == "sglang" and way.data > 1  # its tensor degree counts all, and deals experts
    tensor = way.tensor * way.data if joint else way.tensor
    for name, n in (("tensor_parallel", tensor), ("pipeline_parallel", way.pipeline), ("data_parallel", way.data)):
        options |= {name: str(n)} if n > 1 else {}
    options |= {} if not way.experts else {"dp_attention": True} if joint else {"expert_parallel": True}
    options |= {"batch_size": str(load.sequences), "seq_len": str(load.prompt), "new_tokens": str(load.new),
                "max_model_len": str(load.prompt + load.new)}  # fmt: skip
    options |= {} if way.quantization is None else {"quantization": way.quantization}
    options |= {} if way.kv is None else {"kv_dtype": way.kv}
    if load.sequences < way.data and load.rate is None:
        return None
    server, where = server_of(way.engine), f"{way.gpus:,} x {way.gpu}, {way.words}"
    asked = ask(Infer, q.model, options)
    if load.rate is not None:
        alone = replace(asked, batch_size=str(way.data))
        missing = server.missing(alone)
        first = {} if missing else numbers_of(server.infer, replace(alone, rate=load.rate))
        if "rate.sequences" not in first:
            return Shortfall(missing, first.get("rate.most", 0.0), where)
        options |= {"rate": load.rate, "batch_size": str(max(way.data, ceil(first["rate.sequences"])))}
        asked = ask(Infer, q.model, options)
    missing = server.missing(asked)
    if missing:
        return Shortfall(missing, 0.0, where)
    r = numbers_of(server.infer, asked)
    return _served(q, way, r, search.command_line(q.model, options.items(), "infer"))


def _served(q: Serve, way: ServingLayout, r: dict[str, Any], command: str) -> ServedWay:
    kind = "rate." if q.rate is not None else ""
    tokens = float(r[f"{kind}tokens_per_second"])
    usd = r.get(f"{kind}usd_per_million_tokens")
    hour = None if usd is None else usd * tokens * SECONDS_PER_HOUR / MILLION
    first = r["rate.ttft_seconds.p99"] if kind else r["loaded_ttft_seconds"]
    most = int(r.get("max_batch", r.get("max_concurrency", 0)))  # of states alone: requests of any length
    return ServedWay(
        command, way.words, way.gpu, way.gpus, str(r["fits"]), int(r["need_bytes"]),
        MILLION / tokens / SECONDS_PER_HOUR, usd, tokens, way.engine, hour,
        None if hour is None or q.days is None else hour * HOURS_A_DAY * q.days, float(first),
        float(r[f"{kind}itl_seconds"]), most * way.data,
    )  # fmt: skip


def _limits(q: Serve) -> list[RowLimit]:
    ttft = None if q.ttft is None else parse_seconds(str(q.ttft), "--ttft")
    itl = None if q.itl is None else parse_seconds(str(q.itl), "--itl")

    def times(what: str) -> Any:
        return lambda x, most: f"the shortest {what} is {human_seconds(x)}, asked for {human_seconds(most)}"

    def money(x: float, most: float) -> str:
        return f"the cheapest costs ${x:,.2f} of ${most:,.2f}"

    def cost(r: ServedWay) -> float:
        return r.cost if q.days is None else float("inf") if r.bill is None else r.bill

    return [
        RowLimit(ttft, lambda r: r.ttft_seconds, times("time to the first token")),
        RowLimit(itl, lambda r: r.itl_seconds, times("time between tokens")),
        RowLimit(q.usd, cost, money),
    ]


def _shown(q: Serve) -> RowStyle:
    bill = f"{q.days:g} days" if q.days is not None else "an hour"

    def cells(r: ServedWay) -> tuple[str | Cell | None, ...]:
        money = r.usd_per_hour if q.days is None else r.bill
        return (
            f"{r.gpus:,} x {r.gpu}", r.layout, Cell(r.ttft_seconds, SECONDS), Cell(r.itl_seconds, SECONDS),
            Cell(r.tokens_per_second, RATIO), None if r.usd is None else Cell(r.usd, USD),
            None if money is None else Cell(money, USD),
        )  # fmt: skip

    def words(r: ServedWay) -> str:
        price = "" if r.usd is None or r.usd_per_hour is None else (
            f", ${r.usd:,.2f} a million tokens, ${r.usd_per_hour:,.2f} an hour"
        )  # fmt: skip
        return (
            f"{r.gpus:,} x {r.gpu}, {r.layout}: first token in {human_seconds(r.ttft_seconds)}, then one every "
            f"{human_seconds(r.itl_seconds)}{price}"
        )

    columns = ("gpus", "layout", "first", "between", "tokens/s", "USD/M", bill)
    axes = PlanAxes("hours a million generated tokens", "USD a million generated tokens")
    return RowStyle(columns, cells, words, axes)


def _notes(q: Serve) -> tuple[str, ...]:
    load = (
        "first: the first token, 99 of 100 are faster; between: tokens, the mean, prompts of others included"
        if q.rate is not None
        else "a request that ends is followed by another; first: the first token, between: tokens, both means"
    )
    return (
        load,
        "USD/M: a million generated tokens, their prompts included; the median of the preset's dated quotes",
        f"tensor parallel inside a machine of {NODE}, and experts dealt inside it; replicas share the requests evenly",
        "what storage in fewer bits costs in quality is not weighed",
    )
