"""``memory`` of a recipe that is an accounting, sharded over many GPUs: the moments of the most loaded one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.errors import InputError
from estimator.estimates.zero_plan import Plan as Sharded
from estimator.estimates.zero_plan import plan
from estimator.models import Model
from estimator.moments import Moment, Outcome
from estimator.optimizers import Trained
from estimator.parallel.job import Rank, ranks, worst
from estimator.parallel.request import zero_stage
from estimator.parallel.sharding import GRADIENTS, WEIGHTS
from estimator.trace import value_of

# what llmcalc zero takes beside --gpus and --stage, with what changes nothing
DEFAULTS: dict[str, Any] = {
    "offload": "none",
    "offload_to": "cpu",
    "zero_pp": "",
    "micro_batches": "1",
    "tensor_parallel": "1",
    "pipeline_parallel": "1",
    "context_parallel": "1",
    "expert_parallel": "1",
    "sequence_parallel": False,
    "schedule_name": "1f1b",
    "virtual_stages": 1,
    "pipeline_split": "even",
    "dropout": False,
    "gpus_per_node": 8,
    "largest_layer": None,
    "gpu": None,
    "memory": None,
    "link_gbps": None,
    "network_gbps": None,
    "pcie_gbps": None,
    "nvme_gbps": None,
}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not at their defaults."""
    return {k: v for k, v in options.items() if v is not None and v != DEFAULTS[k]}


def refuse(options: Mapping[str, Any], recipe: str) -> None:
    """InputError where a simulated recipe is asked to do more than data parallelism."""
    for name in given(options):
        raise InputError(
            f"--{name.replace('_', '-')}: {recipe} is simulated on data-parallel GPUs only; "
            "use --mode training --recipe megatron"
        )


def sharded(model: Model, gpus: Any, stage: Any, options: Mapping[str, Any], **workload: Any) -> Sharded:
    """The job; ``workload``: recipe, optimizer, batch_size, seq_len, attention, checkpointing, derive."""
    stage = zero_stage(0 if stage is None else stage)
    return plan(model, None, gpus=1 if gpus is None else gpus, stage=stage, **DEFAULTS | given(options), **workload)


def most_loaded(p: Sharded) -> Rank:
    return worst(ranks(p.job, p.stages[0]))


def outcome(p: Sharded, trained: list[Trained]) -> Outcome:
    """Weights; states and activations; gradients beside them; the update."""
    top = most_loaded(p)
    by = dict(top.kept)
    weights: dict[tuple[str, str], Any] = {("model", k): v for k, v in by.items() if k not in (GRADIENTS, "optimizer")}
    states = weights | {("optimizer", "master weights and states"): by.get("optimizer", 0)}
    whole = states | {("gradients", "all"): by.get(GRADIENTS, 0)}
    active: dict[tuple[str, str], Any] = {("activations", k): v for k, v in top.activations}
    if value_of(top.gathered):
        active["model", "weights of two layers, gathered"] = top.gathered

    def at(key: str, label: str, live: dict[tuple[str, str], Any]) -> Moment:
        total = sum(live.values())
        return Moment(key, label, total, total, live)

    moments = [
        at("moments.load_bytes", "Load", weights),
        at("moments.forward_bytes", "Forward and loss", states | active),
        at("moments.backward_bytes", "Backward", whole | active),
        at("moments.step_bytes", "Optimizer step", whole),
    ]
    return Outcome(moments, by.get(WEIGHTS, 0), by.get("optimizer", 0), by.get(GRADIENTS, 0), trained, weights)
