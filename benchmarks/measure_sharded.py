"""Measure memory and time of sharded training steps: DDP, FSDP, tensor parallelism and DeepSpeed.

    torchrun --nproc-per-node 2 benchmarks/measure_sharded.py OUT.json CASES.json
    python benchmarks/measure_sharded.py OUT.json CASES.json      # the first of two ranks alone, one GPU
    python benchmarks/measure_sharded.py OUT.json CASES.json --jobs 5   # the same, each case in a process of its own

CASES.json: ``{"configs": {model: config.json}, "cases": [...]}`` as in tests/accuracy/sharded_stacks.json.gz. A case
has stack (plain, ddp, fsdp1, fsdp2, tensor, context, deepspeed), model, batch, seq, stage, precision (bf16, fp16,
mixed), and where it applies lora (rank), adapter_fp32, quant, checkpoint, accumulation, offload, auto, overlap, wrap
(tables: apart), sequence, loss_parallel and plan (tensor), reference (model, adapter off), own_class (the class that
the config names, drawn as measure_blind.py does, with adapters on all linear layers). Random weights, five steps:
the last one's bytes, the median of the last three's seconds. Alone, the rank has torch's fake process group: nothing is
exchanged, and every buffer is taken as ever. Give each case a process of its own (DeepSpeed's stage 3
leaks).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure_blind import vocabulary
from measure_divided import context, divide
from measure_stacks import of_one

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 5


def build(config: dict[str, Any], c: dict[str, Any]) -> Any:
    """The model with random weights and the adapter, ready to train."""
    model = drawn(config, c) if c.get("own_class") else causal(config, c)
    if c.get("checkpoint"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if c.get("lora"):
            model.enable_input_require_grads()
    model.config.use_cache = False
    return model.train()


def causal(config: dict[str, Any], c: dict[str, Any]) -> Any:
    """A causal language model, with adapters on TARGETS."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    made = AutoConfig.for_model(config["model_type"], **fields)
    torch.set_default_dtype(torch.float32 if c["precision"] == "mixed" else torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(made, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    if c.get("quant"):
        quantise(model, c["stack"].startswith("fsdp"))
    if c.get("lora"):
        import peft

        lora = peft.LoraConfig(r=c["lora"], target_modules=TARGETS, task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, lora, autocast_adapter_dtype=c.get("adapter_fp32", True))
    return model


def drawn(config: dict[str, Any], c: dict[str, Any]) -> Any:
    """A model of the config's own class, with adapters on all of its linear layers."""
    from blind_models import adapted, base_of

    o: dict[str, Any] = {"dtype": "fp32" if c["precision"] == "mixed" else "bf16"}
    if c.get("lora"):
        cast = {"autocast_adapter_dtype": c.get("adapter_fp32", True)}
        o |= {"method": "lora", "rank": c["lora"], "targets": "all-linear", "args": cast}
    return adapted(base_of(config, o), config, o)


def quantise(model: Any, sharded: bool) -> None:
    """NF4 with double quantisation on every linear layer but the head."""
    import bitsandbytes as bnb
    import torch

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                made = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, child.bias is not None, torch.bfloat16,
                    compress_statistics=True, quant_type="nf4",
                )  # fmt: skip
                made.weight = bnb.nn.Params4bit(
                    child.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4",
                    quant_storage=torch.bfloat16 if sharded else torch.uint8,
                )  # fmt: skip
                setattr(module, name, made.to("cuda"))


def layers_of(model: Any) -> Any:
    """The list of layers of a decoder."""
    import torch

    return max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)


