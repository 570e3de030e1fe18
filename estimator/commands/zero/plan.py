"""Options of ``zero`` turned into a job."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from estimator.card import Range, card_of
from estimator.commands.zero.question import Zero
from estimator.errors import InputError
from estimator.fit import need
from estimator.models import Model
from estimator.names import choice
from estimator.parallel import activations as act
from estimator.parallel import offload as off
from estimator.parallel.degrees import Degrees
from estimator.parallel.job import Job
from estimator.parallel.links import Links, links, node_size
from estimator.parallel.pipeline import Stage, schedule, split, uneven
from estimator.parallel.recipe import rates
from estimator.parallel.request import size
from estimator.parallel.sharding import STAGES
from estimator.parallel.tensor import Cut
from estimator.parallel.traffic import check_zero_pp
from estimator.peft.base import Adapter
from estimator.questions.read import FULL, adapter_of
from estimator.records import dataclass
from estimator.sizes import as_number, is_letter
from estimator.trace import value_of

DEGREES = (
    ("tensor", "tensor_parallel"),
    ("pipeline", "pipeline_parallel"),
    ("context", "context_parallel"),
    ("expert", "expert_parallel"),
)


@dataclass(slots=True)
class ShardedPlan:
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

    def need(self, held: Any) -> Range:
        """What a GPU needs whose model states and activations are ``held`` bytes: a sum of shares has no peak."""
        if self.gpu is None:  # --memory: the bytes are compared as they are
            return Range(held, held, held)
        return need(held, card_of(self.gpu), "training")


def parse_stages(stage: Any) -> tuple[int, ...]:
    """``all`` or one stage."""
    text = str(stage).strip().lower()
    if text == "all":
        return STAGES
    if text not in ("0", "1", "2", "3"):
        raise InputError(f"--stage must be 0, 1, 2, 3 or all, got {str(stage)[:20]!r}")
    return (int(text),)


# options of one stack's buffers, and their defaults
MEMORY_ONLY = {
    "buckets": "default", "replicas": "1", "fsdp_version": "2", "fsdp_wrap": "layers", "fsdp_root": "freed",
    "overlap_comm": "on",
}  # fmt: skip


def plan(q: Zero) -> ShardedPlan:
    """The job that these options describe. Raises InputError for degrees that do not divide, and contradictions."""
    if (q.model is None) == (q.params is None):
        raise InputError("give either --model or --params, not both")
    for name, usual in MEMORY_ONLY.items():
        if str(getattr(q, name)) != usual:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: zero counts model states; llmcalc memory --mode training has every buffer")
    stages = parse_stages(q.stage)
    said: list[str] = []
    card, degrees = _degrees(q)
    m = size(q.micro_batches, "--micro-batches", "micro_batches", q.model, q.derive)
    off.check(q.offload, q.offload_to, stages, len(stages) > 1)
    plainly = schedule(q.schedule, degrees.pipeline, m, q.virtual_stages)
    job = Job(
        q.model.architecture if q.model else None,
        None if q.model else size(q.params, "--params", "params", None, q.derive),
        degrees, rates(q.recipe, q.optimizer), plainly,
        _pipeline(q.model, degrees, q.virtual_stages, q.pipeline_split), m, _work(q, degrees.cut, degrees, said),
        q.offload, q.offload_to, check_zero_pp(q.zero_pp, stages, degrees.shards, degrees.node),
        _largest(q, stages, said), _adapter(q, degrees, said),
    )  # fmt: skip
    if q.model is None and not degrees.plain:
        said.append(
            "only a number of parameters is known: tensor and pipeline parallelism are taken to split it evenly"
        )
    if q.model is not None:
        said += uneven(q.model.architecture, degrees.pipeline, q.virtual_stages, q.pipeline_split)
    disks = q.offload != "none" and q.offload_to == "nvme"
    rate = links(card, q.link_gbps, q.network_gbps, q.pcie_gbps, q.nvme_gbps, disks)
    letters = (q.params, q.gpus, q.micro_batches, q.batch_size, q.seq_len, q.largest_layer,
               *(getattr(q, field) for _, field in DEGREES))  # fmt: skip
    symbolic = (q.model is not None and q.model.kind == "symbolic") or any(map(is_letter, letters))
    return ShardedPlan(
        job, stages, q.model.name if q.model else "", symbolic, rate, card, _memory(card, q, said),
        _inputs(q, job), said + list(rate.said), tuple(q.model.notes) if q.model else (),
    )  # fmt: skip


def _degrees(q: Zero) -> tuple[Any, Degrees]:
    """The accelerator, where one is named, and how the GPUs share the work."""
    n = size(q.gpus, "--gpus", "gpus", q.model, q.derive)
    found = {k: size(getattr(q, f), f"--{f.replace('_', '-')}", f, q.model, q.derive) for k, f in DEGREES}
    card = None
    if q.gpu is not None:
        from estimator.presets import load_gpu

        card = load_gpu(q.gpu)
    degrees = Degrees(
        n, found["tensor"], found["pipeline"], found["context"], found["expert"], q.sequence_parallel,
        node_size(q.gpus_per_node, card), q.expert_tensor_parallel,
    )  # fmt: skip
    if q.model is not None and q.model.architecture.counted_only and not degrees.plain:
        raise InputError(
            f"{q.model.name}: only its weights are known, not how they are divided; leave --tensor-parallel, "
            "--pipeline-parallel, --context-parallel and --expert-parallel out"
        )
    return card, degrees


def _inputs(q: Zero, job: Job) -> dict[str, Any]:
    d = job.degrees
    return {
        "model": q.model.name if q.model else None, "params": job.params, "gpus": d.gpus,
        "stage": as_number("stage", str(q.stage)),
        "recipe": job.rates.recipe.name, "optimizer": q.optimizer, "offload": q.offload, "tensor_parallel": d.tensor,
        "pipeline_parallel": d.pipeline, "sequence_parallel": q.sequence_parallel, "context_parallel": d.context,
        "expert_parallel": d.expert, "micro_batches": job.micro_batches, "schedule": q.schedule, "gpu": q.gpu,
    }  # fmt: skip


def _adapter(q: Zero, degrees: Degrees, said: list[str]) -> Adapter | None:
    """The adapter that is trained in the model's place. InputError where its sharding is not known."""
    if q.model is None:
        if q.method not in FULL:
            raise InputError(f"--method {q.method} goes into a model's matrices: add --model")
        return None
    adapter = adapter_of(q)
    if adapter is None:
        return None
    if not degrees.plain:
        raise InputError(
            f"--method {q.method}: adapters are sharded over data-parallel GPUs alone; leave --tensor-parallel, "
            "--pipeline-parallel, --context-parallel and --expert-parallel out"
        )
    if q.recipe == "deepspeed":
        raise InputError(
            "--recipe deepspeed: its estimators count every parameter as trained; simulated, with an adapter: "
            "llmcalc memory --mode training --recipe deepspeed"
        )
    if q.seq_len is not None:
        raise InputError(f"--seq-len: what a step with --method {q.method} keeps is in: llmcalc memory --mode training")
    said.append("weights that do not train have no gradient and no optimizer state; all are as wide as the recipe's")
    return adapter


