"""Hugging Face's text-generation-inference 1.0 to 3.3: what a warm-up pass over the longest prefill leaves, in blocks.

Stands for 3.3 where no version is given: read in its repository (server/text_generation_server/models/
flash_causal_lm.py, globals.py; router/client/src/client.rs). The router admits requests of ``--max-model-len`` tokens
(its ``--max-total-tokens``) while the blocks last. Held to two public logs: one of an A10 is met within 3%, one of
Llama-2-70B on four A100s printed 29% fewer tokens than this leaves, which is not explained.
"""

from __future__ import annotations

from fractions import Fraction

from estimator.card import Range
from estimator.engines.asked import ServerAsked, share, whole
from estimator.engines.layers import decoder_layers
from estimator.engines.pool import FULL, LayerKind, Pool, rank_token_bytes
from estimator.engines.rank import ServedRank, check_decoder, check_heads
from estimator.engines.server import Hardware, Server
from estimator.engines.vllm import forward
from estimator.engines.weights import rank_bytes
from estimator.errors import InputError
from estimator.families.base import StateSpace
from estimator.schemas import GIB
from estimator.trace import value_of

NAME, LATEST = "tgi", (3, 3)
OWN = ("gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs", "rate", "prefix_hit")
# docs/source/supported_models and installation_nvidia: its attention kernels need Turing
HARDWARE = Hardware(("NVIDIA", "AMD"), (((0,), "7.5"),))
PREFILL, SEQUENCES = 4096, 128  # --max-batch-prefill-tokens until 2.0, --max-concurrent-requests
# TGI_WIGGLE_ROOM by version: the share of what is free that becomes blocks
WIGGLE = ((3, 3), 90), ((3, 1), 93), ((3, 0), 95), ((2, 4), 90), ((2, 0), 95)
OF_TOTAL = (3, 0)  # since then the share is of the card's memory, not of what is free
ONE_TOKEN = (2, 3)  # blocks of one token with FlashInfer, of 16 with paged attention
LOGIT = 8  # bytes a logit beside the logits: the prompt's log-probabilities, in fp32, and what they are made of
CONTEXT, CONTEXT_RANKS = GIB // 2, 2 * GIB  # the driver's context, and with NCCL (vLLM's logs on an H100)


def plan(asked: ServerAsked) -> ServedRank:
    """Any rank: all hold the same."""
    check_decoder(asked)
    check_heads(asked)
    if asked.pipeline > 1:
        raise InputError(f"--pipeline-parallel {asked.pipeline}: TGI shards every layer, it has no stages")
    layers = decoder_layers(asked.arch)
    if any(isinstance(x.mixer, StateSpace) for x in layers):
        raise InputError(f"--engine tgi: {asked.model.name} has recurrent layers, whose server is not described")
    weights, token = rank_bytes(asked, range(len(layers))), rank_token_bytes(asked, layers)
    block = 16 if asked.version < ONE_TOKEN else 1
    peak = activation(asked, sizes_of(asked)[1])
    beside = CONTEXT if asked.gpus == 1 else CONTEXT_RANKS
    pool, budget = asked.pool, None
    if asked.total is not None:
        fraction = share(asked.question.gpu_memory_utilization, Fraction(1), "--gpu-memory-utilization")
        wiggle = next((Fraction(n, 100) for version, n in WIGGLE if asked.version >= version), Fraction(1))
        kept = fraction * wiggle if asked.version >= OF_TOTAL else fraction
        budget = int(asked.total * kept)
        free = budget - weights - peak - beside
        pool = (int(free if asked.version >= OF_TOTAL else free * wiggle)) if pool is None else pool
    made = None
    if pool is not None:
        made = Pool(block * token, block, 1, ((LayerKind(FULL), 1),), max(0, pool) // (block * token), 0)
    return ServedRank(budget, weights, peak, beside, Range(0, 0, 0), 0, pool, made, token)


def activation(asked: ServerAsked, t: int) -> int:
    """Bytes at the peak of the warm-up: a pass over ``t`` tokens, or the log-probabilities of all their logits."""
    logits = t * int(value_of(asked.arch.vocab)) * (asked.width + LOGIT)
    hidden = t * int(value_of(asked.arch.hidden)) * asked.width
    return max(forward(asked, t), logits + 2 * hidden)


def sizes_of(asked: ServerAsked) -> tuple[int, int]:
    """(requests at once, tokens of a prefill)."""
    q = asked.question
    if q.max_num_batched_tokens is None:
        asked.said.append(f"--max-batch-prefill-tokens not given: {PREFILL:,}, the default until 2.0; others derive it")
    return whole(q, "max_num_seqs", SEQUENCES), whole(q, "max_num_batched_tokens", PREFILL)


SERVER = Server(NAME, LATEST, OWN, HARDWARE, plan, sizes_of)
memory, kvcache, infer, fit = SERVER.memory, SERVER.kvcache, SERVER.infer, SERVER.fit
