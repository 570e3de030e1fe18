"""``llmcalc gpus``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()


@app.command()
@o.shown("format", "output")
def gpus(
    name: Annotated[
        str | None,
        typer.Argument(help="A preset or a file of your own (mine.toml), checked and shown; or part of names: h100*."),
    ] = None,
    vendor: Annotated[
        str | None, typer.Option(help="Only this vendor: nvidia, amd, google, intel, aws, apple.")
    ] = None,
    min_memory: Annotated[
        str | None, typer.Option(help="At least so much memory: 80GB, 40GiB.", metavar="SIZE")
    ] = None,
    dtype: Annotated[str, typer.Option(help="The peak to list: bf16, fp16, fp8, fp4, int8, tf32 or fp32.")] = "bf16",
) -> Report:
    """The accelerator presets: a list that filters, or one whole with the sources of its figures."""
    from estimator.commands.gpus import report as catalog_gpus
    from estimator.presets import find, sized

    own = name is not None and name.lower().endswith(".toml")
    if name and not (vendor or min_memory) and (own or find("gpus", name) or sized(name)):
        return catalog_gpus.gpu(name)
    return catalog_gpus.gpus(name or "", vendor, min_memory, dtype)
