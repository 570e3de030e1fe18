"""How a training step that is simulated is spread over GPUs: DDP, ZeroRedundancyOptimizer, FSDP2, HSDP or DeepSpeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator.commands.memory.layers import context_ways, expert_ways, tensor_ways
from estimator.commands.memory.stages import check, ways_of
from estimator.errors import InputError
from estimator.names import choice
from estimator.optimizers import Trained, find_optimizer, state_bytes
from estimator.parallel.offload import OFFLOADS, allowed
from estimator.parallel.staged import FLAG
from estimator.records import dataclass
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.families.base import Architecture
    from estimator.moments import Workload
    from estimator.peft.base import Adapter
    from estimator.recipes.base import Recipe

FP32 = 4
LAYERS, TABLES = "layers", "tables"  # FSDP's units
FREED, KEPT = "freed", "kept"  # its root unit after the forward pass
PACKED = (
    "quantised weights are cut as packed bytes of 16-bit storage (bnb_4bit_quant_storage=bfloat16), scales stay whole: "
    "two steps of an 8B on two GPUs measured, within 0.1%"
)
TORCH, DEEPSPEED = "torch", "deepspeed"
MOST_LAYERS = 1_000  # that are gone through one by one; no model comes near
BUCKETS = ("default", "auto")
STAGE_NAMES = {
    TORCH: ("DDP", "DDP with ZeroRedundancyOptimizer", "FSDP2, weights kept after the forward pass", "FSDP2"),
    DEEPSPEED: tuple(f"DeepSpeed ZeRO stage {n}" for n in range(4)),
}
ALONE = ("tensor_parallel", "context_parallel", "pipeline_parallel", "expert_parallel")
ADAM = ("adamw", "adamw-fused", "adamw-forloop")  # under DeepSpeed all are its own FusedAdam
# of the sharding options, those that a simulated step takes
SIMULATED = ("offload", "buckets", "overlap_comm", "replicas", "fsdp_version", "fsdp_wrap", "fsdp_root")
STAGED = ("pipeline_parallel", "micro_batches", "schedule", "virtual_stages", "pipeline_split")
# under PyTorch's own recipes
MESH = ("tensor_parallel", "sequence_parallel", "context_parallel", "expert_parallel", *STAGED)


@dataclass(frozen=True, slots=True)
class Spread:
    """Fields of a :class:`estimator.moments.Workload`: GPUs that share one copy, ZeRO's stage, who shards, what lies on
    the host; replicas: copies (HSDP); fsdp: its version, wrap: its units; tensor: GPUs that share each layer, sequence:
    and its tokens; overlap: DeepSpeed's overlap_comm."""

    gpus: Any = 1
    stage: int = 0
    sharder: str = TORCH
    buckets: str = "default"
    host: str = "none"
    replicas: int = 1
    fsdp: int = 2
    context: Any = 1
    tensor: Any = 1
    sequence: bool = False
    wrap: str = LAYERS
    root: str = FREED
    overlap: bool = True
    experts: Any = 1


def too_deep(arch: Architecture) -> str:
    """Why what goes through every layer by itself is not done for a model, or ""."""
    layers = int(value_of(arch.num_layers))
    return f"goes through every layer: at most {MOST_LAYERS:,}, not {layers:,}" if layers > MOST_LAYERS else ""


def spread(
    q: Memory, recipe: Recipe, adapter: Adapter | None, quantization: str, optimizer: str, said: list[str]
) -> Spread:
    """How the question's step is spread. InputError for what no library does, or what is not simulated."""
    if not q.training:
        _gpus(q, [])
        return Spread()
    if recipe.kind == DEEPSPEED:
        if why := too_deep(q.model.architecture):
            raise InputError(f"--recipe {recipe.name} {why}")
        return _deepspeed(q, quantization, optimizer, said)
    alone = all(str(getattr(q, name)) == "1" for name in ALONE)
    if recipe.kind == "simulated":
        _others(q)
    if q.gpus is None and q.stage is None and q.offload == "none" and alone:
        return Spread()
    if q.gpus is None and q.offload == "none" and alone and str(q.stage) != "0" and recipe.kind == "simulated":
        raise InputError(f"--stage {q.stage} changes nothing alone: add --gpus, or leave it out")
    n, at = _gpus(q, said)
    if recipe.kind != "simulated":
        return Spread()  # its moments are sums of shares: memory_grid
    ways, deep = tensor_ways(q, recipe, adapter, quantization, said), ways_of(q)
    experts = expert_ways(q, said)
    if ways != 1 or deep != 1 or experts != 1:
        n = _beside(q, n, ways * experts, deep, at)
    if deep != 1:
        check(q, recipe, adapter, quantization, at, n)
    context = context_ways(q, recipe, n, at, said)
    n = context if context != 1 and q.gpus is None else n
    host = choice(q.offload, "--offload", OFFLOADS)
    if host == "optimizer":
        raise InputError(
            "--offload optimizer: FSDP2 offloads weights, gradients and states together; use --offload all, "
            "with --gpus and --stage 2 or 3"
        )
    if host != "none" and (at < 2 or n == 1):
        raise InputError(f"--offload {host}: of PyTorch's own sharding FSDP2 offloads; add --gpus and --stage 2 or 3")
    replicas = _replicas(q, n, at)
    if n != 1 and at >= 2 and adapter is not None:
        said.append("FSDP2 needs one dtype in a group: adapters in the base's (autocast_adapter_dtype=False)")
        if quantization != "none":
            said.append(PACKED)
    wrap = choice(q.fsdp_wrap, "--fsdp-wrap", (LAYERS, TABLES))
    if wrap != LAYERS and at < 2:
        raise InputError(f"--fsdp-wrap {wrap}: FSDP is --stage 2 or 3")
    root = choice(q.fsdp_root, "--fsdp-root", (FREED, KEPT))
    if root != FREED and at < 2:
        raise InputError(f"--fsdp-root {root}: FSDP is --stage 2 or 3")
    return Spread(
        n // replicas, at, TORCH, "default", host, replicas, _version(q, at), context, ways, q.sequence_parallel, wrap,
        root, experts=experts,
    )  # fmt: skip