def engine_of(model: Any, c: dict[str, Any]) -> Any:
    """DeepSpeed's engine around the model."""
    import deepspeed

    zero: dict[str, Any] = {
        "stage": c["stage"], "overlap_comm": c.get("overlap", True), "contiguous_gradients": True,
    }  # fmt: skip
    if c.get("auto"):  # as transformers/integrations/deepspeed.py fills "auto" in
        h = model.config.get_text_config().hidden_size
        zero |= {
            "reduce_bucket_size": h * h, "stage3_prefetch_bucket_size": int(0.9 * h * h),
            "stage3_param_persistence_threshold": 10 * h,
        }  # fmt: skip
    for part in {"optimizer": ("optimizer",), "all": ("optimizer", "param")}.get(c.get("offload", ""), ()):
        zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": True}
    settings = {
        "train_micro_batch_size_per_gpu": c["batch"], "gradient_accumulation_steps": c.get("accumulation", 1),
        "zero_optimization": zero, "gradient_clipping": 1.0, "steps_per_print": 10**9,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-5, "torch_adam": bool(c.get("torch_adam"))}},
        c["precision"]: {"enabled": True},
    }  # fmt: skip
    trained = [p for p in model.parameters() if p.requires_grad]
    return deepspeed.initialize(model=model, model_parameters=trained, config=settings)[0]


def spread(model: Any, c: dict[str, Any]) -> Any:
    """The model under DDP or FSDP2, or as it is."""
    import torch
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

    if c["stack"] == "plain":
        return model
    if c["stack"] == "tensor":
        return divide(model, c, layers_of(model))
    if c["stack"] == "fsdp1":
        return flatten(model, c)
    if c["stage"] < 2:
        return torch.nn.parallel.DistributedDataParallel(model, device_ids=[torch.cuda.current_device()])
    how: dict[str, Any] = {"reshard_after_forward": c["stage"] == 3}
    if c["precision"] == "mixed":
        how["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    if c.get("offload"):
        how["offload_policy"] = CPUOffloadPolicy()
    for layer in layers_of(model):
        fully_shard(layer, **how)
    if c.get("wrap") == "tables":
        fully_shard(model.get_input_embeddings(), **how)
        fully_shard(model.get_output_embeddings(), **how)
    fully_shard(model, **how)
    return model


def flatten(model: Any, c: dict[str, Any]) -> Any:
    """FullyShardedDataParallel around every layer, every trained leaf beside frozen ones, and the model."""
    import torch
    from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel, ShardingStrategy
    from torch.distributed.fsdp.wrap import CustomPolicy

    layers = set(layers_of(model))

    def apart(module: Any) -> bool:
        own = getattr(module, "weight", None)
        return module in layers or bool(c.get("lora") and own is not None and own.requires_grad)

    how = ShardingStrategy.FULL_SHARD if c["stage"] == 3 else ShardingStrategy.SHARD_GRAD_OP
    return FullyShardedDataParallel(
        model, auto_wrap_policy=CustomPolicy(apart), sharding_strategy=how, use_orig_params=False,
        cpu_offload=CPUOffload(offload_params=True) if c.get("offload") else None,
        device_id=torch.cuda.current_device(),
    )  # fmt: skip


def clear() -> None:
    """Forget what is no longer needed, and every peak."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def measure(config: dict[str, Any], c: dict[str, Any]) -> dict[str, Any]:
    """One case: bytes by phase and seconds."""
    import torch
    import torch.distributed as dist

    model, deepspeed, times = build(config, c), c["stack"] == "deepspeed", c.get("accumulation", 1)
    clear()
    other = None
    if c.get("reference") == "model":
        other = spread(build(config, c).requires_grad_(False), c).eval()
    net = engine_of(model, c) if deepspeed else spread(model, c)
    clear()
    out: dict[str, Any] = {"load": torch.cuda.memory_allocated()}
    optimizer = None
    if not deepspeed:
        trained = [p for p in net.parameters() if p.requires_grad]
        kinds = {type(p.data): [x for x in trained if type(x.data) is type(p.data)] for p in trained}
        made = [torch.optim.AdamW(group, lr=1e-5, fused=True) for group in kinds.values()]
        optimizer = Together(made)  # one fused step takes no DTensors beside plain ones
    ids = torch.randint(3, vocabulary(config) - 1, (c["batch"], c["seq"]), device="cuda")
    seconds = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        dist.barrier()
        start = time.perf_counter()
        out |= step(net, optimizer, ids, c, times, deepspeed, other)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    out["peak"] = max(out[k] for k in ("fwd_peak", "bwd_peak", "step_peak"))
    return out | {"seconds": sorted(seconds[2:])[1]}


class Together:
    """Several optimizers as one."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)


def scored(net: Any, other: Any, ids: Any, c: dict[str, Any]) -> Any:
    """The policy's loss; a reference scores the batch after it."""
    import torch

    more = {}
    if c.get("sequence"):  # the stream does not show how many tokens there are
        more["position_ids"] = torch.arange(ids.shape[1], device=ids.device)[None]
    loss = net(input_ids=ids, labels=ids, **more).loss
    if c.get("reference"):
        off = net.disable_adapter() if other is None else contextlib.nullcontext()
        with torch.no_grad(), off:
            (net if other is None else other)(input_ids=ids, labels=ids)
    return loss


def step(
    net: Any, optimizer: Any, ids: Any, c: dict[str, Any], times: int, deepspeed: bool, other: Any
) -> dict[str, int]:
    """One optimizer step; the most bytes of each phase over its micro-batches."""
    import torch
    from torch.distributed.tensor.parallel import loss_parallel

    cuda, parallel = torch.cuda, loss_parallel if c.get("loss_parallel") else contextlib.nullcontext
    d = {"start": cuda.memory_allocated(), "fwd_peak": 0, "bwd_peak": 0}
    amp = not deepspeed and c["precision"] == "mixed" and c["stage"] < 2
    for k in range(times):
        cuda.reset_peak_memory_stats()
        if c["stack"] == "context":
            d |= context(net, ids.clone())
            continue
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=amp), parallel():
            loss = scored(net, other, ids, c)
        d["fwd_peak"], d["fwd_end"] = max(d["fwd_peak"], cuda.max_memory_allocated()), cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        waits = k < times - 1 and hasattr(net, "no_sync") and not deepspeed
        with net.no_sync() if waits else contextlib.nullcontext(), parallel():
            net.backward(loss) if deepspeed else (loss / times).backward()
        del loss
        d["bwd_peak"], d["bwd_end"] = max(d["bwd_peak"], cuda.max_memory_allocated()), cuda.memory_allocated()
        if deepspeed and k < times - 1:
            net.step()
    cuda.reset_peak_memory_stats()
    net.step() if deepspeed else optimizer.step()
    d["step_peak"], d["step_end"] = cuda.max_memory_allocated(), cuda.memory_allocated()
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    return d


