"""``llmcalc compress``: prune, quantize, linear."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.report import Report

app = o.new_app()
OptionalModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Adds the bytes of this model's weights.", metavar="MODEL")
]


@app.callback()
def compress() -> None:
    """Pruning and quantisation arithmetic."""


@app.command()
@o.shown("format", "output", "derive", "symbols")
def prune(
    channels: Annotated[
        str | None, typer.Option(help="Share of all channels that is removed.", metavar="SHARE")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Share of single weights that is masked.", metavar="SHARE")
    ] = None,
    conv: Annotated[
        str | None, typer.Option(help="c_o,h_o,w_o,k_h,k_w,c_i of a convolution, or letters.", metavar="SIZES")
    ] = None,
    derive: bool = False,
) -> Report:
    """Multiply-adds left after pruning."""
    from estimator.commands.compress.report import prune as estimate

    return estimate(channels, weights, conv, derive)


@app.command()
@o.shown("format", "output", "derive", "symbols")
def quantize(
    bits: Annotated[str, typer.Option(help="Bits of a code, or a letter.", metavar="N")] = "4",
    block: Annotated[int, typer.Option(help="Weights that share a scale.")] = 64,
    scale_bits: Annotated[int, typer.Option(help="Bits of a block's scale.")] = 16,
    zero_bits: Annotated[int, typer.Option(help="Bits of a block's zero point.")] = 0,
    model: OptionalModel = None,
    set_: o.SetField = None,
    derive: bool = False,
) -> Report:
    """Levels and bits a weight of block-wise codes."""
    from estimator.commands.compress.report import quantize as estimate

    return estimate(bits, block, scale_bits, zero_bits, o.load(model, set_, derive), derive)


@app.command()
@o.shown("format", "output", "derive", "symbols")
def linear(
    rmin: Annotated[str, typer.Option(help="Least real value.", metavar="X")] = "-1",
    rmax: Annotated[str, typer.Option(help="Greatest real value.", metavar="X")] = "1",
    bits: Annotated[int, typer.Option(help="Bits of a code.")] = 8,
    signed: Annotated[bool, typer.Option(help="Codes from -2^(bits-1), or from 0.")] = True,
    derive: bool = False,
) -> Report:
    """Scale and zero point of linear quantisation."""
    from estimator.commands.compress.report import linear as estimate

    return estimate(rmin, rmax, bits, signed, derive)
