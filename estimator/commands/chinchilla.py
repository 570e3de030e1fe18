"""``llmcalc chinchilla`` and ``llmcalc chinchilla fit``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


def _opt(help: str, metavar: str = "SIZE") -> object:
    return typer.Option(help=help, metavar=metavar)


Size = str | None


@app.callback(invoke_without_command=True)
def chinchilla(
    ctx: typer.Context,
    compute: Annotated[Size, _opt("Budget in FLOPs: 5.76e23.", "FLOPS")] = None,
    params: Annotated[Size, _opt("Parameters: for which budget are they optimal?")] = None,
    tokens: Annotated[Size, _opt("Training tokens: for which budget are they optimal?")] = None,
    usd: Annotated[Size, _opt("Budget in USD; needs --gpu.", "USD")] = None,
    gpu_hours: Annotated[Size, _opt("Budget in GPU-hours; needs --gpu.", "HOURS")] = None,
    model: Annotated[Size, typer.Option("--model", "-m", help="A model's (active) parameters in place of --params.", metavar="MODEL")] = None,
    law: Annotated[Size, _opt("hoffmann, hoffmann-approach1, hoffmann-approach2, hoffmann-direct, epoch, kaplan, llama3, muennighoff, or all.", "LAW")] = None,
    coefficients: Annotated[Size, _opt("printed, unrounded, table; or your own: E=..,A=..,B=..,alpha=..,beta=.. or a .toml or .json file.", "SET")] = None,
    train_params: Annotated[Size, _opt("Train this many parameters instead of the optimum.")] = None,
    train_tokens: Annotated[Size, _opt("Train on this many tokens instead of the optimum (over-training).")] = None,
    inference_tokens: Annotated[Size, _opt("Tokens the model will serve in its life.")] = None,
    unique_tokens: Annotated[Size, _opt("Tokens that exist; more are repeated.")] = None,
    active_fraction: Annotated[str | None, _opt("Mixture of experts: active over total parameters.", "SHARE")] = None,
    gpu: o.Gpu = None,
    gpus: Annotated[Size, _opt("GPUs, for the days.", "N")] = None,
    mfu: Annotated[str | None, _opt("Utilisation of the dense peak: 0.4 or 40%.", "SHARE")] = None,
    price: Annotated[str | None, _opt("USD a GPU-hour, else the preset's median.", "USD")] = None,
    dtype: Annotated[str, typer.Option(help="Of the matrix products, for the GPU's peak.")] = "bf16",
    plot: Annotated[str | None, _opt("contours, isoflop or frontier; with --output FILE.svg or .png a picture.", "KIND")] = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Compute-optimal parameters and tokens, from a budget of FLOPs, USD or GPU-hours, from parameters or tokens."""
    if ctx.invoked_subcommand is not None:
        return
    check_format(format)
    from estimator.estimates.chinchilla import Request, chinchilla as estimate

    request = Request(
        compute=compute, params=params, tokens=tokens, usd=usd, gpu_hours=gpu_hours, model=model, law=law, coefficients=coefficients,
        train_params=train_params, train_tokens=train_tokens, inference_tokens=inference_tokens, unique_tokens=unique_tokens,
        active_fraction=active_fraction, gpu=gpu, gpus=gpus, mfu=mfu, price=price, dtype=dtype, derive=derive, symbols=symbols,
    )  # fmt: skip
    report = estimate(request)
    emit(report, format, output, derive, symbols)
