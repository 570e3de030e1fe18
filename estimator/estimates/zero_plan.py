"""Options of ``zero`` turned into a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from estimator.errors import InputError, unknown
from estimator.models import Model
from estimator.parallel import activations as act
from estimator.parallel import offload as off
from estimator.parallel.degrees import Degrees
from estimator.parallel.job import Job
from estimator.parallel.links import Links, links
from estimator.parallel.pipeline import Stage, schedule, split
from estimator.parallel.recipe import rates
from estimator.parallel.request import is_letter, size
from estimator.parallel.sharding import STAGES
from estimator.parallel.tensor import Cut
from estimator.parallel.traffic import check_zero_pp
from estimator.trace import value_of

MOST_PARAMS = 10**18
DEGREES = (
    ("tensor", "tensor_parallel"),
    ("pipeline", "pipeline_parallel"),
    ("context", "context_parallel"),
    ("expert", "expert_parallel"),
)


@dataclass(slots=True)
class Plan:
    """A job, and how to speak of it."""

    job: Job
    stages: tuple[int, ...]
    name: str
    symbolic: bool
    links: Links
    gpu: Any
    memory: int | None
    inputs: dict[str, Any]
    said: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def parse_stages(stage: Any) -> tuple[int, ...]:
    """``all`` or one stage."""
    text = str(stage).strip().lower()
    if text == "all":
        return STAGES
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"--stage must be 0, 1, 2, 3 or all, got {str(stage)[:20]!r}")
    return (int(text),)


def plan(
    model: Model | None,
    params: Any,
    *,
    gpus: Any,
    stage: Any,
    recipe: str,
    optimizer: str,
    offload: str,
    offload_to: str,
    zero_pp: str,
    micro_batches: Any,
    tensor_parallel: Any,
    pipeline_parallel: Any,
    context_parallel: Any,
    expert_parallel: Any,
    sequence_parallel: bool,
    schedule_name: str,
    virtual_stages: int,
    pipeline_split: str,
    batch_size: Any,
    seq_len: Any,
    attention: str,
    checkpointing: str,
    dropout: bool,
    gpus_per_node: int,
    largest_layer: Any,
    gpu: str | None,
    memory: str | None,
    link_gbps: str | None,
    network_gbps: str | None,
    pcie_gbps: str | None,
    nvme_gbps: str | None,
    derive: bool,
) -> Plan:
    """The job that these options describe. Raises InputError for degrees that do not divide, and contradictions."""
    if (model is None) == (params is None):
        raise InputError("give either --model or --params, not both")
    if not 1 <= gpus_per_node <= 10**6:
        raise InputError(f"--gpus-per-node must be >= 1, got {gpus_per_node}")
    stages = parse_stages(stage)
    said: list[str] = []
    n = size(gpus, "--gpus", "gpus", model, derive)
    given = {
        "tensor": tensor_parallel,
        "pipeline": pipeline_parallel,
        "context": context_parallel,
        "expert": expert_parallel,
    }
    found = {k: size(given[k], f"--{f.replace('_', '-')}", f, model, derive) for k, f in DEGREES}
    if sequence_parallel and value_of(found["tensor"]) == 1:
        raise InputError("--sequence-parallel splits norms over the tensor-parallel group: add --tensor-parallel")
    degrees = Degrees(
        n, found["tensor"], found["pipeline"], found["context"], found["expert"], sequence_parallel, gpus_per_node
    )
    m = size(micro_batches, "--micro-batches", "micro_batches", model, derive)
    off.check(offload, offload_to, stages, len(stages) > 1)
    plainly = schedule(schedule_name, degrees.pipeline, m, virtual_stages)
    cut = Cut(degrees.tensor, degrees.expert)
    job = Job(
        model.architecture if model else None,
        None if model else size(params, "--params", "params", None, derive, most=MOST_PARAMS),
        degrees,
        rates(recipe, optimizer),
        plainly,
        _pipeline(model, degrees, virtual_stages, pipeline_split),
        m,
        _work(model, batch_size, seq_len, cut, degrees, attention, checkpointing, dropout, derive, said),
        offload,
        offload_to,
        check_zero_pp(zero_pp, stages, degrees.shards, gpus_per_node),
        _largest(model, largest_layer, recipe, offload, stages, derive, said),
    )
    if model is None and not degrees.plain:
        said.append(
            "only a number of parameters is known: tensor and pipeline parallelism are taken to split it evenly"
        )
    card = None
    if gpu is not None:
        from estimator.presets import load_gpu

        card = load_gpu(gpu)
    rate = links(card, link_gbps, network_gbps, pcie_gbps, nvme_gbps, offload != "none" and offload_to == "nvme")
    inputs = {
        "model": model.name if model else None,
        "params": job.params,
        "gpus": n,
        "stage": str(stage),
        "recipe": job.rates.recipe.name,
        "optimizer": optimizer,
        "offload": offload,
        "tensor_parallel": degrees.tensor,
        "pipeline_parallel": degrees.pipeline,
        "sequence_parallel": sequence_parallel,
        "context_parallel": degrees.context,
        "expert_parallel": degrees.expert,
        "micro_batches": m,
        "schedule": schedule_name,
        "gpu": gpu,
    }
    letters = (params, gpus, micro_batches, batch_size, seq_len, largest_layer, *given.values())
    symbolic = (model is not None and model.kind == "symbolic") or any(map(is_letter, letters))
    return Plan(
        job,
        stages,
        model.name if model else "",
        symbolic,
        rate,
        card,
        _memory(card, memory, said),
        inputs,
        said + list(rate.said),
        tuple(model.notes) if model else (),
    )


def _pipeline(model: Model | None, degrees: Degrees, chunks: int, how: str) -> tuple[Stage, ...]:
    if model is None:
        p = int(value_of(degrees.pipeline))
        return tuple(Stage(i, (), i == 0, i == p - 1) for i in range(min(p, 1)))
    return tuple(split(model.architecture, degrees.pipeline, chunks, how))


def _work(
    model: Model | None,
    batch: Any,
    seq_len: Any,
    cut: Cut,
    degrees: Degrees,
    attention: str,
    checkpointing: str,
    dropout: bool,
    derive: bool,
    said: list[str],
) -> act.Work | None:
    if checkpointing not in act.RECOMPUTATION:
        raise unknown("--checkpointing", checkpointing, act.RECOMPUTATION)
    if attention not in ("sdpa", "eager"):
        raise unknown("--attention", attention, ("sdpa", "eager"))
    b = size(batch, "--batch-size", "batch_size", model, derive, "length")
    if seq_len is None:
        if not degrees.plain and value_of(degrees.context) != 1:
            raise InputError("--context-parallel divides a sequence: add --seq-len")
        said.append("--seq-len not given: no activations, and of the communication only data parallelism's")
        return None
    if model is None:
        raise InputError("--seq-len needs --model: activations depend on its layers")
    work = act.Work(
        b,
        size(seq_len, "--seq-len", "seq_len", model, derive, "length"),
        cut,
        degrees.context,
        degrees.sequence,
        attention == "sdpa",
        dropout,
        checkpointing,
    )
    act.check(work)
    said.append(
        "activations: 16-bit, as Korthikanti et al. count them, over this model's blocks"
        + ("" if dropout else "; no dropout")
    )
    return work


def _largest(
    model: Model | None, given: Any, recipe: str, offload: str, stages: tuple[int, ...], derive: bool, said: list[str]
) -> Any:
    if given is not None:
        return size(
            given, "--largest-layer", "largest_layer", None if model is None else model, derive, most=MOST_PARAMS
        )
    if model is not None:
        from estimator.parallel.deepspeed import largest_module

        return largest_module(model.architecture.weights())
    if 3 in stages and (offload == "all" or recipe == "deepspeed"):
        said.append("--largest-layer not given: 0; what is gathered for it is left out")
    return 0


def _memory(card: Any, text: str | None, said: list[str]) -> int | None:
    if text is not None:
        from estimator.units import parse_size

        return parse_size(text, "--memory", "bytes")
    if card is None:
        return None
    said.append(card.memory_basis)
    return int(card.memory_bytes)
