"""vLLM 0.6 to 0.33: the budget, the profile run, the pool of blocks.

Stands for 0.19.0 where no version is given: read in its wheel (v1/worker/gpu_worker.py, gpu_model_runner.py,
v1/core/kv_cache_utils.py) and held to public start-up logs. The engines before 0.8 ("V0") run the longest prompt whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from estimator.card import Range
from estimator.engines.asked import ServerAsked, of_version, share
from estimator.engines.draft import draft_bytes
from estimator.engines.layers import decoder_layers, stages
from estimator.engines.lettered import ACTIVATION, BESIDE, DRAWN, MEMORY, WEIGHTS, lettered, share_of
from estimator.engines.pool import kind_of, pool_of, rank_token_bytes
from estimator.engines.rank import ServedRank, check_dealt, check_heads, fewest
from estimator.engines.server import Hardware, Server
from estimator.engines.tiles import check_tiles
from estimator.engines.vision import Images, images, said_of, stacked_bytes
from estimator.engines.vllm_defaults import HYBRID_PREFIXES, UNEVEN, V0, block_of, captured, sizes_of, utilisation
from estimator.engines.weights import VOCAB_MULTIPLE, rank_bytes
from estimator.errors import InputError
from estimator.families.base import MLP, Attention, MoE, StateSpace
from estimator.ops import round_up
from estimator.schemas import GIB, MIB
from estimator.storage.layouts import MXFP4
from estimator.trace import value_of
from estimator.working import minus, plus

NAME, LATEST = "vllm", (0, 19, 0)
OWN = ("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "prefix_caching", "rate", "prefix_hit",
       "decode_context_parallel", "enforce_eager", "max_loras", "max_lora_rank", "limit_mm_per_prompt")  # fmt: skip
# docs/getting_started/installation/gpu.cuda.inc.md of 0.21 and of 0.14; AMD's by gpu.rocm.inc.md
# weights: get_min_capability in model_executor/layers/quantization of 0.19.0 and 0.14.0, of 0.11.0 and 0.9.2
_TURING = (((0, 14), "7.5"), ((0,), "8.0"))
HARDWARE = Hardware(("NVIDIA", "AMD"), (((0, 21), "7.5"), ((0,), "7.0")), {
    "awq": (((0,), "7.5"),), "fp8": _TURING, "fp8-block": _TURING, "nvfp4": _TURING,
    "mxfp4": (((0,), "8.0"),), "fbgemm-fp8": (((0,), "8.0"),),
})  # fmt: skip

PROFILE = 50 * MIB  # fitted: what 0.17 to 0.19 profile beside the tensors counted here (3 logs of Llama-3.1-8B)
HIDDEN_STATES, V0_HIDDEN_STATES = 7, 6  # residual-wide tensors alive at the peak of a layer: fitted on the same logs
# experts' buffers outlive their layer: fused_moe/unquantized_fused_moe_method.py of 0.14.1; not 0.13.0
MODULAR = (0, 14)
SAMPLED = 12  # bytes a logit beside the logits: a copy in fp32, probabilities, exponentials
SORTED, V0_SORTED = 38, 39  # bytes a logit where the sampler sorts the vocabulary: Qwen3-14B, Llama-3-8B (one log each)
MULTIPROCESSORS = 108  # of a card whose preset does not say: an A100's
# GiB outside the allocator that the profile sees, by tensor-parallel degree; H100, 0.18 and 0.19 (43 settings).
# Eight ranks were not seen: the value of four.
OTHER = {1: 0.25, 2: 2.07, 4: 2.15, 8: 2.15}
# the same over PCIe alone, where no kernel of its own sums: 0.09 (4 A30, 0.11), 0.20 (16 RTX 3090, 0.8.3), 0.25 (2 RTX
# 4090, 0.7.2): the median of three logs
OTHER_PCIE = 0.2
OTHER_STAGE = 0.07  # pipeline stages without tensor parallelism (6 stages of 2 runs)
# by version, one to seven logs each; worker.py of 0.6.4 and before counts what was taken before it started too, and so
# does 0.6.5's one log, taken while that changed
OTHER_BEFORE = ((0, 11), 0.13), ((0, 6, 6), 0.05), ((0, 0), 0.35)
# CUDA graphs, fitted to 31 logs of 0.19 (102 graphs each, 51 sizes of pieces and of whole steps): GiB a rank; GiB a
# graph and layer of it; bytes of every captured token and element of a rank's queries, which the graphs' own pool keeps
# (in fp32 too); GiB that experts add. A model at a time left out, the dense ones are missed by a median of 7%, nine of
# ten by 9%. That pieces and whole steps take the same is assumed
GRAPHS, GRAPHS_LAYER, GRAPHS_TOKEN, GRAPHS_MOE = 0.0885, 0.0164 / 102, 3.7, 0.7
GRAPHS_RANGE = Fraction(80, 100), Fraction(125, 100)
ESTIMATED = Fraction(10, 11)  # the engine's own estimate over what graphs take, median of 44 settings of 0.19
ALIGNED = "on"


def plan(asked: ServerAsked) -> ServedRank:
    """The rank with the fewest blocks."""
    check_heads(asked)
    check_tiles(asked)
    check_dealt(asked)
    layers = decoder_layers(asked.arch)
    cut = stages(len(layers), asked.pipeline)
    return fewest([_rank(asked, s, len(cut)) for s in cut])


def _rank(asked: ServerAsked, stage: range, of: int) -> ServedRank:
    q, layers = asked.question, decoder_layers(asked.arch)
    n, t = sizes_of(asked)
    budget = None
    default = utilisation(asked)
    used = share(q.gpu_memory_utilization, default, "--gpu-memory-utilization")
    if asked.total is not None:
        budget = share_of(lettered(asked, MEMORY, asked.total), used)
        if q.gpu_memory_utilization is None:
            asked.said.append(f"--gpu-memory-utilization not given: {float(used):g}")
    last = stage.stop == len(layers)
    more, drafted = draft_bytes(asked) if last else (0, 0)
    stacked = stacked_bytes(asked, t) if stage.start == 0 else 0
    asked.said.extend(said_of(asked) if stage.start == 0 else [])
    weights = lettered(asked, WEIGHTS, rank_bytes(asked, stage) + more + stacked)
    peak = lettered(asked, ACTIVATION, activation(asked, n, t, first=stage.start == 0, last=last))
    beside = lettered(asked, BESIDE, other(asked))
    drawn = graphs(asked, len(stage), captured(asked, n, t))
    reserved = lettered(asked, DRAWN, int(drawn.best * ESTIMATED)) if asked.at_least(0, 20) else 0
    pool, left = asked.pool, None
    if pool is None and budget is not None:
        pool = budget - weights - peak - beside - reserved
        left = minus(budget, plus(weights, peak, beside, *((reserved,) if reserved else ())))
    held = [layers[i] for i in stage]
    kept = None
    usual = ALIGNED if asked.version >= HYBRID_PREFIXES else "off"
    caching = str(getattr(q, "prefix_caching", None) or usual)
    if caching not in ("on", "off"):
        raise InputError(f"--prefix-caching must be on or off, got {caching[:40]!r}")
    if pool is not None and any(kind_of(x) for x in held):
        kept = pool_of(
            asked, held, pool, block_of(asked), t, windows=asked.at_least(0, 10), prefixes=caching == ALIGNED,
            uneven=of_version(asked, UNEVEN), draft=drafted,
        )  # fmt: skip
    token = rank_token_bytes(asked, held)
    return ServedRank(budget, weights, peak, beside, drawn, reserved, pool, kept, token, stage, held, left)


def activation(asked: ServerAsked, n: int, t: int, first: bool = True, last: bool = True) -> int:
    """Bytes at the peak of the profile run: the forward pass over ``t`` tokens or the sampler over ``n`` rows.

    first, last: whether the rank holds the first and the last layers of a pipeline.
    """
    arch, w = asked.arch, asked.width
    d = int(value_of(arch.hidden))
    vocab = round_up(int(value_of(arch.vocab)), VOCAB_MULTIPLE)
    _, moe, width = _widths(asked)
    old = asked.version < V0
    states = V0_HIDDEN_STATES if old else HIDDEN_STATES
    sampler = 0
    if last and arch.has_head and arch.kind == "decoder":
        logit = w + SAMPLED
        if old:
            logit = V0_SORTED
        elif asked.version < (0, 17):
            logit = SORTED
        units = (asked.spec.multiprocessors if asked.spec else None) or MULTIPROCESSORS
        buffer = 4 * vocab * units if asked.at_least(0, 17) else 0
        sampler = n * vocab * logit + buffer + 2 * t * d * (w // 2)
    received = 0 if first else 2 * t * d * w
    workspace = 0
    if moe is not None and asked.store.products != MXFP4:
        workspace = t * int(value_of(moe.per_token)) * (max(2 * width, d) + width) * w
    seen = images(asked, t) if first else Images()
    fixed = 0 if old else PROFILE
    kept = workspace if asked.version >= MODULAR else 0
    text = max(forward(asked, t, states) + workspace - kept, sampler) + received + kept + seen.held
    return int(max(text, seen.peak) + fixed)


def forward(asked: ServerAsked, t: int, states: int = HIDDEN_STATES) -> int:
    """Bytes at the peak of a layer over ``t`` tokens; states: residual-wide tensors alive."""
    dense, _, _ = _widths(asked)
    return t * (6 * dense + states * int(value_of(asked.arch.hidden))) * asked.width // 2


def _widths(asked: ServerAsked) -> tuple[int, MoE | None, int]:
    """(widest dense MLP of a rank, the experts, an expert's width on a rank)."""
    dense, moe = 0, None
    for group in asked.arch.layers:
        mlp = group.mlp
        if isinstance(mlp, MoE):
            moe, mlp = mlp, mlp.shared
        if isinstance(mlp, MLP):
            dense = max(dense, -(-int(value_of(mlp.width)) // asked.tensor))
        elif isinstance(group.mixer, StateSpace) and group.mlp is None:
            dense = max(dense, int(value_of(group.mixer.inner)) // asked.tensor)
    width = 0 if moe is None else int(value_of(moe.width)) // (1 if asked.experts else asked.tensor)
    return dense, moe, width


def other(asked: ServerAsked) -> int:
    """Bytes outside the allocator that the engine counts: measured constants by version and degree."""
    if asked.tensor > 1 and not asked.linked:
        return int(OTHER_PCIE * GIB)
    if asked.tensor > 1:
        known = max(k for k in OTHER if k <= asked.tensor)
        if asked.tensor > 4:
            asked.said.append("memory outside the allocator at more than 4 ranks was not measured: that of 4")
        return int(OTHER[known] * GIB)
    if asked.pipeline > 1:
        return int(OTHER_STAGE * GIB)
    if asked.at_least(0, 18):
        return int(OTHER[1] * GIB)
    return int(next(v for version, v in OTHER_BEFORE if asked.version >= version) * GIB)


def graphs(asked: ServerAsked, layers: int, sizes: Sequence[int]) -> Range:
    """Bytes of the CUDA graphs of ``layers`` layers, and a range for what is missed. sizes: tokens of each graph."""
    mixers = [g.mixer for g in asked.arch.layers if isinstance(g.mixer, Attention)]
    width = max((int(value_of(m.heads * m.head_dim)) for m in mixers), default=0) // asked.tensor
    moe = any(isinstance(g.mlp, MoE) for g in asked.arch.layers)
    drivers = (GRAPHS + GRAPHS_LAYER * layers * len(sizes) + (GRAPHS_MOE if moe else 0)) * GIB
    best = int(drivers + GRAPHS_TOKEN * sum(sizes) * width) if sizes else 0
    return Range(int(best * GRAPHS_RANGE[0]), best, int(best * GRAPHS_RANGE[1]))


SERVER = Server(NAME, LATEST, OWN, HARDWARE, plan, sizes_of)
memory, kvcache, infer, fit = SERVER.memory, SERVER.kvcache, SERVER.infer, SERVER.fit
