"""``llmcalc infer``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()
_PRICE = "USD a GPU-hour; the preset's median where not given."


@app.command()
def infer(
    model: o.Model = "llama-3-8b",
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    new_tokens: Annotated[str | None, typer.Option(help="Tokens generated after the prompt.", metavar="TOKENS")] = None,
    gpu: Annotated[str, typer.Option(help="A GPU preset: llmcalc gpus lists them.", metavar="GPU")] = "h100-sxm",
    gpus: Annotated[str, typer.Option(help="GPUs that share each layer (tensor parallelism).", metavar="N")] = "1",
    dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp8: what weights are stored and multiplied in.")] = "bf16",
    kv_dtype: Annotated[
        str | None, typer.Option(help="bf16, fp16, fp32, fp8, int8 or int4; as the weights where not given.")
    ] = None,
    quantization: Annotated[str, typer.Option(help="none, nf4, nf4-dq, int8, gptq, awq, q4_k_m ...")] = "none",
    engine: Annotated[
        str, typer.Option(help="transformers (kernel by kernel) or fused (a serving engine's).")
    ] = "transformers",
    cuda_graph: Annotated[bool, typer.Option(help="Replay decode steps from a CUDA graph.")] = True,
    price: Annotated[float | None, typer.Option(help=_PRICE, metavar="USD")] = None,
    draft_model: Annotated[
        str | None, typer.Option(help="Speculative decoding with this draft model.", metavar="MODEL")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability that a drafted token is accepted.")] = 0.8,
    gamma: Annotated[int, typer.Option(help="Drafted tokens a pass.")] = 5,
    plot: Annotated[bool, typer.Option("--plot", help="Draw latency against throughput.")] = False,
    check_fit: o.CheckFit = False,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Latency, throughput, memory and cost of serving a model."""
    check_format(format)
    from estimator.estimates import infer as estimates
    from estimator.models import load_model

    report = estimates.infer(
        load_model(model, set_ or (), traced=derive),
        batch_size=batch_size, seq_len=seq_len, new_tokens=new_tokens, gpu=gpu, gpus=gpus, dtype=dtype,
        kv_dtype=kv_dtype, quantization=quantization, engine=engine, graph=cuda_graph, price=price,
        draft_model=load_model(draft_model) if draft_model is not None else None, alpha=alpha, gamma=gamma,
        check_fit=check_fit,
    )  # fmt: skip
    if plot:
        report = report._replace(body=(*report.body, estimates.plot(report)))
    emit(report, format, output, derive, symbols)
