"""Hugging Face's text-generation-inference 1.0 to 3.3: what a warm-up pass over the longest prefill leaves, in blocks.

Stands for 3.3 where no version is given: read in its repository at the tags 0.9.4 to 3.3.7 (launcher/src/main.rs;
flash_causal_lm.py and globals.py of server/text_generation_server/models; router/client/src/client.rs). The router
admits requests of ``--max-model-len`` tokens (its ``--max-total-tokens``) while the blocks last. Held to two public
logs: one of an A10 is met within 3%, one of Llama-2-70B on four A100s printed 29% fewer tokens than this leaves, which
is not explained: nothing that its start allocates is that large.
"""

from __future__ import annotations

from fractions import Fraction

from estimator.card import Range
from estimator.engines.asked import ServerAsked, share, whole
from estimator.engines.layers import decoder_layers
from estimator.engines.lettered import ACTIVATION, BESIDE, MEMORY, WEIGHTS, lettered, share_form, share_of
from estimator.engines.pool import FULL, LayerKind, Pool, rank_token_bytes
from estimator.engines.rank import ServedRank, check_decoder, check_heads
from estimator.engines.server import Hardware, Server
from estimator.engines.vllm import forward
from estimator.engines.weights import rank_bytes
from estimator.errors import InputError
from estimator.families.base import MLP, Attention, Layer, MoE, StateSpace
from estimator.schemas import GIB
from estimator.trace import value_of
from estimator.working import group, minus, plus

NAME, LATEST = "tgi", (3, 3)
OWN = ("gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs", "rate", "prefix_hit")
# docs/source/supported_models and installation_nvidia: its attention kernels need Turing
HARDWARE = Hardware(("NVIDIA", "AMD"), (((0,), "7.5"),))
SEQUENCES = 128  # --max-concurrent-requests: launcher/src/main.rs
# tokens of a prefill that is not given, launcher/src/main.rs: 4,096 before 2.0; then the longest prompt and 50; since
# 3.0 what the card multiplies in a second over what a token takes, at most the positions (and what fits: not counted)
PREFILL, EDGE, BY_LENGTH, BY_COMPUTE = 4096, 50, (2, 0), (3, 0)
# 10^12 a second of ``f16_flop`` in main.rs of 3.3.7, by this project's names of the cards that it knows by theirs
TFLOPS = {
    "l4": 121, "l40": 181, "l40s": 363, "a10g": 125, "a40": 149, "a100-40gb": 312, "a100-80gb": 312,
    "a100-80gb-pcie": 312, "h100-sxm": 900, "h100-nvl": 900, "h200": 989,
}  # fmt: skip
LEAST_OPTIMAL = 100
LONGEST = 4096  # --max-total-tokens at most where it is not given, 2.0 to 2.4: main.rs
# TGI_WIGGLE_ROOM by version, globals.py: the share of what is free that becomes blocks
WIGGLE = ((3, 3), 90), ((3, 1), 93), ((3, 0), 95), ((2, 4), 90), ((2, 0), 95)
OF_TOTAL = (3, 0)  # since then the share is of the card's memory, not of what is free
# tokens a block, globals.py: 16 before 2.3; since, resolve_attention of main.rs takes FlashInfer (1) for heads of these
# widths, else flash decoding (256), or paged attention (16) on cards before Ampere
NEW_BLOCKS, FLASHINFER_HEADS, PAGED, DECODING = (2, 3), (64, 128, 256), 16, 256
LAST_ROW = (3, 0)  # REQUEST_LOGPROBS is off: flash_causal_lm.py of 3.0.0; not 2.4.0
CONTEXT, CONTEXT_RANKS = GIB // 2, 2 * GIB  # the driver's context, and with NCCL over NVLink (vLLM's logs on an H100)


