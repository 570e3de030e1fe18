"""What GPUs share of a layer in a simulated step: its matrices, its experts, its sequences; what is not simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimator.errors import InputError
from estimator.families.base import Attention
from estimator.families.plans import left_whole
from estimator.moments.run import PARALLEL_LOSS
from estimator.trace import value_of

if TYPE_CHECKING:
    from estimator.commands.memory.question import Memory
    from estimator.peft.base import Adapter
    from estimator.recipes.base import Recipe

LAYER_PLAN = (
    "tensor parallelism as transformers' tp_plan has it: q, k, v, gate, up and an untied output matrix cut by outputs, "
    "o and down by inputs, tables and norms whole; what is sliced or normed over all heads is gathered in between"
)
SEQUENCE_PLAN = (
    "tensor parallelism as torchtitan's plan has it: the table, every matrix, and between them the tokens of norms and "
    "residuals are divided; the gathered input of each block is kept"
)
EXPERT_PLAN = (
    "expert parallelism as transformers' ep_plan has it: each GPU has some of the experts and all of the tokens, those "
    "of others' experts sorted behind and skipped; everything else is whole on every GPU"
)
TIED = (
    "the tied table is whole on every GPU, as parallelize_module leaves it; transformers' own plan cuts it by words, "
    "which was not measured"
)
UNPACKED = "no library divides bitsandbytes' packed weights so; use none, or FSDP2 alone: --gpus 2 --stage 3"
DIVIDED_LOSSES = (PARALLEL_LOSS, "gathered")  # each GPU's words, or those of all
RING = (
    "context parallelism as PyTorch's ring attention has it, keys and values gathered (rotate method allgather); the "
    "last GPU of a sequence keeps one copy of each attention's output less"
)


def beyond_lora(adapter: Adapter | None) -> str:
    """How an adapter says that it adds more than LoRA's two matrices; "" where it does not."""
    if adapter is None or (adapter.method.name == "lora" and all(len(t.shape) == 2 for t in adapter.tensors)):
        return ""
    if adapter.method.name != "lora":
        return f"--method {adapter.method.name}"
    return "use_dora" if adapter.args["use_dora"] else "a bias of LoRA's own"


def tensor_ways(q: Memory, recipe: Recipe, adapter: Adapter | None, quantization: str, said: list[str]) -> Any:
    """GPUs that share each layer. InputError for what their plans do not divide."""
    from estimator.parallel.request import size

    ways = size(q.tensor_parallel, "--tensor-parallel", "tensor_parallel", q.model, q.derives)
    if ways == 1:
        return 1
    whole = q.model.architecture.tied and not q.sequence_parallel
    for wanted, what in (
        (quantization != "none", f"--quantization {quantization}: {UNPACKED}"),
        (odd := beyond_lora(adapter), f"{odd}: use full or lora"),
        (adapter is not None and q.sequence_parallel, "an adapter and --sequence-parallel: use one of them"),
        (str(q.fsdp_version) != "2", "--fsdp-version 1: leave it out"),
        (q.loss in ("chunked", "fused"), f"--loss {q.loss}: use {' or '.join(DIVIDED_LOSSES)}"),
        (q.loss == PARALLEL_LOSS and whole, "--loss parallel of a tied output matrix: add --sequence-parallel"),
        (q.kernels != "torch", "--kernels liger: leave it out"),
        (recipe.loss != "full", f"--recipe {recipe.name}, whose loss takes the whole head: use --recipe trainer"),
    ):
        if wanted:
            raise InputError(f"--tensor-parallel {value_of(ways)} is not simulated with {what}")
    said.append(SEQUENCE_PLAN if q.sequence_parallel else LAYER_PLAN)
    if whole:
        said.append(TIED)
    left = left_whole(q.model.architecture.model_type)
    if left:
        said.append(f"whole on every GPU, as the class's tp_plan does not name them: {', '.join(left)}")
    return ways


def expert_ways(q: Memory, said: list[str]) -> Any:
    """GPUs that share the experts. InputError beside what else divides a layer, or was not read."""
    from estimator.parallel.request import size

    ways = size(q.expert_parallel, "--expert-parallel", "expert_parallel", q.model, q.derives)
    if ways == 1:
        return 1
    if any(str(getattr(q, name)) != "1" for name in ("tensor_parallel", "context_parallel", "pipeline_parallel")):
        raise InputError(f"--expert-parallel {value_of(ways)} is simulated without tensor, context and pipeline "
                         "parallelism; use --recipe megatron")  # fmt: skip
    said.append(EXPERT_PLAN)
    return ways


def context_ways(q: Memory, recipe: Recipe, n: Any, stage: int, said: list[str]) -> Any:
    """GPUs that share a sequence. InputError for what PyTorch's context parallelism does not run, or was not read."""
    from estimator.parallel.request import size

    ways = size(q.context_parallel, "--context-parallel", "context_parallel", q.model, q.derives)
    if ways == 1:
        return 1
    asked = f"--context-parallel {value_of(ways)}"
    plain = all(isinstance(x.mixer, Attention) and x.mixer.mla is None for x in q.model.described.layers)
    for wanted, what in (
        (str(q.tensor_parallel) != "1", "--tensor-parallel: use one of them"),
        (q.attention != "sdpa" or q.packing, "another attention than --attention sdpa, or --packing"),
        (not plain, "mixers other than attention"),
        (recipe.loss != "full" or recipe.sequences != 1, f"--recipe {recipe.name}: use --recipe torch-mixed"),
    ):
        if wanted:
            raise InputError(f"{asked} is not simulated with {what}")
    if stage < 2:
        raise InputError(f"{asked}: the GPUs of a sequence are FSDP2's too; add --stage 2 or 3")
    if q.gpus is not None and int(value_of(n)) % int(value_of(ways)):
        raise InputError(f"{asked} does not divide --gpus {value_of(n)}")
    said.append(RING)
    return ways


def local_tokens(s: Any, ways: Any) -> Any:
    """Tokens of a sequence on one GPU: two of its 2 * ``ways`` pieces, an early and a late one."""
    if s % (2 * ways):
        raise InputError(
            f"--context-parallel {value_of(ways)}: --seq-len {value_of(s)} is not a multiple of {2 * value_of(ways)}"
        )
    return s // ways


def divided_loss(q: Memory, said: list[str]) -> str:
    """The loss over words that GPUs share: with torchtitan's plan loss_parallel where not told otherwise."""
    if q.loss == PARALLEL_LOSS or (q.loss == "full" and q.sequence_parallel):
        said.append("loss_parallel(): a GPU has the logits of its words (torchtitan's default; --loss gathered: all)")
        return PARALLEL_LOSS
    return "full"
