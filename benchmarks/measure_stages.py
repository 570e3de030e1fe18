"""Measure memory of pipeline-parallel training steps (torch.distributed.pipelining) rank by rank.

    torchrun --nproc-per-node 2 benchmarks/measure_stages.py OUT.json CASES.json
    python benchmarks/measure_stages.py OUT.json CASES.json      # ranks of any number, one after another

CASES.json: ``{"configs": {model: config.json}, "cases": [...]}``. A case has model, batch (sequences of a micro-batch),
seq, precision (bf16, mixed), stages, micro, schedule (gpipe, 1f1b, interleaved), and where it applies chunks (stages a
GPU holds), stage and data (FSDP2's, over so many GPUs; 0: DDP, 1: with ZeroRedundancyOptimizer), tensor (GPUs that
share each layer), checkpoint, lora (rank), outputs (step() returns them), ranks (those that are measured alone). Under
torchrun the stages exchange what they compute through NCCL. Alone, a rank has torch's fake process group: nothing is
exchanged, and every buffer is taken as ever; with ``tensor`` give each rank a process of its own. Random weights, five
steps; the last one's bytes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from measure_divided import divide
from measure_sharded import Together, build, clear, layers_of
from torch import nn

STEPS = 5
NAMES = ("pp", "dp", "tp")
CUDA = torch.cuda.is_available()


def allocated() -> int:
    """Bytes that the allocator has handed out."""
    return torch.cuda.memory_allocated() if CUDA else 0


def peak() -> int:
    """The most of them since the last reset."""
    return torch.cuda.max_memory_allocated() if CUDA else 0


def parts_of(layers: int, stages: int) -> list[range]:
    """Layers of each stage; where they do not divide, the embedding and the head count as a layer each (torchtitan's
    generate_llm_fqn_per_model_part)."""
    less = int(layers % stages != 0)
    size, left = divmod(layers + 2 * less, stages)
    out, at = [], 0
    for i in range(stages):
        n = size + (i < left) - less * ((i == 0) + (i == stages - 1))
        out.append(range(at, at + n))
        at += n
    return out


class Stage(nn.Module):
    """Some of a model's layers, behind the embeddings where they are the first, before norm and head where the last."""

    def __init__(self, model: nn.Module, own: range, first: bool, last: bool) -> None:
        super().__init__()
        self.model, self.first, self.last = model, first, last
        whole = layers_of(model)
        kept = nn.ModuleList([whole[i] for i in own])
        for module in model.modules():
            for name, child in list(module.named_children()):
                if child is whole:
                    setattr(module, name, kept)
                    self.base = module
        model.config.num_hidden_layers = len(own)
        for name, child in list(self.base.named_children()):
            if isinstance(child, nn.Embedding) and not first:
                setattr(self.base, name, None)
            elif not last and ("norm" in name or name == "ln_f"):
                setattr(self.base, name, nn.Identity())
        if last and model.config.tie_word_embeddings:
            own_weight = model.lm_head.weight.detach().clone()
            model.lm_head.weight = nn.Parameter(own_weight, requires_grad=model.lm_head.weight.requires_grad)
        self.head = model.get_output_embeddings() if last else None
        if not last:
            model.set_output_embeddings(nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            x = self.base(input_ids=x, use_cache=False).last_hidden_state
        else:
            x = self.base(inputs_embeds=x, use_cache=False).last_hidden_state
        return self.head(x) if self.head is not None else x


def unreduced(bucket: Any) -> Any:
    """A bucket of DDP as the all-reduce leaves it, in place."""
    done: Any = torch.futures.Future(devices=[torch.device("cuda", torch.cuda.current_device())] if CUDA else None)
    done.set_result(bucket.buffer())
    return done


def shard(stage: Stage, c: dict[str, Any], mesh: Any) -> nn.Module:
    """The stage under FSDP2 or DDP, or as it is."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if c.get("data", 1) == 1:
        return stage
    if c["stage"] < 2:
        devices = [torch.cuda.current_device()] if CUDA else None
        net = nn.parallel.DistributedDataParallel(stage, device_ids=devices, process_group=mesh["dp"].get_group())
        if dist.get_backend() == "fake":  # whose all-reduce gives no tensor back
            net.register_comm_hook(None, lambda state, bucket: unreduced(bucket))
        return net
    how: dict[str, Any] = {"mesh": mesh["dp"], "reshard_after_forward": c["stage"] == 3}
    if c["precision"] == "mixed":
        how["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in layers_of(stage):
        fully_shard(layer, **how)
    fully_shard(stage, **how)
    return stage


def stages_of(config: dict[str, Any], c: dict[str, Any], rank: int, mesh: Any, alone: bool) -> list[Any]:
    """This rank's stages: the n-th group of layers, and every ``stages``-th after it."""
    from torch.distributed.pipelining import PipelineStage

    count, chunks = c["stages"], c.get("chunks", 1)
    device = torch.device("cuda", torch.cuda.current_device()) if CUDA else torch.device("cpu")
    made = []
    for index in range(rank, count * chunks, count):
        model = build(config, c)
        own = parts_of(model.config.num_hidden_layers, count * chunks)[index]
        first, last = index == 0, index == count * chunks - 1
        module = Stage(model, own, first, last)
        if c.get("tensor", 1) != 1:
            divide(model, c, layers_of(model), mesh["tp"])
        module = shard(module, c, mesh)
        given: dict[str, Any] = {}
        if alone:
            width = torch.float32 if c["precision"] == "mixed" and c.get("stage", 0) < 2 else torch.bfloat16
            stream = torch.empty(c["batch"], c["seq"], model.config.hidden_size, dtype=width, device="meta")
            ids = torch.empty(c["batch"], c["seq"], dtype=torch.long, device="meta")
            words = torch.empty(c["batch"], c["seq"], model.config.vocab_size, dtype=torch.bfloat16, device="meta")
            given = {"input_args": (ids if first else stream,), "output_args": (words if last else stream,)}
        group = None if mesh is None else mesh["pp"].get_group()
        made.append(PipelineStage(module, index, count * chunks, device, group=group, **given))
        del model, module
        gc.collect()
    return made


def schedule_of(stages: list[Any], c: dict[str, Any], vocab: int) -> Any:
    """The schedule with transformers' loss."""
    from torch.distributed import pipelining
    from transformers.loss.loss_utils import ForCausalLMLoss

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return ForCausalLMLoss(logits, labels, vocab)

    name = {"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B", "interleaved": "ScheduleInterleaved1F1B"}[c["schedule"]]
    kind = getattr(pipelining, name)
    return kind(stages if c["schedule"] == "interleaved" else stages[0], c["micro"], loss_fn=loss)


def watch(stages: list[Any], schedule: Any, found: list[Any]) -> None:
    """Note the bytes around every pass of every stage: (kind, stage, micro-batch, before, peak, after)."""

    def around(stage: Any, name: str, kind: str) -> None:
        plain = getattr(stage, name)

        def watched(i: int, *args: Any, **kwargs: Any) -> Any:
            before = allocated()
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
            out = plain(i, *args, **kwargs)
            found.append([kind, stage.stage_index, i, before, peak(), allocated()])
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
            return out

        setattr(stage, name, watched)

    for stage in stages:
        around(stage, "forward_one_chunk", "F")
        around(stage, "backward_one_chunk", "B")
    scored = schedule._maybe_compute_loss

    def loss(stage: Any, output: Any, target: Any, i: int) -> None:
        before = allocated()
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        scored(stage, output, target, i)
        if stage.is_last:
            found.append(["L", stage.stage_index, i, before, peak(), allocated()])

    schedule._maybe_compute_loss = loss


def measure(config: dict[str, Any], c: dict[str, Any], rank: int, alone: bool) -> dict[str, Any]:
    """One rank of one case."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh, data, tensor = None, c.get("data", 1), c.get("tensor", 1)
    if data * tensor != 1:
        mesh = init_device_mesh("cuda" if CUDA else "cpu", (c["stages"], data, tensor), mesh_dim_names=NAMES)
    stages = stages_of(config, c, rank // (data * tensor), mesh, alone)
    seen: list[Any] = []
    schedule = schedule_of(stages, c, config.get("vocab_size", 50257))
    watch(stages, schedule, seen)
    clear_all()
    out: dict[str, Any] = {"load": allocated()}
    trained = [p for s in stages for p in s.submod.parameters() if p.requires_grad]
    optimizer = optimizer_of(trained, c, mesh)
    device = "cuda" if CUDA else "cpu"
    ids = torch.randint(0, config.get("vocab_size", 50257), (c["micro"] * c["batch"], c["seq"]), device=device)
    first, last = any(s.is_first for s in stages), any(s.is_last for s in stages)
    amp = c["precision"] == "mixed" and (c.get("stage", 0) < 2 or c.get("data", 1) == 1)
    for _ in range(STEPS):
        seen.clear()
        losses: list[Any] = []
        if CUDA:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        out["start"] = allocated()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
            schedule.step(*([ids] if first else []), target=ids if last else None, losses=losses,
                          return_outputs=bool(c.get("outputs")))  # fmt: skip
        out["end_peak"] = peak()
        losses.clear()
        out["before_step"] = allocated()
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        optimizer.step()
        out["step_peak"], out["step_end"] = peak(), allocated()
        optimizer.zero_grad(set_to_none=True)
    for key, kinds in (("fwd_peak", "FL"), ("bwd_peak", "B")):
        out[key] = max(x[4] for x in seen if x[0] in kinds)
    out["peak"] = max(out[k] for k in ("fwd_peak", "bwd_peak", "step_peak", "end_peak"))
    return out | {"trace": list(seen)}


def optimizer_of(trained: list[Any], c: dict[str, Any], mesh: Any) -> Any:
    """Fused AdamW, its states dealt to the ranks at stage 1; one step takes no DTensors beside plain ones."""
    how = {"lr": 1e-5, "fused": True}
    if c.get("stage") == 1:
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return ZeroRedundancyOptimizer(trained, torch.optim.AdamW, mesh["dp"].get_group(), **how)
    kinds = {type(p.data): [x for x in trained if type(x.data) is type(p.data)] for p in trained}
    return Together([torch.optim.AdamW(group, **how) for group in kinds.values()])


def clear_all() -> None:
    """Forget what is no longer needed."""
    gc.collect()
    if CUDA:
        clear()


def main() -> None:
    """Measure every case; under torchrun all ranks at once, else each rank of ``ranks`` alone."""
    together = "LOCAL_RANK" in os.environ
    data = json.loads(Path(sys.argv[2]).read_text())
    if together:
        rank = int(os.environ["LOCAL_RANK"])
        if CUDA:
            torch.cuda.set_device(rank)
        dist.init_process_group("nccl" if CUDA else "gloo", device_id=torch.device("cuda", rank) if CUDA else None)
    found = []
    for c in data["cases"]:
        config = data["configs"][c["model"]]
        if together:
            got: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(got, measure(config, c, rank, False))
            found.append({"case": c, "by_rank": {str(i): x for i, x in enumerate(got)}})
            continue
        by = {}
        size = c["stages"] * c.get("data", 1) * c.get("tensor", 1)
        for r in c["ranks"]:
            from torch.testing._internal.distributed.fake_pg import FakeStore

            dist.init_process_group("fake", store=FakeStore(), rank=r, world_size=size)
            by[str(r)] = measure(config, c, r, True)
            dist.destroy_process_group()
            clear_all()
        found.append({"case": c, "by_rank": by})
    if not together or rank == 0:
        Path(sys.argv[1]).write_text(json.dumps({"configs": data["configs"], "cases": found}))
    if together:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
