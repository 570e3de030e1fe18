"""``llmcalc train``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit
from estimator.texts import arguments

app = o.new_app()
Size = str | None


def _opt(help: str, metavar: str = "N") -> object:
    return typer.Option(help=help, metavar=metavar)


@app.command()
def train(
    model: o.Model = "llama-3-8b",
    tokens: Annotated[Size, _opt("Tokens of the run: 15T.", "TOKENS")] = None,
    steps: Annotated[Size, _opt("Optimizer steps, in place of --tokens.")] = None,
    examples: Annotated[Size, _opt("Examples of a fine-tune, in place of --tokens.")] = None,
    epochs: Annotated[float, _opt("Passes over the examples.")] = 1.0,
    mean_tokens: Annotated[Size, _opt("Average tokens of an example.", "TOKENS")] = None,
    packing: Annotated[
        bool, typer.Option("--packing", help="Pack examples into full sequences instead of padding them.")
    ] = False,
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    accumulation: Annotated[Size, _opt("Micro-batches an optimizer step.")] = "1",
    gpu: o.Gpu = "h100-sxm",
    gpus: Annotated[Size, _opt("GPUs in all; data parallel where not told otherwise.")] = "1",
    stage: Annotated[int, _opt("ZeRO stage, for the traffic: 0, 1, 2 or 3.", "STAGE")] = 0,
    tensor_parallel: Annotated[str, typer.Option(help="GPUs that share each layer.", metavar="N")] = "1",
    pipeline_parallel: Annotated[
        str, typer.Option(help="Stages the layers are dealt to (1F1B, --accumulation micro-batches).", metavar="N")
    ] = "1",
    link: Annotated[Size, _opt("10^9 bytes/s one way between GPUs; the preset's where not given.", "GB/S")] = None,
    recipe: Annotated[
        str, typer.Option(help="torch-bf16, torch-mixed, torch-fp32, megatron, zero-paper or deepspeed.")
    ] = "torch-bf16",
    optimizer: Annotated[str, typer.Option(help="adamw-fused, adamw, sgd, lion, adafactor ...")] = "adamw-fused",
    dtype: Annotated[str, typer.Option(help="Of the matrix products.")] = "bf16",
    method: o.Method = None,
    rank: o.Rank = None,
    targets: o.Targets = None,
    arg: o.Arg = None,
    trainable_layers: o.TrainableLayers = None,
    quantization: Annotated[str, typer.Option(help="Of the frozen base: none, nf4, nf4-dq or int8.")] = "none",
    checkpointing: Annotated[str, typer.Option(help="none or full: every layer recomputed.")] = "none",
    attention: Annotated[str, typer.Option(help="sdpa (fused) or eager.")] = "sdpa",
    attention_flops: Annotated[str, typer.Option(help="Convention of MFU: full or causal.")] = "full",
    mfu: Annotated[Size, _opt("Model FLOPs utilisation in place of the roofline: 0.4 or 40%.", "SHARE")] = None,
    price: Annotated[Size, _opt("USD a GPU-hour; the preset's median where not given.", "USD")] = None,
    power: Annotated[Size, _opt("Watts a GPU; the preset's design power where not given.", "W")] = None,
    pue: Annotated[float, typer.Option(help="Overhead of the data centre.")] = 1.1,
    carbon_intensity: Annotated[float, typer.Option(help="kg CO2e a kWh of the grid.")] = 0.385,
    embodied: Annotated[Size, _opt("kg CO2e of making one GPU.", "KG")] = None,
    life_years: Annotated[float, typer.Option(help="Years over which --embodied is spread.")] = 5.0,
    goodput: Annotated[Size, _opt("Share of the time that makes progress.", "SHARE")] = None,
    mtbf: Annotated[Size, _opt("Hours between failures of one GPU.", "HOURS")] = None,
    write_seconds: Annotated[float, typer.Option(help="Time to write a checkpoint.")] = 60.0,
    restart_seconds: Annotated[float, typer.Option(help="Time to restart after a failure.")] = 600.0,
    check_fit: o.CheckFit = False,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Time, money, energy and carbon of a training run or a fine-tune."""
    check_format(format)
    from estimator.estimates.train import Run
    from estimator.estimates.train import train as estimate
    from estimator.models import load_model
    from estimator.sizes import size_option

    made = load_model(model, set_ or (), traced=derive)
    run = Run(
        tokens=tokens,
        steps=steps,
        examples=examples,
        epochs=epochs,
        mean_tokens=mean_tokens,
        packing=packing,
        gpus=gpus,
        accumulation=size_option(made, accumulation, "--accumulation", "accumulation"),
        stage=stage,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        mfu=mfu,
        price=price,
        power=power,
        pue=pue,
        intensity=carbon_intensity,
        embodied=embodied,
        life_years=life_years,
        goodput=goodput,
        mtbf=mtbf,
        write_seconds=write_seconds,
        restart_seconds=restart_seconds,
        link=link,
    )
    report = estimate(
        made,
        run,
        gpu=gpu or "h100-sxm",
        recipe=recipe,
        optimizer=optimizer,
        dtype=dtype,
        quantization=quantization,
        attention_flops=attention_flops,
        check_fit=check_fit,
        batch_size=batch_size,
        seq_len=seq_len,
        method=method,
        rank=rank,
        targets=targets,
        args=arguments(arg),
        trainable_layers=trainable_layers,
        checkpointing=checkpointing,
        attention=attention,
    )
    emit(report, format, output, derive, symbols)