def plan(asked: ServerAsked) -> ServedRank:
    """Any rank: all hold the same."""
    check_decoder(asked)
    check_heads(asked)
    if asked.pipeline > 1:
        raise InputError(f"--pipeline-parallel {asked.pipeline}: TGI shards every layer, it has no stages")
    layers = decoder_layers(asked.arch)
    if any(isinstance(x.mixer, StateSpace) for x in layers):
        raise InputError(f"--engine tgi: {asked.model.name} has recurrent layers, whose server is not described")
    stage, token = range(len(layers)), rank_token_bytes(asked, layers)
    weights = lettered(asked, WEIGHTS, rank_bytes(asked, stage))
    block = block_of(asked)
    peak = lettered(asked, ACTIVATION, activation(asked, sizes_of(asked)[1]))
    beside = lettered(asked, BESIDE, CONTEXT_RANKS if asked.joined else CONTEXT)
    pool, budget, left = asked.pool, None, None
    if asked.total is not None:
        fraction = share(asked.question.gpu_memory_utilization, Fraction(1), "--gpu-memory-utilization")
        wiggle = next((Fraction(n, 100) for version, n in WIGGLE if asked.version >= version), Fraction(1))
        kept = fraction * wiggle if asked.version >= OF_TOTAL else fraction
        budget = share_of(lettered(asked, MEMORY, asked.total), kept)
        free = budget - weights - peak - beside
        of = Fraction(1) if asked.version >= OF_TOTAL else wiggle
        if pool is None:
            form = group(minus(budget, plus(weights, peak, beside)))
            pool, left = share_of(free, of), share_form(form, of, free)
    made = None
    if pool is not None:
        made = Pool(block * token, block, 1, ((LayerKind(FULL), 1, 1),), max(0, pool) // (block * token), 0)
    return ServedRank(budget, weights, peak, beside, Range(0, 0, 0), 0, pool, made, token, stage, layers, left)


def activation(asked: ServerAsked, t: int) -> int:
    """Bytes of the warm-up, a pass over ``t`` tokens, that the allocator keeps: what is free is read before it gives
    anything back (``mem_get_info`` after ``generate_token``). Before 3.0 the log-probabilities of all tokens are made:
    the logits, gathered from the ranks, and as many again, beside what the layers and cuBLAS took."""
    layers = forward(asked, t) + (asked.spec.cublas_workspace or 0 if asked.spec else 0)
    if asked.version >= LAST_ROW:
        return layers
    vocab = int(value_of(asked.arch.vocab))
    rank = vocab // asked.tensor if asked.tensor > 1 else 0
    return layers + t * (2 * vocab + rank) * asked.width


def block_of(asked: ServerAsked) -> int:
    """Tokens of a block."""
    if asked.version < NEW_BLOCKS:
        return PAGED
    if {int(value_of(a.head_dim)) for a in asked.arch.attentions} <= set(FLASHINFER_HEADS):
        return 1
    old = asked.spec is not None and float(asked.spec.compute_capability or "8.0") < 8
    return PAGED if old else DECODING


def sizes_of(asked: ServerAsked) -> tuple[int, int]:
    """(requests at once, tokens of a prefill): as given, else by the version's rule."""
    q = asked.question
    usual = _prefill(asked)
    if q.max_num_batched_tokens is None:
        asked.said.append(f"--max-batch-prefill-tokens not given: {usual:,}")
    return whole(q, "max_num_seqs", SEQUENCES), whole(q, "max_num_batched_tokens", usual)


def _prefill(asked: ServerAsked) -> int:
    if asked.version < BY_LENGTH:
        return PREFILL
    if asked.version < BY_COMPUTE:
        return (asked.length if asked.question.max_model_len is not None else min(LONGEST, asked.length)) - 1 + EDGE
    optimal, positions = _optimal(asked), asked.arch.max_positions
    return optimal if positions is None else min(optimal, int(value_of(positions)))


def _optimal(asked: ServerAsked) -> int:
    """Tokens that the launcher takes to fill the card: ``compute_optimal`` of main.rs, which counts a product's
    weights, the queries twice, and nothing of a model that sees."""
    tera = 0 if asked.spec is None else TFLOPS.get(asked.spec.id, 0)
    raw = asked.model.config.raw if asked.model.config else {}
    flops = sum(2 * _weights(layer) for layer in decoder_layers(asked.arch))
    if not tera or not flops or "vision_config" in raw:
        return PREFILL
    found = tera * 10**12 * asked.tensor // flops
    return found if found > LEAST_OPTIMAL else PREFILL


def _weights(layer: Layer) -> int:
    """Numbers of the products of a token in a layer, as the launcher counts them."""
    mixer, mlp = layer.mixer, layer.mlp
    if not isinstance(mixer, Attention):
        return 0
    heads, width = int(value_of(mixer.heads)), int(value_of(mixer.head_dim))
    one = mlp.shared if isinstance(mlp, MoE) else mlp
    d = int(value_of(mixer.out.d_out))
    inner = int(value_of(mlp.width * mlp.per_token)) if isinstance(mlp, MoE) else 0
    inner += int(value_of(one.width)) if isinstance(one, MLP) else 0
    return (3 * heads + 2 * int(value_of(mixer.kv_heads))) * width * d + 3 * d * inner


SERVER = Server(NAME, LATEST, OWN, HARDWARE, plan, sizes_of)
memory, kvcache, infer, fit = SERVER.memory, SERVER.kvcache, SERVER.infer, SERVER.fit
