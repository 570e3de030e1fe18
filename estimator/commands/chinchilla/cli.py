"""``llmcalc chinchilla`` and ``llmcalc chinchilla fit``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from estimator import options as o
from estimator.errors import InputError
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
    tokens: Annotated[Size, _opt("Training tokens: for which budget are they optimal?", "TOKENS")] = None,
    usd: Annotated[Size, _opt("Budget in USD; needs --gpu.", "USD")] = None,
    gpu_hours: Annotated[Size, _opt("Budget in GPU-hours; needs --gpu.", "HOURS")] = None,
    model: Annotated[
        Size, typer.Option("--model", "-m", help="A model's (active) parameters in place of --params.", metavar="MODEL")
    ] = None,
    law: Annotated[
        Size,
        _opt(
            "hoffmann, hoffmann-approach1, hoffmann-approach2, hoffmann-direct, epoch, kaplan, llama3, "
            "muennighoff, or all.",
            "LAW",
        ),
    ] = None,
    coefficients: Annotated[
        Size,
        _opt(
            "printed, unrounded, table; or your own: E=..,A=..,B=..,alpha=..,beta=.. or a .toml or .json file.", "SET"
        ),
    ] = None,
    train_params: Annotated[Size, _opt("Train this many parameters instead of the optimum.")] = None,
    train_tokens: Annotated[Size, _opt("Train on this many tokens instead of the optimum.", "TOKENS")] = None,
    inference_tokens: Annotated[Size, _opt("Tokens the model will serve in its life.", "TOKENS")] = None,
    unique_tokens: Annotated[Size, _opt("Tokens that exist; more are repeated.", "TOKENS")] = None,
    active_fraction: Annotated[str | None, _opt("Mixture of experts: active over total parameters.", "SHARE")] = None,
    gpu: o.Gpu = None,
    gpus: Annotated[Size, _opt("GPUs, for the days.", "N")] = None,
    mfu: Annotated[str | None, _opt("Utilisation of the dense peak: 0.4 or 40%.", "SHARE")] = None,
    price: Annotated[str | None, _opt("USD a GPU-hour; the preset's median where not given.", "USD")] = None,
    dtype: Annotated[str, typer.Option(help="Of the matrix products, for the GPU's peak.")] = "bf16",
    plot: Annotated[
        str | None, _opt("contours, isoflop, frontier or ratio; with --output FILE.svg or .png a picture.", "KIND")
    ] = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = "",
    symbols: o.Symbols = None,
) -> None:
    """Compute-optimal parameters and tokens, from a budget of FLOPs, USD or GPU-hours, from parameters or tokens."""
    if ctx.invoked_subcommand is not None:
        stray = [
            k
            for k, v in ctx.params.items()
            if v not in (None, False, "") and (k, v) not in (("dtype", "bf16"), ("format", "table"))
        ]
        if stray:
            raise InputError(f"--{stray[0].replace('_', '-')} stands before fit; put fit's options after it")
        return
    check_format(format)
    from estimator.commands.chinchilla.report import Request, drawn

    request = Request(
        compute=compute, params=params, tokens=tokens, usd=usd, gpu_hours=gpu_hours, model=model, law=law,
        coefficients=coefficients, train_params=train_params, train_tokens=train_tokens,
        inference_tokens=inference_tokens, unique_tokens=unique_tokens, active_fraction=active_fraction,
        gpu=gpu, gpus=gpus, mfu=mfu, price=price, dtype=dtype, derive=bool(derive), symbols=symbols,
        plot=_kind(plot, "contours", format, output),
    )  # fmt: skip
    report, figure = drawn(request)
    _emit(report, figure, format, output, derive, symbols)


@app.command()
def fit(
    file: Annotated[str, typer.Argument(help="CSV of runs: params, tokens or train_flop, loss.", metavar="FILE.csv")],
    exclude: Annotated[
        list[str] | None,
        _opt("Leave runs out: fewest-tokens-per-param=5, highest-loss=3, lines=4,17; repeatable.", "RULE=COUNT"),
    ] = None,
    bootstrap: Annotated[int, _opt("Resamples for the 95% intervals; 0 for none.", "N")] = 1000,
    seed: Annotated[int, _opt("Of the bootstrap.", "N")] = 0,
    compute: Annotated[Size, _opt("FLOPs at which to read the fitted frontier.", "FLOPS")] = None,
    plot: Annotated[
        str | None, _opt("fit, residuals, contours or isoflop; with --output FILE.svg or .png a picture.", "KIND")
    ] = None,
    format: o.Format = "table",
    output: o.Output = None,
) -> None:
    """Fit E + A/N**alpha + B/D**beta to your own runs; needs numpy and scipy."""
    check_format(format)
    from estimator.commands.chinchilla.fit import fit as estimate

    kind = _kind(plot, "fit", format, output)
    report, figure = estimate(file, exclude or (), bootstrap, seed, compute, kind, progress=True)
    _emit(report, figure, format, output, "", None)


def _kind(plot: str | None, default: str, format: str, output: str | None) -> str | None:
    """The figure that is asked for: a picture's file name alone asks for the default one."""
    from estimator.render.plots import picture

    if picture(output):
        return plot or default
    if plot and format not in ("table", "markdown"):
        raise InputError(f"--plot draws in the terminal or into --output FILE.svg or FILE.png, not as {format}")
    return plot


def _emit(report: Any, figure: Any, format: str, output: str | None, derive: str, symbols: str | None) -> None:
    """The report; its figure below it, or in a picture of its own beside the report on standard output."""
    from estimator.render import to_text
    from estimator.render.plots import draw, picture, terminal
    from estimator.render.streams import say, write_file
    from estimator.report import Text

    if figure and output and picture(output):
        drawing = draw(figure, output)
        to_text(report, format, derive, symbols)  # whatever fails, fails before anything is written
        write_file(output, drawing)
        say(f"note: {figure.title}: {output}")
        output = None
    elif figure:
        report = report._replace(body=(*report.body, Text(figure.title, terminal(figure))))
    emit(report, format, output, derive, symbols)