def one_by_one(data: dict[str, Any], jobs: int) -> list[dict[str, Any]]:
    """Every case, measured alone in a process of its own, ``jobs`` at a time on one card; or why one failed."""

    def one(given: dict[str, Any]) -> dict[str, Any]:
        case = given.get("case", given)
        try:
            found = of_one([], data["configs"][case["model"]], case)
        except RuntimeError as error:
            print(case, error, flush=True)
            return {**given, "error": str(error)[:400]}
        print(case, found["peak"], flush=True)
        return {**given, **found}

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, data["cases"]))


def main() -> None:
    """Measure every case of the file and write the records of rank 0, or of the first rank alone."""
    if "--jobs" in sys.argv:
        data = json.loads(Path(sys.argv[2]).read_text())
        found = one_by_one(data, int(sys.argv[sys.argv.index("--jobs") + 1]))
        Path(sys.argv[1]).write_text(json.dumps({"configs": data["configs"], "cases": found}))
        return
    import torch
    import torch.distributed as dist

    rank, together = int(os.environ.get("LOCAL_RANK", "0")), "WORLD_SIZE" in os.environ
    torch.cuda.set_device(rank)
    if together:
        dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    else:
        from torch.testing._internal.distributed.fake_pg import FakeStore

        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}  # DeepSpeed looks there
    data = json.loads(Path(sys.argv[2]).read_text())
    found = []
    for c in data["cases"]:
        case = c.get("case", c)
        record = measure(data["configs"][case["model"]], case)
        records: list[Any] = [record]
        if together:
            records = [None] * dist.get_world_size()
            dist.all_gather_object(records, record)
        peaks = [x["peak"] for x in records]
        found.append({"case": case, **record, "peak_by_rank": peaks, "by_rank": records})
    if rank == 0:
        Path(sys.argv[1]).write_text(json.dumps({"configs": data["configs"], "cases": found}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
