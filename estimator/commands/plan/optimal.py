"""The largest compute-optimal model that a budget of dollars and days trains, and the layouts that train it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.commands.chinchilla.report import chinchilla
from estimator.commands.plan.pretrain import Search, reported
from estimator.commands.plan.question import PreTrain
from estimator.commands.plan.search import run_limits, watched, within
from estimator.formulas.params import total_params
from estimator.models import Model, load_model
from estimator.report import Node, Report
from estimator.trace import value_of
from estimator.units import PARAMS, TOKENS, human

BASE = "llama-3-8b"
HEAD = 128  # width of a head: Llama 3 8B, 70B and 405B
WIDER = 7 / 2  # of the feed-forward part over the width: Llama 3 8B and 70B
SIZES = range(8, 161, 4)  # layers
SHAPE = (
    "the model's shape is Llama 3's: heads of 128, as many as layers (in eights, so that 8 GPUs can share them), a "
    "feed-forward part of 3.5 widths, 8 KV heads, its vocabulary"
)


def optimal(q: PreTrain) -> Report:
    """The report of a question without a model: the largest whose compute-optimal run is within the limits."""
    limits = run_limits(q.days, q.usd)
    best: Search | None = None
    low, high = 0, len(SIZES)

    def look(_: int) -> None:
        nonlocal low, high, best
        if low >= high:
            return
        middle = (low + high) // 2
        found = Search(asks(q, SIZES[middle]))
        if within(found.rows(1), limits, "")[0]:
            low, best = middle + 1, found
        else:
            high = middle

    stopped = watched(range(len(SIZES).bit_length()), "models", look)
    found = best or Search(asks(q, SIZES[0]))
    shown, made = found.q, reported(found)
    params, tokens = int(value_of(total_params(shown.model.architecture))), int(shown.tokens)
    rows = [Node("params", "Parameters", params, PARAMS), Node("tokens", "Tokens", tokens, TOKENS)]
    what = " and ".join([*([f"${q.usd:,.0f}"] if q.usd is not None else []),
                         *([f"{q.days:g} days"] if q.days is not None else [])])  # fmt: skip
    size = f"{human(params, PARAMS)} parameters on {human(tokens, TOKENS)} tokens ({tokens / params:.3g} a parameter)"
    said = f"The largest: {size}. " if best is not None else f"Not even the smallest that was tried, {size}. "
    notes = [f"tokens by law {q.law} (llmcalc chinchilla --law)", SHAPE, *([stopped] if stopped else [])]
    return made._replace(
        title=f"The largest compute-optimal model for {what}", body=(Node.group("", rows), *made.body),
        verdict=said + made.verdict, assumptions=(*notes, *made.assumptions),
    )  # fmt: skip


def asks(q: PreTrain, layers: int) -> PreTrain:
    """The question with a model of so many layers, and the tokens that are optimal for it."""
    model = shaped(layers)
    params = int(value_of(total_params(model.architecture)))
    tokens: Any = chinchilla(params=str(params), law=q.law).results()["D_opt"]
    return replace(q, model=model, tokens=str(int(tokens)))


def shaped(layers: int) -> Model:
    """A Llama 3 of so many layers."""
    heads = -(-layers // 8) * 8
    sizes = {"num_hidden_layers": layers, "hidden_size": HEAD * heads, "num_attention_heads": heads,
             "intermediate_size": int(WIDER * HEAD * heads)}  # fmt: skip
    return load_model(BASE, tuple(f"{k}={v}" for k, v in sizes.items()))
