"""``llmcalc zero``."""

from __future__ import annotations

from typing import Annotated

import typer

from estimator import options as o
from estimator.render import check_format, emit

app = o.new_app()
Degree = Annotated[str, typer.Option(metavar="N")]
_MODEL = "As everywhere; llama-3-8b where --params is not given either."
_RECIPE = "zero-paper, megatron, deepspeed, torch-mixed, torch-bf16 or torch-fp32."
_OPTIMIZER = "adamw (-fused, -forloop), adamw8bit, lion, sgd-momentum or sgd."


@app.command()
def zero(
    model: Annotated[str | None, typer.Option("--model", "-m", help=_MODEL, metavar="MODEL")] = None,
    params: Annotated[
        str | None, typer.Option(help="Parameters instead of a model: 7.5e9, 7B, or a letter.", metavar="COUNT")
    ] = None,
    gpus: Annotated[str, typer.Option(help="GPUs in all, or a letter.", metavar="N")] = "8",
    stage: Annotated[str, typer.Option(help="0, 1, 2, 3 or all.", metavar="STAGE")] = "all",
    recipe: Annotated[str, typer.Option(help=_RECIPE)] = "zero-paper",
    optimizer: Annotated[str, typer.Option(help=_OPTIMIZER)] = "adamw",
    offload: Annotated[str, typer.Option(help="none, optimizer or all.")] = "none",
    offload_to: Annotated[str, typer.Option(help="cpu or nvme.")] = "cpu",
    zero_pp: Annotated[str, typer.Option(help="ZeRO++: qwz, hpz, qgz or all.", metavar="PARTS")] = "",
    tensor_parallel: Annotated[str, typer.Option(help="GPUs that share each layer.", metavar="N")] = "1",
    pipeline_parallel: Annotated[str, typer.Option(help="Stages the layers are dealt to.", metavar="N")] = "1",
    sequence_parallel: Annotated[
        bool, typer.Option("--sequence-parallel", help="Split norms over the tensor group.")
    ] = False,
    context_parallel: Annotated[str, typer.Option(help="GPUs that share each sequence.", metavar="N")] = "1",
    expert_parallel: Annotated[str, typer.Option(help="GPUs that share the experts.", metavar="N")] = "1",
    micro_batches: Annotated[str, typer.Option(help="Forward and backward passes a step.", metavar="N")] = "1",
    schedule: Annotated[str, typer.Option(help="1f1b, gpipe, interleaved, zb-h1 or zb-h2.")] = "1f1b",
    virtual_stages: Annotated[int, typer.Option(help="Groups of layers a GPU (interleaved).")] = 1,
    pipeline_split: Annotated[str, typer.Option(help="even, or ends: embedding and head count as layers.")] = "even",
    batch_size: o.BatchSize = "1",
    seq_len: o.SeqLen = None,
    attention: Annotated[str, typer.Option(help="sdpa (no scores kept) or eager.")] = "sdpa",
    checkpointing: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    dropout: Annotated[bool, typer.Option("--dropout", help="Count dropout masks.")] = False,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs that share the fast link.")] = 8,
    largest_layer: Annotated[
        str | None, typer.Option(help="Parameters of the largest layer, with --params.", metavar="COUNT")
    ] = None,
    gpu: o.Gpu = None,
    memory: Annotated[str | None, typer.Option(help="Memory of a GPU instead of --gpu: 32GB.", metavar="BYTES")] = None,
    link_gbps: Annotated[
        str | None, typer.Option(help="Link inside a node, 10^9 bits/s one way.", metavar="RATE")
    ] = None,
    network_gbps: Annotated[
        str | None, typer.Option(help="Link between nodes, 10^9 bits/s a GPU.", metavar="RATE")
    ] = None,
    pcie_gbps: Annotated[str | None, typer.Option(help="Link to the host, 10^9 bits/s a GPU.", metavar="RATE")] = None,
    nvme_gbps: Annotated[str | None, typer.Option(help="Disks of a node, 10^9 bits/s.", metavar="RATE")] = None,
    check_fit: o.CheckFit = False,
    set_: o.SetField = None,
    format: o.Format = "table",
    output: o.Output = None,
    derive: o.Derive = False,
    symbols: o.Symbols = None,
) -> None:
    """Memory and communication a GPU: ZeRO and FSDP stages, tensor, pipeline, context and expert parallelism."""
    check_format(format)
    from estimator.estimates.zero import zero as estimate

    if model is None and params is None:
        model = "llama-3-8b"
    report = estimate(
        o.load(model, set_, traced=derive),
        params,
        gpus=gpus,
        stage=stage,
        recipe=recipe,
        optimizer=optimizer,
        offload=offload,
        offload_to=offload_to,
        zero_pp=zero_pp,
        micro_batches=micro_batches,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        context_parallel=context_parallel,
        expert_parallel=expert_parallel,
        sequence_parallel=sequence_parallel,
        schedule=schedule,
        virtual_stages=virtual_stages,
        pipeline_split=pipeline_split,
        batch_size=batch_size,
        seq_len=seq_len,
        attention=attention,
        checkpointing=checkpointing,
        dropout=dropout,
        gpus_per_node=gpus_per_node,
        largest_layer=largest_layer,
        gpu=gpu,
        memory=memory,
        link_gbps=link_gbps,
        network_gbps=network_gbps,
        pcie_gbps=pcie_gbps,
        nvme_gbps=nvme_gbps,
        check_fit=check_fit,
        derive=derive,
    )
    emit(report, format, output, derive, symbols)
