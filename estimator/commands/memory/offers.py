"""The changes of a question that apply to it, cheapest first; whether they help is found by running them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.card import NO_BITSANDBYTES
from estimator.changes import Change
from estimator.commands.memory.question import Memory
from estimator.parallel.links import node_size
from estimator.questions.read import recipe_of, storage_of
from estimator.trace import value_of


def options(q: Memory, vendor: str = "NVIDIA") -> Iterator[Change]:
    """The changes that apply to a question, cheapest first: free ones, time, precision, work done otherwise.

    vendor: of the card, whose libraries decide what there is to ask for.
    """
    if q.attention == "eager":
        yield Change("--attention sdpa", {"attention": "sdpa"}, "none: faster")
    if q.training:
        yield from _training(q)
    else:
        yield from _inference(q, vendor)
        if _many(q.batch_size):
            yield Change("--batch-size 1", {"batch_size": 1}, "one sequence at a time")


def _many(size: Any) -> bool:
    return str(value_of(size)).strip() not in ("1", "")


def _training(q: Memory) -> Iterator[Change]:
    recipe = recipe_of(q, [])
    full = q.method in (None, "full")
    simulated = recipe.kind == "simulated"
    if simulated and q.kernels == "torch" and q.loss == "full":
        yield Change("--loss fused", {"loss": "fused"}, "none: a kernel that never writes the logits")
    if simulated and full and q.optimizer == "adamw":
        yield Change("--optimizer adamw-fused", {"optimizer": "adamw-fused"}, "none: one kernel, no temporaries")
    if q.checkpointing != "full":
        yield Change("--checkpointing full", {"checkpointing": "full"}, "a third more compute")
    if _many(q.batch_size):
        yield Change("--batch-size 1", {"batch_size": 1}, "gradient accumulation for the same batch")
    if full and q.optimizer in (None, "adamw", "adamw-fused"):
        yield Change("--optimizer adamw8bit", {"optimizer": "adamw8bit"}, "8-bit states")
    if simulated and recipe.weights == 4 and full:
        yield Change("--recipe torch-bf16", {"recipe": "torch-bf16"}, "bf16 weights: small updates round away")
    if full and simulated:
        lora = {"method": "lora", "targets": "all-linear", "recipe": None}
        same = "" if q.recipe is None else " (no --recipe)"
        yield Change(f"--method lora --targets all-linear{same}", lora, "trains an adapter")
        yield Change(
            f"--method qlora --targets all-linear{same}", lora | {"method": "qlora"},
            "trains an adapter on a 4-bit base",
        )  # fmt: skip
    elif q.method == "lora" and plain(q):
        yield Change("--method qlora", {"method": "qlora"}, "a 4-bit base")
    gpus = int(value_of(q.gpus)) if str(q.gpus or "").isdigit() else 0
    if gpus > 1:
        stage = 0 if q.stage is None else int(q.stage)
        for n in range(stage + 1, 4):
            yield Change(f"--stage {n}", {"stage": n}, "more traffic between GPUs")
        if not simulated:
            yield from _divided(q, gpus)
        if simulated and stage >= 2 and str(q.fsdp_version) == "2":
            yield Change("--fsdp-version 1", {"fsdp_version": "1"}, "the older FSDP, which copies nothing out")
        if q.offload == "none" and stage:
            yield from _offloads(simulated)


def _divided(q: Memory, gpus: int) -> Iterator[Change]:
    """Twice as many GPUs for each layer, inside a node, or for the stack of layers."""
    tensor, pipeline = (int(str(x)) if str(x).isdigit() else gpus for x in (q.tensor_parallel, q.pipeline_parallel))
    room = gpus // (tensor * pipeline) >= 2
    if tensor > 1 and not q.sequence_parallel:
        yield Change("--sequence-parallel", {"sequence_parallel": True}, "none: norms are divided too")
    if room and 2 * tensor <= node_size(q.gpus_per_node, None):
        more = str(2 * tensor)
        yield Change(f"--tensor-parallel {more}", {"tensor_parallel": more}, "more traffic inside a node")
    if room:
        more = str(2 * pipeline)
        yield Change(f"--pipeline-parallel {more}", {"pipeline_parallel": more}, "stages that wait for each other")


def _offloads(simulated: bool) -> Iterator[Change]:
    if not simulated:
        yield Change("--offload optimizer", {"offload": "optimizer"}, "the host steps")
    yield Change("--offload all", {"offload": "all"}, "the host steps, weights come over PCIe")


def plain(q: Memory) -> bool:
    """Whether the weights are numbers of 16 or 32 bits: not asked for in fewer, not stored in fewer, no file's own."""
    own = storage_of(q)
    declared = own is None and q.model.declared.scheme is not None
    return own in (None, "none") and not declared and q.model.stored_bytes is None


def _inference(q: Memory, vendor: str) -> Iterator[Change]:
    if q.logits == "all":
        yield Change("--logits last", {"logits": "last"}, "the last position's logits only")
    if plain(q) and vendor not in NO_BITSANDBYTES:
        yield Change("--quantization int8", {"quantization": "int8"}, "8-bit weights")
        yield Change("--quantization nf4-dq", {"quantization": "nf4-dq"}, "4-bit weights")