def _others(q: Memory) -> None:
    """InputError for what DeepSpeed alone has."""
    for flag, value, usual in (("--buckets", q.buckets, "default"), ("--overlap-comm", q.overlap_comm, "on")):
        if value != usual:
            raise InputError(f"{flag} {value} is DeepSpeed's: add --recipe deepspeed, or leave it out")


def _beside(q: Memory, n: Any, ways: Any, deep: Any, stage: int) -> Any:
    """Data-parallel GPUs beside those that share layers and those that share the stack of them."""
    n = ways * deep if q.gpus is None else n
    shared = "--expert-parallel" if str(q.expert_parallel) != "1" else "--tensor-parallel"
    for flag, by in ((shared, ways), (FLAG, deep)):
        if int(value_of(n)) % int(value_of(by)):
            raise InputError(f"{flag} {value_of(by)} does not divide --gpus {value_of(n)}")
        n = n // by
    if int(value_of(n)) != 1 and stage < 2 and ways != 1:
        raise InputError(f"--stage {stage} with {shared}: its copies are FSDP2's; add --stage 2 or 3")
    return n


def _version(q: Memory, stage: int) -> int:
    """FSDP's version. InputError where there is none, or it is not simulated."""
    version = choice(str(q.fsdp_version), "--fsdp-version", ("1", "2"))
    if version == "1" and stage < 2:
        raise InputError("--fsdp-version 1: FSDP is --stage 2 (SHARD_GRAD_OP) or 3 (FULL_SHARD)")
    return int(version)


def data_parallel(q: Memory) -> bool:
    """Whether nothing is asked of the GPUs beyond what a simulated step takes."""
    from estimator.commands.memory.grid import shared

    return all(f.name in SIMULATED for f in shared(q))


def narrow_adapters(on: Spread) -> bool:
    """Whether adapters take the base's width, whatever peft does: FSDP2's groups have one dtype, DeepSpeed casts."""
    return on.sharder == DEEPSPEED or (on.stage >= 2 and on.gpus != 1)


def _gpus(q: Memory, said: list[str]) -> tuple[Any, int]:
    from estimator.parallel.request import size, zero_stage

    n = size(1 if q.gpus is None else q.gpus, "--gpus", "gpus", q.model, q.derives)
    at = zero_stage(0 if q.stage is None else q.stage)
    if not q.training and at:
        raise InputError(f"--stage {at} shards a training step: add --mode training")
    if not q.training and n != 1:
        raise InputError(
            f"--gpus {value_of(n)} shards a training step: add --mode training; "
            f"or serve it from them all: --engine vllm --tensor-parallel {value_of(n)}"
        )
    if q.stage is None and n != 1:
        said.append("--stage not given: 0, every GPU holds everything (DDP)")
    return n, at


def _replicas(q: Memory, n: Any, stage: int) -> int:
    from estimator.parallel.request import size

    copies = int(value_of(size(q.replicas, "--replicas", "gpus", None, False)))
    if copies == 1:
        return 1
    if stage < 2:
        raise InputError("--replicas: HSDP is FSDP2 within a group and copies of it; add --stage 2 or 3")
    if int(value_of(n)) % copies:
        raise InputError(f"--replicas {copies} does not divide --gpus {int(value_of(n))}")
    return copies


