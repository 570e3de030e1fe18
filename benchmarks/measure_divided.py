"""Layers and sequences that GPUs share, for ``measure_sharded.py``: tensor parallelism by hand or as transformers plans
it, and context parallelism."""

from __future__ import annotations

from typing import Any


def divide(model: Any, c: dict[str, Any], layers: Any, mesh: Any = None) -> Any:
    """parallelize_module: transformers' tp_plan, or with ``sequence`` torchtitan's; ``mesh``: of some of the ranks."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        PrepareModuleInput,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(kind, (dist.get_world_size(),)) if mesh is None else mesh
    own = model.get_output_embeddings()  # a pipeline's last stage has a tied matrix of its own, the others have none
    tables = [x for x in model.modules() if isinstance(x, torch.nn.Embedding)]
    tied = not isinstance(own, torch.nn.Linear) or any(x.weight is own.weight for x in tables)
    if c.get("plan"):
        return planned(model, mesh, c["plan"])
    out = Shard(1) if c.get("sequence") else Replicate()
    columns = [f"self_attn.{x}_proj" for x in "qkv"] + [f"mlp.{x}_proj" for x in ("gate", "up")]
    plan: dict[str, Any] = {}
    if c.get("lora"):  # as peft tuners/lora/model.py has it: B of a matrix cut by outputs, A of one cut by inputs
        plan |= {f"{x}.base_layer": ColwiseParallel() for x in columns}
        plan |= {f"{x}.lora_B.default": ColwiseParallel() for x in columns}
        plan |= {f"{x}.{y}": RowwiseParallel() for x in ("self_attn.o_proj", "mlp.down_proj")
                 for y in ("base_layer", "lora_A.default")}  # fmt: skip
    else:
        plan |= {x: ColwiseParallel() for x in columns}
        plan |= {"self_attn.o_proj": RowwiseParallel(output_layouts=out),
                 "mlp.down_proj": RowwiseParallel(output_layouts=out)}  # fmt: skip
    if c.get("sequence"):
        plan |= {
            "input_layernorm": SequenceParallel(), "post_attention_layernorm": SequenceParallel(),
            "self_attn": PrepareModuleInput(input_kwarg_layouts={"hidden_states": Shard(1)},
                                            desired_input_kwarg_layouts={"hidden_states": Replicate()}),
            "mlp": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
        }  # fmt: skip
    for layer in layers:
        parallelize_module(layer, mesh, plan)
    parallel = bool(c.get("loss_parallel"))
    head = ColwiseParallel(input_layouts=out, output_layouts=Shard(-1) if parallel else Replicate(),
                           use_local_output=not parallel)  # fmt: skip
    if c.get("sequence"):
        ends = {"model.embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
                "model.norm": SequenceParallel(use_local_output=True), "lm_head": head}  # fmt: skip
        parallelize_module(model, mesh, ends)
        if tied:
            model.lm_head.weight = model.model.embed_tokens.weight
    elif not tied:
        name = next(k for k, x in model.named_modules() if x is own)
        parallelize_module(model, mesh, {name: head})
    return model


def planned(model: Any, mesh: Any, plan: str) -> Any:
    """transformers' own tp_plan of the model, or its ep_plan."""
    from transformers.distributed.configuration_utils import DistributedConfig
    from transformers.distributed.tensor_parallel import apply_tensor_parallelism

    model.config.distributed_config = DistributedConfig(tp_size=mesh.size(), enable_expert_parallel=plan == "experts")
    return apply_tensor_parallelism(model, mesh)


def context(net: Any, ids: Any) -> dict[str, int]:
    """A pass over the tokens of this GPU (context_parallel); positions count from its first, which costs the same."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.experimental import context_parallel

    cuda, mesh = torch.cuda, init_device_mesh("cuda", (dist.get_world_size(),))
    with context_parallel(mesh, buffers=[ids], buffer_seq_dims=[1], no_restore_buffers={ids}):
        loss = net(input_ids=ids, labels=ids).loss
        d = {"fwd_peak": cuda.max_memory_allocated(), "fwd_end": cuda.memory_allocated()}
        cuda.reset_peak_memory_stats()
        loss.backward()
    return d | {"bwd_peak": cuda.max_memory_allocated(), "bwd_end": cuda.memory_allocated()}
