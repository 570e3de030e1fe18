"""``llmcalc peft``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.errors import InputError
from estimator.render import check_format, emit
from estimator.texts import arguments, json_or_text

app = o.new_app()


@app.command()
def peft(
    model: o.Model = "llama-3-8b",
    method: Annotated[
        str,
        typer.Option(
            help="A method of the peft library in lower case, or dora, qlora, adapter, freeze, bitfit, "
            "soft-prompt, full; all compares.",
            metavar="METHOD",
        ),
    ] = "lora",
    rank: o.Rank = None,
    targets: o.Targets = None,
    arg: o.Arg = None,
    trainable_layers: o.TrainableLayers = None,
    virtual_tokens: Annotated[
        str | None, typer.Option(help="Virtual tokens of a prompt or prefix.", metavar="P")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Of what is trained: fp32, bf16 or fp16.", metavar="NAME")] = None,
    optimizer: Annotated[str, typer.Option(help="adamw, adamw8bit, sgd, sgd-momentum, adafactor, lion ...")] = "adamw",
    reduction: Annotated[
        str | None, typer.Option(help="Solve for the rank: X times fewer trained parameters.", metavar="X")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Solve for the rank: trained bytes at most this (100MB).", metavar="SIZE")
    ] = None,
    trainable: Annotated[
        str | None, typer.Option(help="Solve for the rank: at most this share (0.5%).", metavar="PERCENT")
    ] = None,
    matrix: Annotated[
        str | None, typer.Option(help="LoRA on one matrix instead of a model: 120x120 or mxl.", metavar="MxN")
    ] = None,
    complexity: Annotated[
        bool,
        typer.Option("--complexity", help="Time and space of a linear layer and of attention under LoRA and QLoRA."),
    ] = False,
    seq_len: o.SeqLen = None,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Parameters, bytes and work of an adapter: LoRA and every other method, equal to the peft library's counts."""
    check_format(format)
    given = arguments(arg)
    if virtual_tokens is not None:
        given["num_virtual_tokens"] = json_or_text(virtual_tokens)
    if complexity:
        from estimator.estimates.peft_complexity import complexity as estimate_complexity

        report = estimate_complexity(rank=rank, seq_len=seq_len)
    elif matrix is not None:
        from estimator.estimates.peft_matrix import matrix as estimate_matrix

        if budget is not None or trainable is not None or targets is not None or given:
            raise InputError("--matrix goes with --rank or --reduction only")
        report = estimate_matrix(matrix, rank, reduction, dtype, traced=derive)
    else:
        from estimator.estimates.peft import peft as estimate
        from estimator.models import load_model

        if seq_len is not None:
            raise InputError("--seq-len goes with --complexity")
        report = estimate(
            load_model(model, set_ or (), traced=derive),
            method=method,
            rank=rank,
            targets=targets,
            args=given,
            trainable_layers=trainable_layers,
            dtype=dtype,
            optimizer=optimizer,
            reduction=reduction,
            budget=budget,
            trainable=trainable,
        )
    emit(report, format, output, derive, symbols)
