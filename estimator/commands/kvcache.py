"""``llmcalc kvcache``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()
Tokens = str | None


@app.command()
def kvcache(
    model: o.Model = "llama-3-8b",
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    new_tokens: Annotated[Tokens, typer.Option(help="Tokens generated after these.", metavar="TOKENS")] = None,
    kv_dtype: Annotated[str, typer.Option(help="bf16, fp16, fp32, fp8, int8 or int4.")] = "bf16",
    cache: Annotated[
        str, typer.Option(help="dynamic (grows), static (allocated in full), paged (vLLM) or quantized (transformers).")
    ] = "dynamic",
    block_size: Annotated[Tokens, typer.Option(help="Tokens a block of a paged cache: 16.", metavar="TOKENS")] = None,
    kv_group: Annotated[
        Tokens, typer.Option(help="Numbers that share a scale in an int8 or int4 cache.", metavar="N")
    ] = None,
    shared_prefix: Annotated[
        Tokens, typer.Option(help="Tokens that all sequences of the batch share.", metavar="TOKENS")
    ] = None,
    encoder_len: Annotated[
        Tokens, typer.Option(help="Encoder tokens of an encoder-decoder model.", metavar="TOKENS")
    ] = None,
    gpu: o.Gpu = None,
    dtype: Annotated[str, typer.Option(help="Storage of the weights, for --gpu.")] = "bf16",
    quantization: Annotated[
        str, typer.Option(help="Of the weights, for --gpu: none, nf4, int8, awq, q4_k_m ...")
    ] = "none",
    workspace: Annotated[
        str, typer.Option(help="Of a pass, for --gpu: simulated, none or a size such as 2GiB.")
    ] = "simulated",
    complexity: Annotated[bool, typer.Option("--complexity", help="Time and memory without and with a cache.")] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the growth with the context; --output FILE.svg for a picture.")
    ] = False,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Bytes of the KV cache of a model, and what fits on a GPU beside its weights."""
    check_format(format)
    from estimator.estimates import kvcache as estimates
    from estimator.models import load_model

    options: dict[str, Any] = {
        "batch_size": batch_size, "seq_len": seq_len, "new_tokens": new_tokens, "kv_dtype": kv_dtype, "cache": cache,
        "encoder_len": encoder_len, "block_size": block_size, "kv_group": kv_group, "shared_prefix": shared_prefix,
    }  # fmt: skip
    found = load_model(model, set_ or (), traced=derive)
    report = estimates.kvcache(
        found, gpu=gpu, dtype=dtype, quantization=quantization, workspace=workspace, complexity=complexity, **options
    )
    if plot:
        from estimator.render import write_file
        from estimator.render.plots import draw, picture

        figure = estimates.growth(report, load_model(model, set_ or ()), **options)
        if output is not None and picture(output):
            write_file(output, draw(figure, output))
            return
        report = report._replace(body=(*report.body, estimates.drawn(figure)))
    emit(report, format, output, derive, symbols)
