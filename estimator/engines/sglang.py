"""SGLang 0.4 to 0.5: a share of what is free before loading for weights and pool, the rest for everything else.

Stands for 0.5.9 where no version is given: read in its wheel (srt/server_args.py; model_runner.py and
model_runner_kv_cache_mixin.py of srt/model_executor).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from estimator.card import Range
from estimator.engines.asked import ServerAsked, share, whole
from estimator.engines.layers import decoder_layers, stages
from estimator.engines.lettered import BESIDE, MEMORY, WEIGHTS, lettered, share_form, share_of
from estimator.engines.pool import (
    FULL,
    STATE,
    LayerKind,
    Pool,
    alike_layers,
    indexer_bytes,
    kind_of,
    rank_token_bytes,
    state_bytes,
    token_bytes,
)
from estimator.engines.rank import ServedRank, check_decoder, check_heads, fewest
from estimator.engines.server import Hardware, Server
from estimator.engines.sglang_defaults import card_size, usual_share, windows_apart
from estimator.engines.tiles import check_tiles
from estimator.engines.weights import rank_bytes
from estimator.families.base import Attention, Layer, StateSpace
from estimator.schemas import GIB, MIB
from estimator.working import group, minus

NAME, LATEST = "sglang", (0, 5, 9)
OWN = ("mem_fraction_static", "chunked_prefill_size", "dp_attention", "cuda_graph_max_bs", "max_num_seqs", "rate",
       "prefix_hit", "max_loras", "max_lora_rank")  # fmt: skip
# its attention is FlashInfer's, which supports SM75 and later (the package's page); on AMD its own Triton kernels
# weights: get_min_capability in srt/layers/quantization of 0.5.9
HARDWARE = Hardware(("NVIDIA", "AMD"), (((0,), "7.5"),), {
    **dict.fromkeys(("fp8", "fp8-block", "mxfp4", "fbgemm-fp8"), (((0,), "8.0"),)), "nvfp4": (((0,), "10.0"),),
})  # fmt: skip

CONTEXT = GIB // 2  # taken by the driver before the first reading: 0.51 GiB on an H100 (vLLM's logs, one rank)
# with NCCL, 1.51 to 1.53 GiB at two to four ranks with NVLink; over PCIe it takes 0.13 (0.40 in all, 4 L4s, 0.4.3)
CONTEXT_RANKS = 3 * GIB // 2
REQUESTS = 4096  # max_running_requests is at most this: model_runner_kv_cache_mixin.py of 0.5.9
PAGE = 64  # tokens of a page with DeepSeek's sparse attention: server_args.py of 0.5.9
STATES = Fraction(9, 19)  # of a hybrid's pool: mamba_full_memory_ratio 0.9 to 1
WINDOWS = Fraction(4, 5)  # tokens of a window layer's pool to a full layer's: swa_full_tokens_ratio
# AMD's aiter attention leaves more beside long contexts, given shares too: server_args.py (two logs of 0.5.17, one and
# two MI355X; one of sparse attention, 0.5.8, does not)
AITER, AITER_LENGTH = Fraction(85, 100), 8192


def sizes(asked: ServerAsked) -> tuple[int, int]:
    """(tokens a chunk, sequences of the largest graph) by the card's memory."""
    row = card_size(asked)
    graph = whole(asked.question, "cuda_graph_max_bs", row.few if asked.cut_over < 4 else row.many)
    return whole(asked.question, "chunked_prefill_size", row.chunk), graph


def fraction(asked: ServerAsked) -> Fraction:
    """The share for weights and pool: as given, else what the version's rule leaves beside activations and graphs."""
    if asked.question.mem_fraction_static is not None or asked.total is None:
        found = share(asked.question.mem_fraction_static, Fraction(88, 100), "--mem-fraction-static")
    else:
        found = max(usual_share(asked, *sizes(asked)), Fraction(1, 100))
        asked.said.append(f"--mem-fraction-static not given: {float(found):.4g}")
    amd = asked.total is not None and asked.spec is not None and asked.spec.vendor == "AMD"
    if amd and asked.length > AITER_LENGTH and not indexer_bytes(asked):
        asked.said.append(f"aiter's attention with a context over {AITER_LENGTH:,} takes {float(AITER)} of that share")
        found *= AITER
    return found


