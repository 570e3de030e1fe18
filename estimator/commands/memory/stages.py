"""``memory`` of a training step over pipeline stages (torch.distributed.pipelining): which GPU is the fullest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from estimator.commands.memory.layers import beyond_lora
from estimator.errors import InputError
from estimator.parallel.staged import FLAG, adapter_of_part, held, pipes
from estimator.records import dataclass
from estimator.report import Cell, Node, Table
from estimator.trace import value_of
from estimator.units import BYTES

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.families.base import Architecture
    from estimator.moments import Workload
    from estimator.peft.base import Adapter
    from estimator.recipes.base import Recipe

UNPACKED = "no library trains packed weights over stages; use none, or FSDP2 alone: --gpus 2 --stage 3"
MOST_GROUPS = 3  # of layers that a GPU keeps gathered at once: _add_unshard_reshard's max_active_stages
NOTE = (
    "a stage keeps buffers for what it receives of every micro-batch, and its outputs until they are differentiated; "
    "the loss is transformers', in step(return_outputs=False), which else keeps the logits of all micro-batches too"
)
SPLIT = "the output matrix is the token table: first and last stage each have their own, as pipelines have it"
GATHERED = {
    2: "fully_shard on every layer and stage, reshard_after_forward=False (torchtitan's default beside pipelines): a "
    "stage's weights and its gradients stay whole from the first micro-batch to the last",
    3: "fully_shard on every layer and stage, reshard_after_forward=True (torchtitan's fsdp_reshard_after_forward: "
    "always): a backward pass leaves a stage's weights gathered, the next forward pass gives them back; its gradients "
    "stay whole to the last micro-batch",
}


@dataclass(frozen=True, slots=True)
class Staged:
    """The fullest GPU of a pipeline: its run, all that it holds; every GPU's peak in bytes."""

    load: Workload
    share: Architecture
    peaks: tuple[Any, ...]

    def table(self) -> Table:
        """A row a GPU."""
        shown = self.load.pipe.rank
        names = [f"stage {i}" + (", shown" if i == shown else "") for i in range(len(self.peaks))]
        rows = tuple((name, Cell(x, BYTES)) for name, x in zip(names, self.peaks, strict=True))
        return Table("Each GPU of the pipeline", ("GPU", "peak"), rows)

    def nodes(self) -> tuple[Node, ...]:
        """The same by name, for programs."""
        return tuple(Node(f"peak.stage{i}_bytes", f"Stage {i}", x, BYTES) for i, x in enumerate(self.peaks))


def ways_of(q: Memory) -> Any:
    """GPUs that share the layers by stages."""
    from estimator.parallel.request import size

    return size(q.pipeline_parallel, FLAG, "pipeline_parallel", q.model, q.derives)


def check(q: Memory, recipe: Recipe, adapter: Adapter | None, quantization: str, stage: int, data: Any) -> None:
    """InputError for what is not simulated beside a pipeline."""
    several = int(value_of(data)) != 1
    for wanted, what in (
        (quantization != "none", f"--quantization {quantization}: {UNPACKED}"),
        (odd := beyond_lora(adapter), f"{odd}: use full or lora"),
        (adapter is not None and any(t.layers is not None for t in adapter.targets), "an adapter of some layers alone"),
        (q.loss != "full", f"--loss {q.loss}: the schedule gives the loss whole logits"),
        (recipe.loss != "full" or recipe.sequences != 1, f"--recipe {recipe.name}: use torch-mixed or torch-bf16"),
        (str(q.accumulation) != "1", "--accumulation: use --micro-batches"),
        (str(q.context_parallel) != "1", "--context-parallel: use one of them"),
        (several and stage >= 2 and int(q.virtual_stages) > MOST_GROUPS, f"more than {MOST_GROUPS} --virtual-stages"),
        (str(q.fsdp_version) != "2" or q.fsdp_wrap != "layers" or q.fsdp_root != "freed", "other --fsdp options"),
        (q.offload != "none" or str(q.replicas) != "1", "--offload or --replicas"),
        (q.activation_offload or q.compile or q.packing or q.optimizer_in_backward, "offloaded activations, --compile, "
         "--packing or --optimizer-in-backward"),
        (q.allocator != "spread", "--allocator simulated"),
    ):  # fmt: skip
        if wanted:
            raise InputError(f"{FLAG} {value_of(ways_of(q))} is not simulated with {what}")


def staged(q: Memory, arch: Architecture, load: Workload, said: list[str]) -> Staged:
    """The pipeline's fullest GPU. ``arch``: the model as tensor parallelism leaves it, with its own output matrix."""
    from estimator.moments import training
    from estimator.parallel.request import size

    micro = size(q.micro_batches, "--micro-batches", "micro_batches", q.model, q.derives)
    runs, peaks = [], []
    for pipe in pipes(arch, ways_of(q), micro, q.schedule, int(q.virtual_stages), q.pipeline_split):
        share = held(pipe)
        own = None if load.adapter is None else adapter_of_part(load.adapter, share)
        run = replace(load, pipe=pipe, adapter=own)
        runs.append((run, share))
        peaks.append(training(share, run).worst.peak)
    top = max(range(len(peaks)), key=lambda i: value_of(peaks[i]))
    said.append(NOTE)
    if q.model.architecture.tied:
        said.append(SPLIT)
    if load.gpus != 1 and load.stage >= 2:
        said.append(GATHERED[load.stage])
    return Staged(*runs[top], tuple(peaks))


__all__ = ["Staged", "check", "staged", "ways_of"]