def _deepspeed(q: Memory, quantization: str, optimizer: str, said: list[str]) -> Spread:
    n, at = _gpus(q, said)
    if not data_parallel(q):
        return Spread()  # with other kinds of parallelism it is an accounting: memory_grid
    if str(q.replicas) != "1":
        raise InputError("--replicas: recipe deepspeed has no HSDP; use --recipe torch-bf16 or torch-mixed")
    if str(q.fsdp_version) != "2":
        raise InputError("--fsdp-version: recipe deepspeed shards by itself; use --recipe torch-bf16 or torch-mixed")
    if q.fsdp_wrap != LAYERS or q.fsdp_root != FREED:
        raise InputError("--fsdp-wrap and --fsdp-root are not DeepSpeed's; use --recipe torch-bf16 or torch-mixed")
    overlap = choice(q.overlap_comm, "--overlap-comm", ("on", "off")) == "on"
    host = choice(q.offload, "--offload", OFFLOADS)
    if host != "none" and at < allowed(host):
        raise InputError(f"--offload {host} needs --stage {allowed(host)} or more under DeepSpeed")
    if optimizer not in ADAM:
        raise InputError(f"--optimizer {optimizer}: recipe deepspeed is simulated with DeepSpeed's own AdamW")
    if at == 3 and quantization != "none":
        raise InputError("--stage 3: DeepSpeed partitions no packed weights; use --stage 2, or --recipe torch-bf16")
    return Spread(n, at, DEEPSPEED, choice(q.buckets, "--buckets", BUCKETS), host, overlap=overlap)


def standing_states(arch: Architecture, load: Workload, params: list[Trained], stored: Any) -> tuple[Any, Any, Any]:
    """(weights, gradients, optimizer states) in bytes of the GPU that is shown."""
    optimizer = find_optimizer(load.optimizer)
    if load.sharder == DEEPSPEED:
        from estimator.parallel.zero_standing import standing_bytes as parts

        return parts(arch, load, params, stored)
    if load.gpus == 1:
        at_once = load.in_backward or optimizer.in_backward
        gradients = 0 if at_once else sum((p.times * p.n * p.width for p in params), 0)
        return stored, gradients, state_bytes(optimizer, params)
    from estimator.parallel.sharded import standing_bytes

    weights, graded, own = standing_bytes(arch, load, params)
    if load.host != "none":
        return 0, 0, 0
    graded_bytes = sum((t.times * t.n * t.width for t in graded), 0)
    return stored if weights is None else weights, graded_bytes, state_bytes(optimizer, own)


def stage_name(load: Workload) -> str:
    """Who shards at this stage."""
    name = STAGE_NAMES[load.sharder][load.stage]
    return name.replace("FSDP2", "FSDP1") if load.fsdp == 1 else name


def sharding_notes(load: Workload) -> list[str]:
    """What sharding was assumed to do."""
    if load.sharder == DEEPSPEED:
        return _deepspeed_notes(load)
    if load.gpus == 1:
        return []
    if load.stage < 2:
        dealt = "; whole tensors' states go to the emptiest rank, largest first, and the fullest is shown"
        dealt = dealt if load.stage else ""
        return [f"DDP: gradients and a copy of them in buckets of 25 MiB (gradient_as_bucket_view=False){dealt}"]
    if load.fsdp == 1:
        kind = {2: "SHARD_GRAD_OP", 3: "FULL_SHARD"}[load.stage]
        away = ", CPUOffload(offload_params=True)" if load.host != "none" else ""
        return [
            f"FullyShardedDataParallel around every layer and the model, {kind}, use_orig_params=False{away}; rank 0"
        ]
    policy = ", MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=fp32)" if load.amp and load.width == FP32 else ""
    after = "False" if load.stage == 2 else "True"
    out = [
        f"fully_shard on every layer and on the model, reshard_after_forward={after}{policy}; "
        "rank 0 is shown, whose shards are rounded up",
        "the backward pass gathers one layer ahead; a gathered buffer lives until the next layer's copy-out",
    ]
    if load.root == KEPT and load.stage == 3:
        out[0] = out[0].replace("rank 0", "the root kept gathered between the passes; rank 0")
    if load.wrap != LAYERS:
        out[0] = out[0].replace("on every layer", "on every layer, the token table, the output matrix")
    if load.host != "none":
        out.append(
            "CPUOffloadPolicy: shards of weights, gradients and states lie in host memory; what PyTorch rounds each "
            "pinned tensor up by, to a power of two, is not in the host's figures"
        )
    if load.replicas != 1:
        out.append(f"HSDP: {load.replicas} copies, each on {int(value_of(load.gpus))} GPUs; copies sum their gradients")
    return out


def _deepspeed_notes(load: Workload) -> list[str]:
    sizes = {"default": "DeepSpeed's defaults", "auto": 'what transformers makes of "auto"'}[load.buckets]
    out = [
        "DeepSpeed 0.19: 16-bit weights and adapters, fp32 master weights, FusedAdam, "
        f"{'' if load.overlap else 'no '}overlap_comm, contiguous_gradients; sizes of buckets and prefetches: {sizes}",
    ]
    if load.stage in (1, 2) and load.gpus != 1:
        out.append(
            "rank 0 is shown, whose part is reduced last; the last rank has its 16-bit gradients through most of the "
            "backward pass: the fit is the fuller one's"
        )
    if load.stage == 3:
        out.append("the whole model stands on a GPU before it is partitioned, unless it is made under zero.Init")
    return out


__all__ = ["STAGE_NAMES", "Spread", "data_parallel", "sharding_notes", "spread", "stage_name", "standing_states"]
