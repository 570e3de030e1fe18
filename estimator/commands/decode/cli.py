"""``llmcalc decode``: beam, speculative, tree."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()
OptionalModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Adds what it means for this model.", metavar="MODEL")
]


@app.callback()
def decode() -> None:
    """Beam search, speculative decoding, tree attention."""


@app.command()
@o.shown("format", "output", "derive", "symbols")
def beam(
    width: Annotated[str, typer.Option(help="Beam width B, or a letter.", metavar="N")] = "4",
    vocab: Annotated[str, typer.Option(help="Words N, a letter, or 'model'.", metavar="N")] = "50257",
    length: Annotated[str, typer.Option(help="Steps T, or a letter.", metavar="N")] = "20",
    model: OptionalModel = None,
    set_: o.SetField = None,
    derive: bool = False,
) -> Report:
    """Sequences N^T, time O(TBN) and space O(BT + BN) of beam search, and the real counts."""
    from estimator.commands.decode.report import beam as estimate

    return estimate(width, vocab, length, o.load(model, set_, derive), derive)


@app.command()
@o.shown("format", "output", "derive", "symbols")
def speculative(
    alpha: Annotated[float, typer.Option(help="Probability that a draft token is accepted.")] = 0.8,
    gamma: Annotated[int, typer.Option(help="Drafted tokens a pass.")] = 5,
    cost: Annotated[float, typer.Option(help="Draft pass over large pass, in time.")] = 0.05,
    cost_ops: Annotated[float | None, typer.Option(help="The same in operations.")] = None,
    derive: bool = False,
) -> Report:
    """Expected tokens a pass and speed-up of speculative decoding."""
    from estimator.commands.decode.report import speculative as estimate

    return estimate(alpha, gamma, cost, cost_ops, derive)


@app.command()
@o.shown("format", "output", "derive")
def tree(
    sequences: Annotated[str | None, typer.Option(help='Candidates: "1 2 3; 1 2 4".', metavar="TOKENS")] = None,
    heads: Annotated[
        str | None, typer.Option(help='Guesses of each Medusa head: "2 3; 4 5".', metavar="TOKENS")
    ] = None,
    root: Annotated[str, typer.Option(help="The token before the heads' guesses.", metavar="TOKEN")] = "1",
    model: OptionalModel = None,
    set_: o.SetField = None,
    derive: bool = False,
) -> Report:
    """Prefix tree and attention mask of candidate sequences."""
    from estimator.commands.decode.report import tree as estimate

    return estimate(sequences, heads, root, o.load(model, set_), derive=derive)
