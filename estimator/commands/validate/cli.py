"""``llmcalc validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()


@app.command()
@o.shown("format", "output")
def validate(
    file: Annotated[
        str,
        typer.Argument(
            help="Measurements, as benchmarks/measure_memory.py writes them, or a log of vLLM, SGLang or llama.cpp.",
            metavar="FILE",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Of a log, where it is not the log's.", metavar="MODEL")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="Of a log: the card that it ran on.", metavar="GPU")] = None,
    engine_version: Annotated[str | None, typer.Option(help="Of a log that does not name it.", metavar="V")] = None,
    worst: Annotated[int, typer.Option(help="How many of the largest errors to list.", min=0, max=1000)] = 10,
) -> Report:
    """Compare predictions with a file of your own measurements, or with a server's start-up log."""
    from estimator.commands.validate.report import load_log
    from estimator.commands.validate.report import validate as estimate

    log = load_log(file)
    return estimate(file, worst, model, gpu, engine_version) if log is None else log