def own_caches(layers: list[Layer]) -> list[Layer]:
    """The layers, each with keys and values of its own: a pool has room for every layer, those too that read another's
    (Gemma 4's logs count 42 of 42)."""
    made: dict[int, Layer] = {}
    for x in layers:
        if id(x) not in made:
            own = x.mixer._replace(reuses=False) if isinstance(x.mixer, Attention) else x.mixer
            made[id(x)] = x._replace(mixer=own)
    return [made[id(x)] for x in layers]


def plan(asked: ServerAsked) -> ServedRank:
    """The rank with the fewest tokens."""
    check_decoder(asked)
    check_heads(asked)
    check_tiles(asked)
    layers = own_caches(decoder_layers(asked.arch))
    f = fraction(asked)
    return fewest([_rank(asked, [layers[i] for i in s], s, f) for s in stages(len(layers), asked.pipeline)])


def _rank(asked: ServerAsked, held: list[Layer], stage: range, f: Fraction) -> ServedRank:
    weights = lettered(asked, WEIGHTS, rank_bytes(asked, stage))
    budget, rest, pool, left = None, 0, asked.pool, None
    beside = CONTEXT_RANKS if asked.joined else CONTEXT
    if asked.total is not None:
        budget, beside = lettered(asked, MEMORY, asked.total), lettered(asked, BESIDE, beside)
        free = budget - beside
        static = share_of(free, f)
        rest = free - static
        if pool is None:
            pool, left = static - weights, minus(share_form(group(minus(budget, beside)), f, free), weights)
    token = rank_token_bytes(asked, held)
    kept = None if pool is None else tokens(asked, held, pool)
    _, batch = sizes(asked)
    drawn = Range(0, 2 * batch * MIB, 2 * batch * MIB)
    return ServedRank(budget, weights, rest, beside, drawn, 0, pool, kept, token, stage, held, left)


def tokens(asked: ServerAsked, held: list[Layer], pool: int) -> Pool:
    """The pool in pages of one token, of 64 with a sparse latent: layers with windows of their own pool keep fewer
    tokens, states have their own share."""
    full: Any = 0
    windowed: Any = 0
    states = [state_bytes(asked, x.mixer) for x in held if isinstance(x.mixer, StateSpace)]
    apart = windows_apart(asked, held)
    for one, count in alike_layers(asked, held):
        kind = kind_of(one, apart)
        if isinstance(one.mixer, Attention) and kind is not None:
            size = count * token_bytes(asked, one.mixer)
            if kind.name != FULL:
                windowed += size
            else:
                full += size
    rest = max(0, pool - share_of(pool, STATES)) if states and full else None
    page = full + (share_of(windowed, WINDOWS) if full else windowed)
    if not page:
        return Pool(sum(states), 1, 1, ((LayerKind(STATE), 1, 1),), pool // max(1, sum(states)), 0)
    together = PAGE if indexer_bytes(asked) else 1
    blocks = (max(0, pool) if rest is None else rest) // page // together
    return Pool(page * together, together, 1, ((LayerKind(FULL), 1, 1),), blocks, 0, rest=rest)


def sizes_of(asked: ServerAsked) -> tuple[int, int]:
    """(sequences at once, tokens of a prompt's chunk, which copies of the attention share)."""
    copies = asked.data if asked.joint else 1
    return whole(asked.question, "max_num_seqs", REQUESTS), max(1, sizes(asked)[0] // copies)


SERVER = Server(NAME, LATEST, OWN, HARDWARE, plan, sizes_of)
memory, kvcache, infer, fit = SERVER.memory, SERVER.kvcache, SERVER.infer, SERVER.fit
