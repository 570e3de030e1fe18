"""``llmcalc explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()


@app.command()
@o.shown("format", "output")
def explain(
    name: Annotated[
        str | None, typer.Argument(help="A method, recipe, optimizer, format, formula, letter, family, word (gqa).")
    ] = None,
) -> Report:
    """What a name means, with its source; without a name, everything that can be explained."""
    from estimator.commands.explain.report import explain as estimate

    return estimate(name)
