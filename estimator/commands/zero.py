"""``llmcalc zero``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


@app.command()
def zero(
    model: Annotated[str | None, typer.Option("--model", "-m", help="As everywhere; llama-3-8b where --params is not given either.", metavar="MODEL")] = None,
    params: Annotated[str | None, typer.Option(help="Parameters instead of a model: 7.5e9, 7B, or a letter.", metavar="COUNT")] = None,
    gpus: Annotated[str, typer.Option(help="GPUs in all, or a letter.", metavar="N")] = "8",
    stage: Annotated[str, typer.Option(help="0, 1, 2, 3 or all.")] = "all",
    recipe: Annotated[str, typer.Option(help="zero-paper, megatron, deepspeed, torch-mixed, torch-bf16 or torch-fp32.")] = "zero-paper",
    optimizer: Annotated[str, typer.Option(help="adamw, adamw8bit, lion, sgd-momentum or sgd.")] = "adamw",
    micro_batches: Annotated[str, typer.Option(help="Forward and backward passes a step.", metavar="N")] = "1",
    zero_pp: Annotated[str, typer.Option(help="ZeRO++: qwz, hpz, qgz or all.", metavar="PARTS")] = "",
    gpus_per_node: Annotated[int, typer.Option(help="GPUs that share the fast link.")] = 8,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Memory and communication a GPU: ZeRO and FSDP stages, tensor, pipeline, context and expert parallelism."""
    check_format(format)
    from estimator.estimates.zero import zero as estimate

    if model is None and params is None:
        model = "llama-3-8b"
    report = estimate(
        o.load(model, set_, traced=derive), params, gpus=gpus, stage=stage, recipe=recipe, optimizer=optimizer,
        micro_batches=micro_batches, zero_pp=zero_pp, gpus_per_node=gpus_per_node, derive=derive,
    )  # fmt: skip
    emit(report, format, output, derive, symbols)
