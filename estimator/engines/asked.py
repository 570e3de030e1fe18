"""One reading of a serving engine's options: the model, how it is stored and cut, the card, the sizes of a step."""

from __future__ import annotations

import re
from dataclasses import field, fields
from fractions import Fraction
from typing import Any, TypeVar

from estimator.dtypes import find_format
from estimator.engines.lengths import check_request, refused, too_long
from estimator.engines.stored import HeldWeights, stored
from estimator.errors import InputError
from estimator.families.base import Architecture, MoE
from estimator.kv.layers import kv_format
from estimator.models import Model
from estimator.questions.base import refuse_beyond
from estimator.questions.parts import OnCard, Sequences
from estimator.records import dataclass
from estimator.schemas import GpuSpec
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, parse_size

ACTIVATIONS = ("bf16", "fp16", "fp32")
Version = tuple[int, ...]
T = TypeVar("T")
_SIZE = re.compile(r"^[0-9][0-9._]* ?([KMGT]i?)?B$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerAsked:
    """What an engine is asked to serve, and on what.

    engine, version   its name and (0, 19, 0)
    dtype             of the activations; width: bytes of one
    kv_bits           bits of a cached number; kv_fp8: whether that is fp8
    store             how the checkpoint's weights are stored
    tensor, pipeline, data   degrees; experts: whether routed experts are dealt over the tensor and data groups
    dealt             ranks of the tensor group over which the tokens of a sequence's cache are dealt
    length            longest sequence that the engine admits; positions: what the model has
    card, total       the card's name, the bytes that its driver reports (None: no card); spec: its preset, if any
    pool              bytes of the pool where they are given
    batch, context    the sequences and tokens that are asked about
    said              what was assumed
    joint             SGLang's DP attention: MLPs and the output matrix are cut over the tensor and data groups together
    """

    engine: str
    version: Version
    model: Model
    dtype: str
    width: int
    kv_bits: int
    kv_fp8: bool
    store: HeldWeights
    tensor: int
    pipeline: int
    data: int
    experts: bool
    dealt: int
    length: int
    card: str
    total: int | None
    spec: GpuSpec | None
    pool: int | None
    batch: int
    context: int
    question: Any
    said: list[str] = field(default_factory=list)
    joint: bool = False

    @property
    def cut_over(self) -> int:
        """Ranks over which an MLP and the output matrix are cut."""
        return self.tensor * self.data if self.joint else self.tensor

    @property
    def but(self) -> str:
        """What the engine refuses of what is asked, for the verdict; "" mostly."""
        found = (refused(self.model, self.engine, self.length),
                 too_long(self.engine, self.length, self.context) if self.question.max_model_len is None else "")
        return "".join(f" But {x}" for x in found if x)

    @property
    def arch(self) -> Architecture:
        return self.model.architecture

    @property
    def derives(self) -> bool:
        """Whether the run derives: its numbers are traced."""
        return self.model.derives

    def at_least(self, *version: int) -> bool:
        """Whether the engine's version is this one or later."""
        return self.version >= version

    @property
    def expert_ranks(self) -> int:
        """Over how many ranks whole experts are dealt; 1 where each expert is cut like an MLP."""
        return self.tensor * self.data if self.experts else 1

    @property
    def linked(self) -> bool:
        """Whether the card's kind is linked to its peers by more than PCIe; a bridge between two is not counted on.
        True without a preset."""
        link = self.spec.link if self.spec is not None else None
        return self.spec is None or (link is not None and "bridge" not in link.name)

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def joined(self) -> bool:
        """Whether there are several ranks, linked by more than PCIe: each then has buffers for its peers."""
        return self.gpus > 1 and self.linked


def version_of(text: Any, default: Version) -> Version:
    """``0.19.0`` as (0, 19, 0); InputError for what is no version."""
    if text is None:
        return default
    found = re.match(r"^v?(\d{1,6}(?:\.\d{1,6}){0,3})(?!\.?\d)", str(text).strip())
    if not found:
        raise InputError(f"--engine-version {str(text)[:40]}: expected numbers with dots, for instance 0.19.0")
    return tuple(int(x) for x in found[1].split("."))


def of_version(asked: ServerAsked, table: tuple[tuple[Version, T], ...]) -> T:
    """The value of the first version of ``table`` (newest first) that is not above the engine's; else the last."""
    return next((value for version, value in table if asked.version >= version), table[-1][1])


def share(value: Any, default: Fraction, flag: str) -> Fraction:
    """A share of memory between 0 and 1, exact; InputError for others."""
    if value is None:
        return default
    try:
        out = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        out = Fraction(0)
    if not 0 < out <= 1:
        raise InputError(f"{flag} must be above 0 and at most 1, got {str(value)[:40]}")
    return out


def whole(q: Any, name: str, default: int) -> int:
    """A count of the question by its field; ``default`` where it is not given."""
    value = getattr(q, name, None)
    if value is None or value is False:
        return default
    return int(value_of(size_option(None, value, f"--{name.replace('_', '-')}", name, "length")))


def read(q: Any, engine: str, latest: Version, own: tuple[str, ...]) -> ServerAsked:
    """The question as an engine reads it.

    latest: the version that stands for the engine where none is given; own: the engine's options (the options of
    another engine are refused). Raises InputError for contradictions and for models that generate nothing.
    """
    model: Model = q.model
    if model.kind == "symbolic":
        raise InputError(f"--engine {engine}: an engine serves a model of known sizes; symbolic has none")
    refuse_beyond(q, {*PLAIN, *SERVERS, *own}, f"--engine {engine}")
    arch, said = model.described, []
    if arch.kind == "encoder-decoder":
        raise InputError(f"--engine {engine}: {model.name} has an encoder beside its decoder, which is not described")
    if getattr(q, "mode", None) == "training":
        raise InputError(f"--engine {engine} serves; it does not train: --mode inference")
    version = version_of(q.engine_version, latest)
    if q.engine_version is None:
        said.append(f"--engine-version not given: {'.'.join(map(str, latest))}")
    dtype, quantization = q.dtype or "bf16", q.quantization
    if find_format(dtype).name in ("fp8", "int8"):
        dtype, quantization = "bf16", quantization or find_format(dtype).name
    fmt = find_format(dtype)
    if fmt.name not in ACTIVATIONS:
        raise InputError(f"--dtype {dtype}: an engine computes in bf16, fp16 or fp32; stored in less: --quantization")
    card, total, spec = _card(q, said)
    if spec is not None and not spec.bf16 and fmt.name == "bf16":
        said.append(f"{spec.id} multiplies no bf16: activations and plain weights in fp16")
        fmt = find_format("fp16")
    store = stored(model, quantization, fmt.name)
    said += store.notes
    kv = kv_format(q.kv_dtype or fmt.name)
    positions = arch.max_positions
    length = q.max_model_len
    if str(length) in ("auto", "-1"):
        raise InputError(f"--max-model-len {length}: vLLM takes the longest that fits, which --largest seq-len finds")
    if length is None and positions is None:
        said.append("--max-model-len not given and the model names no positions: 8,192 tokens")
    length = whole(q, "max_model_len", 8192 if positions is None else int(value_of(positions)))
    pool = None if q.pool_bytes is None else parse_size(str(q.pool_bytes), "--pool-bytes", "bytes")
    new = whole(q, "new_tokens", 0)
    prompt = whole(q, "seq_len", max(1, length - new))
    check_request(q, engine, length, prompt, new)
    tensor, data = _degrees(q, said)
    joint = _joint(q)
    experts = _dealt(q, arch, tensor * data) or (joint and any(isinstance(x.mlp, MoE) for x in arch.layers))
    return ServerAsked(
        engine, version, model, fmt.name, fmt.block_bits // BITS_PER_BYTE, kv.block_bits // kv.block, kv.name == "fp8",
        store, tensor, whole(q, "pipeline_parallel", 1), data, experts,
        whole(q, "decode_context_parallel", 1), length, card, total, spec, pool,
        int(value_of(size_option(None, q.batch_size, "--batch-size", "batch_size", "length"))), prompt + new, q, said,
        joint,
    )  # fmt: skip


def _dealt(q: Any, arch: Architecture, ranks: int) -> bool:
    """Whether whole experts are dealt over the ``ranks`` of the tensor and data groups: ``--expert-parallel``.

    Alone (``all``), as vLLM has it, or their number. InputError for another number, and for a model without experts.
    """
    given = getattr(q, "expert_parallel", None)
    given = True if given == "all" else given
    if given in (None, False) or (given is not True and whole(q, "expert_parallel", 1) == 1):
        return False
    if not any(isinstance(x.mlp, MoE) for x in arch.layers):
        raise InputError("--expert-parallel: the model has no experts")
    if given is not True and (n := whole(q, "expert_parallel", 1)) != ranks:
        raise InputError(f"--expert-parallel {n}: engines deal experts over the tensor and data groups: {ranks}")
    return True


def _degrees(q: Any, said: list[str]) -> tuple[int, int]:
    """(tensor, data) degrees. ``--gpus`` alone is one tensor group; beside other degrees, GPUs beyond them hold copies.

    InputError where the GPUs are no whole number of copies, or other than all the degrees say.
    """
    tensor, pipeline, data = (whole(q, f"{x}_parallel", 1) for x in ("tensor", "pipeline", "data"))
    if _joint(q):  # SGLang's --tensor-parallel counts the GPUs of all copies: server_args.py of 0.5.9
        if tensor % data:
            raise InputError(f"--dp-attention: --tensor-parallel {tensor} is not a multiple of --data-parallel {data}")
        tensor //= data
    gpus, each = whole(q, "gpus", 1), tensor * pipeline
    if gpus == 1 or gpus == each * data:
        return tensor, data
    if each == 1 and q.data_parallel is None:
        return gpus, 1
    if q.data_parallel is None and gpus % each == 0:
        said.append(f"--gpus {gpus}: {gpus // each} copies of {each} GPUs, which share the requests (data parallel)")
        return tensor, gpus // each
    given = f"tensor {tensor} x pipeline {pipeline} x data {data}"
    raise InputError(f"--gpus {gpus}: the degrees have {each * data} GPUs ({given}). Leave --gpus out, or say as many")


def _joint(q: Any) -> bool:
    return bool(getattr(q, "dp_attention", False)) and whole(q, "data_parallel", 1) > 1


def _card(q: Any, said: list[str]) -> tuple[str, int | None, GpuSpec | None]:
    """(name, bytes that the driver reports, preset) of ``--gpu`` and ``--gpu-memory``."""
    from estimator.card import find_card
    from estimator.presets import load_gpu

    if q.gpu is None and q.gpu_memory is None:
        return "", None, None
    card = find_card(q.gpu, q.gpu_memory)
    spec = None if q.gpu is None or _SIZE.match(q.gpu.strip()) else load_gpu(q.gpu)
    said += [note for note in card.notes if "CUDA context" not in note]
    return card.name, card.bytes, spec


# what every engine is asked, beside sizes and a card
EVERY = ("mode", "engine", "dtype", "kv_dtype", "quantization", "new_tokens", "price", "graph", "largest")
PLAIN = (*EVERY, *(f.name for part in (Sequences, OnCard) for f in fields(part)))
SERVERS = (
    "engine_version", "max_model_len", "data_parallel", "pool_bytes", "gpus", "tensor_parallel", "pipeline_parallel",
    "expert_parallel", "block_size", "draft_model", "alpha", "gamma", "plot",
)  # fmt: skip