def _pipeline(model: Model | None, degrees: Degrees, chunks: int, how: str) -> tuple[Stage, ...]:
    if model is None:
        p = int(value_of(degrees.pipeline))
        return tuple(Stage(i, (), i == 0, i == p - 1) for i in range(min(p, 1)))
    return tuple(split(model.architecture, degrees.pipeline, chunks, how))


def _work(q: Zero, cut: Cut, degrees: Degrees, said: list[str]) -> act.MicroBatch | None:
    choice(q.checkpointing, "--checkpointing", act.RECOMPUTATION)
    choice(q.attention, "--attention", ("sdpa", "eager"))
    b = size(q.batch_size, "--batch-size", "batch_size", q.model, q.derive, "length")
    if q.seq_len is None:
        if not degrees.plain and value_of(degrees.context) != 1:
            raise InputError("--context-parallel divides a sequence: add --seq-len")
        said.append("--seq-len not given: no activations, and of the communication only data parallelism's")
        return None
    if q.model is None:
        raise InputError("--seq-len needs --model: activations depend on its layers")
    work = act.MicroBatch(
        b,
        size(q.seq_len, "--seq-len", "seq_len", q.model, q.derive, "length"),
        cut,
        degrees.context,
        degrees.sequence,
        q.attention == "sdpa",
        q.dropout,
        q.checkpointing,
    )
    act.check(work)
    said.append(
        "activations: 16-bit, as Korthikanti et al. count them, over this model's blocks"
        + ("" if q.dropout else "; no dropout")
    )
    return work


def _largest(q: Zero, stages: tuple[int, ...], said: list[str]) -> Any:
    if q.largest_layer is not None:
        return size(q.largest_layer, "--largest-layer", "largest_layer", q.model, q.derive)
    if q.model is not None:
        from estimator.parallel.deepspeed import largest_module

        return largest_module(q.model.architecture.weights())
    if 3 in stages and (q.offload == "all" or q.recipe == "deepspeed"):
        said.append("--largest-layer not given: 0; what is gathered for it is left out")
    return 0


def _memory(card: Any, q: Zero, said: list[str]) -> int | None:
    for flag, text in (("--memory", q.memory), ("--gpu-memory", q.gpu_memory)):
        if text is not None:
            from estimator.units import parse_size

            return parse_size(text, flag, "bytes")
    if card is None:
        return None
    said.append(card.memory_basis)
    return int(card.memory_bytes)
