"""The question of ``llmcalc zero``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.questions.base import again, option
from estimator.questions.parts import Adapted, OnCard, Sequences, Sharded
from estimator.records import dataclass


@dataclass(frozen=True, kw_only=True)
class Zero(OnCard, Sharded, Sequences, Adapted):
    """Memory and communication a GPU: ZeRO and FSDP stages, tensor, pipeline, context and expert parallelism."""

    model: Any = option(None, "As everywhere; llama-3-8b where --params is not given either.", "MODEL", short="-m")
    params: Any = option(None, "Parameters instead of a model: 7.5e9, 7B, or a letter.", "COUNT")
    gpus: Any = option("8", "GPUs in all, or a letter.", "N")
    stage: Any = again(Sharded, "stage", "all")
    recipe: Any = option(
        "zero-paper", "zero-paper, megatron, deepspeed, torch-mixed, torch-bf16 or torch-fp32.", "NAME"
    )
    optimizer: Any = option("adamw", "adamw (-fused, -forloop), adamw8bit, lion, sgd-momentum or sgd.", "NAME")
    attention: Any = option("sdpa", "sdpa (no scores kept) or eager.", "NAME")
    checkpointing: Any = option("none", "none, selective or full.", "NAME")
    micro_batches: Any = option("1", "Forward and backward passes a step.", "N")
    dropout: Any = option(False, "Count dropout masks.", kind="flag")
    largest_layer: Any = option(None, "Parameters of the largest layer, with --params.", "COUNT", of=("params",))
    memory: Any = option(None, "Memory of a GPU instead of --gpu: 32GB.", "BYTES")
    link_gbps: Any = option(None, "Link inside a node, 10^9 bits/s one way.", "RATE")
    network_gbps: Any = option(None, "Link between nodes, 10^9 bits/s a GPU.", "RATE")
    pcie_gbps: Any = option(None, "Link to the host, 10^9 bits/s a GPU.", "RATE", of=("offload",))
    nvme_gbps: Any = option(None, "Disks of a node, 10^9 bits/s.", "RATE", of=("offload",))
    plot: Any = option(False, "Draw the stages as bars, with the line of the GPU.", kind="flag")
    derive: Any = option(False, "Trace the sizes.", kind="flag", hidden=True)

    @classmethod
    def default_model(cls, options: Mapping[str, Any]) -> str | None:
        """The default model, or None where a number of parameters is given."""
        return "llama-3-8b" if options.get("params") is None else None
