"""What is run: every setting of a training step or of generation."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from estimator.peft.base import Adapter
from estimator.records import dataclass
from estimator.stack.dropout import NO_DROPOUT, Dropout
from estimator.stack.kernels import HOPPER, GpuKernels
from estimator.stack.liger_mappings import TORCH, Replaced
from estimator.stack.releases import PRESENT, Release
from estimator.stack.tape import F32, HALF

# the main thread and the one of backward passes; a process that has only generated holds one workspace less
THREADS = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run.

    b, s, new    sequences, tokens each, tokens generated after them
    width        bytes of a parameter; amp: autocast over fp32 parameters
    quantization "", "nf4", "fp4" or one of them with "-dq"; unpacked: weights that it leaves alone beside
                 embeddings, norms and head; adapter: a PEFT method; top: train only that many layers
    stored       bytes of all weights where they lie in a format whose kernels are not simulated, else None
    half         the 16-bit format of products: bf16 or fp16
    adapter_width bytes of an adapter's number; kbit: prepare_model_for_kbit_training was called
    moved        what peft leaves on the CPU of an adapter was moved to the card (Recipe.moves)
    kept_gradients the gradients of the micro-batch before stand during the pass (accumulation, set_to_none=False)
    hold_outputs the loop names the model's outputs, and so the logits, until the backward pass is over; names_on: and
                 until the next forward pass is
    blind        the batch has text alone, and the towers of a multimodal model are not run
    widens       accelerate copies the outputs of a forward pass under autocast to fp32
    kernels      what Liger replaces; drops: where the model drops
    scored       the share of the tokens that the loss is taken on
    reference    who scores the batch too: "model" (a frozen copy stands), "adapter off", or nobody; scored_first: it
                 does before the step, not after the forward pass
    packing      the batch is one row with a mask of blocks; offload: activations go to the host, or "inputs" of
                 checkpointed layers alone
    reentrant    checkpointing as use_reentrant=True does it; compiled: torch.compile around the model
    in_backward  each gradient is stepped and dropped as soon as it is there
    projected    weights of which a low-rank optimizer projects the gradients; None where it is another
    wide_embeddings 8-bit states of embeddings stay in 32 bits, as the Trainer has it
    card         which kernels the GPU runs and how large its cuBLAS workspaces are, one for each of ``threads``
    release      of transformers; masked: the loop passes an attention_mask
    gpus, stage  data-parallel GPUs and ZeRO's stage on them: DDP, ZeroRedundancyOptimizer, FSDP2 without and with
                 resharding, or DeepSpeed's
    sharder      "torch" or "deepspeed"; buckets: DeepSpeed's sizes, "default" or transformers' "auto"
    host         what lies in host memory: "none", the "optimizer"'s states, or "all" weights too
    last         the last rank instead of the first (DeepSpeed's stages 1 and 2)
    root         FSDP2's root unit after the forward pass: "freed", or "kept"
    wrap         FSDP's units: "layers", or "tables" too; overlap: DeepSpeed reduces beside the backward pass
    replicas     copies of the model, each on ``gpus`` GPUs (HSDP); fsdp: version of FSDP
    pipe         one GPU of a pipeline (estimator.parallel.staged.Pipe): then ``b`` sequences are a micro-batch
    context      GPUs that share a sequence, of which ``s`` are the tokens of one
    tensor       GPUs that share each layer (on each of ``gpus``); sequence: they share the stream's tokens too
    experts      GPUs that share the experts
    generate     transformers' generate() makes the new tokens, not a loop of forward passes
    """

    b: Any
    s: Any
    new: Any = 8
    width: int = HALF
    amp: bool = False
    training: bool = True
    optimizer: str = "adamw"
    fused: bool = True
    checkpointing: str = "none"
    quantization: str = ""
    logits: str = "last"
    loss: str = "full"
    adapter: Adapter | None = None
    top: Any = None
    gpus: Any = 1
    stage: int = 0
    stored: Any = None
    half: str = "bf16"
    adapter_width: int = F32
    kbit: bool = False
    moved: bool = False
    kept_gradients: bool = False
    hold_outputs: bool = False
    names_on: bool = False
    widens: bool = False
    blind: bool = False
    kernels: Replaced = TORCH
    drops: Dropout = NO_DROPOUT
    scored: Fraction = Fraction(1)
    reference: str = ""
    scored_first: bool = False
    packing: bool = False
    offload: bool | str = False
    reentrant: bool = False
    in_backward: bool = False
    compiled: bool = False
    wide_embeddings: bool = False
    threads: int = THREADS
    card: GpuKernels = HOPPER
    release: Release = PRESENT
    masked: bool = False
    unpacked: frozenset[str] = frozenset()
    projected: frozenset[str] | None = None
    sharder: str = "torch"
    buckets: str = "default"
    host: str = "none"
    replicas: int = 1
    fsdp: int = 2
    root: str = "freed"
    wrap: str = "layers"
    overlap: bool = True
    last: bool = False
    pipe: Any = None
    context: Any = 1
    tensor: Any = 1
    sequence: bool = False
    experts: Any = 1
    generate: bool = True

    @property
    def copies_experts(self) -> bool:
        """Whether a decode step copies the chosen experts' weights, which lie as they are multiplied."""
        return self.generate and self.stored is None

    @property
    def divided(self) -> bool:
        """Whether a GPU has a part of the model, beside what is sharded."""
        return bool(self.tensor != 1 or self.experts != 1 or self.pipe is not None)
