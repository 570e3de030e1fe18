"""``llmcalc flops``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit
from estimator.texts import arguments

app = o.new_app()


@app.command()
def flops(
    model: o.Model = "llama-3-8b",
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    mode: Annotated[str, typer.Option(help="forward, training or decode.")] = "forward",
    method: o.Method = None,
    rank: o.Rank = None,
    targets: o.Targets = None,
    arg: o.Arg = None,
    trainable_layers: o.TrainableLayers = None,
    context: Annotated[str | None, typer.Option(help="Cached tokens of a decode step.", metavar="TOKENS")] = None,
    encoder_len: Annotated[
        str | None, typer.Option(help="Encoder tokens of an encoder-decoder model.", metavar="TOKENS")
    ] = None,
    logits: Annotated[str, typer.Option(help="all, or last: the logits of one position.")] = "all",
    attention: Annotated[str, typer.Option(help="sdpa (fused, recomputes the scores backward) or eager.")] = "sdpa",
    checkpointing: Annotated[str, typer.Option(help="none or full: every layer recomputed.")] = "none",
    attention_flops: Annotated[str, typer.Option(help="full: every pair; causal: unmasked pairs only.")] = "full",
    dtype: Annotated[str, typer.Option(help="Of the operands, for bytes and peaks.")] = "bf16",
    gpu: o.Gpu = None,
    seconds: Annotated[
        float | None, typer.Option(help="A measured time of this pass, for MFU and HFU.", metavar="S")
    ] = None,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """FLOPs of a forward pass, a training step or a decode step, by module, operator and layer."""
    check_format(format)
    from estimator.estimates.flops import flops as estimate
    from estimator.models import load_model

    given = arguments(arg)
    report = estimate(
        load_model(model, set_ or (), traced=derive),
        batch_size=batch_size, seq_len=seq_len, mode=mode, method=method, rank=rank, targets=targets, args=given,
        trainable_layers=trainable_layers, context=context, encoder_len=encoder_len, logits=logits, attention=attention,
        checkpointing=checkpointing, attention_flops=attention_flops, dtype=dtype, gpu=gpu, seconds=seconds,
    )  # fmt: skip
    emit(report, format, output, derive, symbols)
