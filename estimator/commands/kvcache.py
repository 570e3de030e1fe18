"""``llmcalc kvcache``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()


@app.command()
def kvcache(
    model: o.Model = "llama-3-8b",
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    kv_dtype: Annotated[str, typer.Option(help="bf16, fp16, fp32, fp8, int8 or int4.")] = "bf16",
    cache: Annotated[str, typer.Option(help="dynamic (grows) or static (allocated in full).")] = "dynamic",
    encoder_len: Annotated[
        str | None, typer.Option(help="Encoder tokens of an encoder-decoder model.")
    ] = None,
    gpu: o.Gpu = None,
    dtype: Annotated[str, typer.Option(help="Storage of the weights, for --gpu.")] = "bf16",
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Bytes of the KV cache of a model, and what fits on a GPU beside its weights."""
    check_format(format)
    from estimator.estimates.kvcache import kvcache as estimate
    from estimator.models import load_model

    report = estimate(
        load_model(model, set_ or (), traced=derive),
        batch_size=batch_size, seq_len=seq_len, kv_dtype=kv_dtype, cache=cache, encoder_len=encoder_len,
        gpu=gpu, dtype=dtype,
    )  # fmt: skip
    emit(report, format, output, derive, symbols)
