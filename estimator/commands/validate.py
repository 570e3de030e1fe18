"""``llmcalc validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


@app.command()
def validate(
    file: Annotated[
        str,
        typer.Argument(
            help="Measurements, as benchmarks/measure_memory.py writes them, or a log of llama.cpp.", metavar="FILE"
        ),
    ],
    worst: Annotated[int, typer.Option(help="How many of the largest errors to list.", min=0, max=1000)] = 10,
    format: o.Format = "table",
    output: o.Output = None,
) -> None:
    """Compare predictions with a file of your own measurements."""
    check_format(format)
    from estimator.estimates.validate import load_log
    from estimator.estimates.validate import validate as estimate

    log = load_log(file)
    emit(estimate(file, worst) if log is None else log, format, output)
