"""``llmcalc explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


@app.command()
def explain(
    name: Annotated[
        str | None, typer.Argument(help="A method, recipe, optimizer, format, formula, letter, family.")
    ] = None,
    format: o.Format = "table",
    output: o.Output = None,
) -> None:
    """What a name means, with its source; without a name, everything that can be explained."""
    check_format(format)
    from estimator.commands.explain.report import explain as estimate

    emit(estimate(name), format, output)
