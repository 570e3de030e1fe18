"""Degrees of parallelism: how the GPUs of a job are divided, and which link a group of them talks over.

Order of the ranks as in Megatron-LM (parallel_state.py: tp-cp-ep-dp-pp): tensor-parallel neighbours first, pipeline
stages last, so that the groups that talk most sit in one node.
"""

from __future__ import annotations

from typing import Any

from estimator.errors import InputError
from estimator.parallel.tensor import Cut
from estimator.records import dataclass
from estimator.trace import value_of

INSIDE, BETWEEN = "inside a node", "between nodes"
NODE = 8  # GPUs in one node


@dataclass(frozen=True, slots=True)
class Degrees:
    """How ``gpus`` GPUs are divided.

    tensor, pipeline, context, expert   degrees; expert groups are taken from the data and context groups
    expert_tensor   GPUs that share each expert (Megatron-LM --expert-tensor-parallel-size), None: the tensor group;
                    where they are fewer, expert groups are taken from the tensor group too
    sequence   Megatron's sequence parallelism: norms and dropouts are split over the tensor group
    node       GPUs in one node
    """

    gpus: Any
    tensor: Any = 1
    pipeline: Any = 1
    context: Any = 1
    expert: Any = 1
    sequence: bool = False
    node: int = NODE
    expert_tensor: Any = None

    def __post_init__(self) -> None:
        inner = value_of(self.tensor) * value_of(self.pipeline) * value_of(self.context)
        gpus = value_of(self.gpus)
        if gpus % inner:
            raise InputError(
                f"--gpus {gpus} is not a multiple of tensor x pipeline x context parallelism = {inner}; "
                f"use {max(1, gpus // inner) * inner} GPUs or other degrees"
            )
        each = value_of(self.each_expert)
        if each < 1 or value_of(self.tensor) % each:
            of = value_of(self.tensor)
            raise InputError(f"--expert-tensor-parallel {each} does not divide --tensor-parallel {of}")
        if (gpus // value_of(self.pipeline) // each) % value_of(self.expert):
            told = "" if each == 1 else "; with --expert-tensor-parallel 1, the tensor group's too"
            raise InputError(
                f"--expert-parallel {value_of(self.expert)} does not divide the "
                f"{gpus // value_of(self.pipeline) // each} GPUs that hold the same part of the model (data x context "
                f"parallelism{told})"
            )

    @property
    def data(self) -> Any:
        """Data-parallel degree: copies of the model that read different sequences."""
        return self.gpus // (self.tensor * self.pipeline * self.context)

    @property
    def shards(self) -> Any:
        """GPUs that hold the same dense weights, over which ZeRO shards: data x context."""
        return self.gpus // (self.tensor * self.pipeline)

    @property
    def expert_shards(self) -> Any:
        """GPUs that hold the same experts."""
        return self.gpus // (self.pipeline * self.each_expert * self.expert)

    @property
    def each_expert(self) -> Any:
        """GPUs that share each expert."""
        return self.tensor if self.expert_tensor is None else self.expert_tensor

    @property
    def cut(self) -> Cut:
        """How weights are cut."""
        return Cut(self.tensor, self.expert, self.expert_tensor)

    @property
    def nodes(self) -> int:
        gpus = int(value_of(self.gpus))
        return -(-gpus // self.node)

    def link(self, group: str) -> str:
        """Whether the group of this name (tensor, context, expert, data, pipeline) leaves a node."""
        t, c, s = (value_of(x) for x in (self.tensor, self.context, self.shards))
        span = {
            "tensor": t,
            "context": t * c,
            "expert": value_of(self.each_expert * self.expert),
            "data": t * s,
            "pipeline": value_of(self.gpus),
        }[group]
        return INSIDE if span <= self.node else BETWEEN

    def ports(self, group: str) -> int:
        """Ports to the network by which a ring of this group (tensor, data, or experts' data) leaves a node.

        One a member: NCCL lays a ring through each, which carries its part of the bytes. An exchange of all with all,
        or a message to the next, has its sender's alone (NCCL's maintainer in NVIDIA/nccl-tests, issue 267).
        """
        members, apart = {
            "tensor": (self.tensor, 1),
            "data": (self.shards, self.tensor),
            "experts": (self.expert_shards, self.each_expert * self.expert),
        }.get(group, (1, 1))
        most = max(1, self.node // int(value_of(apart)))
        return int(value_of(members)) if value_of(members) < most else most

    @property
    def plain(self) -> bool:
        """Data parallelism only."""
        return all(int(value_of(x)) == 1 for x in (self.tensor, self.pipeline, self.context, self.expert))
