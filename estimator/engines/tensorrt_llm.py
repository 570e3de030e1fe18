"""TensorRT-LLM 0.5 to 1.2: a share of what a trial run leaves free, in blocks.

Stands for 1.0 where no version is given (tensorrt_llm/_torch/pyexecutor/_util.py, resource_manager.py); before 1.0 the
C++ runtime takes the share of what is free beside the engine and its context buffers.
"""

from __future__ import annotations

from fractions import Fraction

from estimator.card import Range
from estimator.engines.asked import ServerAsked, of_version, share, whole
from estimator.engines.layers import decoder_layers, stages
from estimator.engines.lettered import ACTIVATION, BESIDE, MEMORY, WEIGHTS, lettered, share_form, share_of
from estimator.engines.pool import FULL, LayerKind, Pool, pool_of, rank_token_bytes
from estimator.engines.rank import ServedRank, check_decoder, check_heads, fewest
from estimator.engines.server import Hardware, Server
from estimator.engines.vllm import activation
from estimator.engines.weights import rank_bytes
from estimator.families.base import StateSpace
from estimator.schemas import GIB
from estimator.working import group, minus, plus

NAME, LATEST = "tensorrt-llm", (1, 0)
OWN = ("kv_fraction", "tokens_per_block", "max_num_seqs", "max_num_batched_tokens", "rate", "prefix_hit")
# sequences at once and tokens a step of an engine as it is built: docs/source/release-notes.md (max_batch_size of
# 0.14.0; max_batch_size and max_num_tokens of 0.11.0)
TOKENS, SEQUENCES = 8192, (((0, 14), 2048), ((0, 11), 256), ((0,), 2048))
# before 0.11 what is built is sized by its batch of prompts of the longest input (docs/source/memory.md of 0.9: "If
# `max_num_tokens` is not specified, the max number of input tokens will be derived as `max_batch_size*max_input_len`";
# examples/llama/build.py of 0.5: --max_batch_size 8, --max_input_len 2048), and built for the batch that is asked for
BY_INPUT, BUILT_BATCH, BUILT_INPUT = (0, 11), 8, 2048
# freeGpuMemoryFraction: release-notes.md of 0.8.0
FRACTION = ((0, 8), Fraction(9, 10)), ((0,), Fraction(85, 100))
SAMPLED_ROWS = 256  # rows of logits of the trial run: a guess, the trial's requests are not logged
CONTEXT, CONTEXT_RANKS = GIB // 2, 2 * GIB  # the driver's context, and with NCCL over NVLink (vLLM's logs on an H100)
SMALL_BLOCKS = (0, 19)  # since then 32 tokens a block, 64 before
# release-notes.md of 0.15.0: Volta is removed
# weights: guides/0_support_matrix of Model Optimizer ("FP8: Ada and Later", "FP4: Blackwell and Later")
HARDWARE = Hardware(("NVIDIA",), (((0, 15), "8.0"), ((0,), "7.0")), {
    **dict.fromkeys(("fp8", "fp8-block"), (((0,), "8.9"),)), "nvfp4": (((0,), "10.0"),),
})  # fmt: skip


def plan(asked: ServerAsked) -> ServedRank:
    """The rank with the fewest blocks."""
    check_decoder(asked)
    check_heads(asked)
    q, layers = asked.question, decoder_layers(asked.arch)
    f = share(q.kv_fraction, of_version(asked, FRACTION), "--kv-fraction")
    if q.kv_fraction is None:
        asked.said.append(f"--kv-fraction not given: {float(f):g} of what is free")
    return fewest([_rank(asked, s, f) for s in stages(len(layers), asked.pipeline)])


def _rank(asked: ServerAsked, stage: range, f: Fraction) -> ServedRank:
    q, layers = asked.question, decoder_layers(asked.arch)
    held = [layers[i] for i in stage]
    weights = lettered(asked, WEIGHTS, rank_bytes(asked, stage))
    t = sizes_of(asked)[1]
    peak = activation(asked, SAMPLED_ROWS, t, stage.start == 0, stage.stop == len(layers))
    peak, beside = lettered(asked, ACTIVATION, peak), CONTEXT_RANKS if asked.joined else CONTEXT
    beside = lettered(asked, BESIDE, beside)
    pool, budget, left = asked.pool, None, None
    if asked.total is not None:
        budget = lettered(asked, MEMORY, asked.total)
        free = budget - weights - peak - beside
        if pool is None:
            form = group(minus(budget, plus(weights, peak, beside)))
            pool, left = share_of(max(0, free), f), share_form(form, f, free)
    block = whole(q, "tokens_per_block", 64 if asked.version < SMALL_BLOCKS else 32)
    token = rank_token_bytes(asked, held, scales=False)
    kept = None
    if pool is not None:
        if any(isinstance(x.mixer, StateSpace) for x in held):
            kept = pool_of(asked, held, pool, block, t)
        elif token:  # none of a stage whose layers read the keys of another's
            kept = Pool(block * token, block, 1, ((LayerKind(FULL), 1, 1),), -(-pool // (block * token)), 0)
    return ServedRank(budget, weights, peak, beside, Range(0, 0, 0), 0, pool, kept, token, stage, held, left)


def sizes_of(asked: ServerAsked) -> tuple[int, int]:
    """(sequences at once, tokens of a step): as given, else as an engine of the version is built."""
    q = asked.question
    tokens = TOKENS if asked.version >= BY_INPUT else BUILT_INPUT * whole(q, "max_num_seqs", BUILT_BATCH)
    return whole(q, "max_num_seqs", of_version(asked, SEQUENCES)), whole(q, "max_num_batched_tokens", tokens)


SERVER = Server(NAME, LATEST, OWN, HARDWARE, plan, sizes_of)
memory, kvcache, infer, fit = SERVER.memory, SERVER.kvcache, SERVER.infer, SERVER.fit
