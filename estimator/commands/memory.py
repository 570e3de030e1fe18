"""``llmcalc memory``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from estimator import options as o
from estimator.render import check_format, emit
from estimator.texts import arguments

app = o.new_app()


@app.command()
def memory(
    model: o.Model = "llama-3-8b",
    mode: Annotated[str | None, typer.Option(help="inference (the default) or training.")] = None,
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    new_tokens: Annotated[str | None, typer.Option(help="Tokens generated after the prompt.", metavar="TOKENS")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Of the weights, for inference: bf16 (or as the file holds them), fp16, fp32, fp8 ..."),
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option(help="Of the KV cache; as the weights where not given.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="torch-mixed, torch-bf16, torch-fp32, megatron, zero-paper, deepspeed, or all.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adamw, adamw-fused, adamw-forloop, adamw8bit, sgd, sgd-momentum, adafactor, lion, muon ..."),
    ] = None,
    attention: Annotated[str, typer.Option(help="sdpa (fused kernels) or eager.")] = "sdpa",
    checkpointing: Annotated[str, typer.Option(help="none, selective (attention) or full (every layer).")] = "none",
    quantization: Annotated[str, typer.Option(help="none, nf4, nf4-dq, int8, gptq, awq, q4_k_m ...")] = "none",
    logits: Annotated[str, typer.Option(help="last, or all positions of the prompt.")] = "last",
    loss: Annotated[str, typer.Option(help="full (fp32 logits), chunked or fused cross-entropy.")] = "full",
    method: o.Method = None,
    rank: o.Rank = None,
    targets: o.Targets = None,
    arg: o.Arg = None,
    trainable_layers: o.TrainableLayers = None,
    gpus: Annotated[str | None, typer.Option(help="Data-parallel GPUs of a training step.", metavar="N")] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="0 DDP, 1 ZeroRedundancyOptimizer, 2 and 3 FSDP2 (llmcalc zero).", metavar="STAGE"),
    ] = None,
    offload: Annotated[str, typer.Option(help="none, optimizer or all (llmcalc zero).")] = "none",
    tensor_parallel: Annotated[str, typer.Option(help="GPUs that share each layer.", metavar="N")] = "1",
    pipeline_parallel: Annotated[str, typer.Option(help="Stages the layers are dealt to.", metavar="N")] = "1",
    sequence_parallel: Annotated[
        bool, typer.Option("--sequence-parallel", help="Split norms over the tensor group.")
    ] = False,
    context_parallel: Annotated[str, typer.Option(help="GPUs that share each sequence.", metavar="N")] = "1",
    expert_parallel: Annotated[str, typer.Option(help="GPUs that share the experts.", metavar="N")] = "1",
    micro_batches: Annotated[str, typer.Option(help="Forward and backward passes a step.", metavar="N")] = "1",
    gpu: o.Gpu = None,
    check_fit: o.CheckFit = False,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Memory of training or inference, moment by moment, and whether it fits."""
    check_format(format)
    from estimator.estimates.memory import memory as estimate
    from estimator.estimates.memory import require_fit
    from estimator.models import load_model

    given: dict[str, Any] = arguments(arg)
    report = estimate(
        load_model(model, set_ or (), traced=derive),
        mode=mode,
        recipe=recipe,
        check_fit=check_fit and gpu is None,
        gpu=gpu,
        batch_size=batch_size,
        seq_len=seq_len,
        new_tokens=new_tokens,
        dtype=dtype,
        kv_dtype=kv_dtype,
        optimizer=optimizer,
        attention=attention,
        checkpointing=checkpointing,
        quantization=quantization,
        logits=logits,
        loss=loss,
        method=method,
        rank=rank,
        targets=targets,
        args=given,
        trainable_layers=trainable_layers,
        gpus=gpus,
        stage=stage,
        offload=offload,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        sequence_parallel=sequence_parallel,
        context_parallel=context_parallel,
        expert_parallel=expert_parallel,
        micro_batches=micro_batches,
    )
    emit(report, format, output, derive, symbols)
    if check_fit:  # the report is printed first
        require_fit(report)
