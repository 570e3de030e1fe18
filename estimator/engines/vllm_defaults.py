"""What vLLM takes where its user says nothing: by version and card, as its wheels have it.

Each rule names the file, the version where it was met, and the last one without it that was read; versions between two
that were read count as the older one.
"""

from __future__ import annotations

from fractions import Fraction

from estimator.engines.asked import ServerAsked, of_version, whole
from estimator.engines.pool import indexer_bytes
from estimator.errors import InputError
from estimator.schemas import GIB

V0 = (0, 8)  # the first version whose default engine is V1
UTILISATION = ((0, 20), Fraction(92, 100)), ((0,), Fraction(9, 10))  # config/cache.py of 0.20.2 and 0.19.0
# sequences at once and tokens a step of the API server: engine/arg_utils.py, get_batch_defaults of 0.19.0
LARGE, SMALL, LARGEST = (1024, 8192), (256, 2048), (1024, 16384)
LARGE_GPU, LARGEST_GPU = 70 * GIB, 160 * GIB
LARGEST_SINCE = (0, 28)  # 0.28.0; not 0.24.0
A100_IS_SMALL = (0, 9)  # 0.9.0; not 0.8.5
# unified memory: the driver says no size (NVML, not supported), which counts as 0 bytes: the starts of 0.11.0, 0.13.0
# and 0.18.1 on one print 2,048 tokens and 256 sequences; since 0.33.0 the card is named
SPARK = "12.1"
# tokens a step: at most those of all sequences, and not less than usual without chunks: 0.12.0; not 0.11.0
BOUNDED = (0, 12)

# V0: prompts in chunks where sequences are longer than this (engine/arg_utils.py of 0.6.3 to 0.7.3, which leaves out
# windows, adapters, drafts, images and AMD), of so many tokens (config.py of 0.6.5 and of 0.6.4)
LONG, CHUNK = 32_768, (((0, 6, 5), 2048), ((0,), 512))

BLOCK = 16  # config/cache.py, DEFAULT_BLOCK_SIZE
SPARSE_BLOCK = 64  # of FlashMLA's sparse kernel: platforms/cuda.py of 0.11.0, backends/mla/flashmla_sparse.py of 0.19.0
# tokens a block of a latent's kernel, newest first: by the card's architecture
# Hopper: FlashMLA's 64 (platforms/cuda.py of 0.8.5 to 0.17.1); since 0.19.0 FlashAttention comes first, but not for fp8
# Blackwell: CUTLASS' 128 (0.10.2, 0.11.0), FlashInfer's 64 (0.17.1), its least, 32 (0.19.0)
LATENT = {
    "9": (((0, 19), BLOCK), ((0, 8), 64), ((0,), BLOCK)),
    "10": (((0, 19), 32), ((0, 17), 64), ((0, 10), 128), ((0,), BLOCK)),
}
LATENT_FP8 = 64  # FlashMLA: backends/mla/flashattn_mla.py of 0.19.0 takes 16 bits alone

LONGEST_CAPTURED, COARSE = 512, (0, 12)  # config/vllm.py, _set_cudagraph_sizes: 16 apart above 256 (0.12.0; not 0.11.0)
BOTH_KINDS = (0, 11)  # FULL_AND_PIECEWISE by default: config/compilation.py of 0.11.0; 0.10.2 captures pieces alone
SPECIALISED = (0, 12)  # cudagraph_specialize_lora: v1/cudagraph_dispatcher.py of 0.12.0; not 0.11.0
HYBRID_PREFIXES = (0, 28)  # hybrids cache prefixes: config/model.py of 0.28.0; not 0.24.0
# kinds of layers in a ratio below this are grouped by the more numerous one: v1/core/kv_cache_utils.py
UNEVEN = ((0, 18), Fraction(3, 2)), ((0, 12), Fraction(5, 4)), ((0,), Fraction(1))  # 0.19.0, 0.12.0 to 0.17.1, 0.11.0


def utilisation(asked: ServerAsked) -> Fraction:
    """``--gpu-memory-utilization`` where it is not given."""
    return of_version(asked, UTILISATION)


def sizes_of(asked: ServerAsked) -> tuple[int, int]:
    """(sequences at once, tokens a step): as given, else the server's defaults by card and version."""
    q = asked.question
    seqs, tokens = _usual(asked)
    if asked.version < V0:
        tokens = of_version(asked, CHUNK) if _in_chunks(asked) else max(asked.length, 2048)
    elif asked.arch.kind != "decoder":  # no chunks: whole prompts
        tokens = max(asked.length, tokens) if asked.version >= BOUNDED else asked.length
    n = whole(q, "max_num_seqs", seqs)
    t = whole(q, "max_num_batched_tokens", min(tokens, n * asked.length) if asked.version >= BOUNDED else tokens)
    if q.max_num_seqs is None:
        n = min(n, t)
    if t < n:  # config/scheduler.py, SchedulerConfig
        raise InputError(f"--max-num-batched-tokens {t:,} is less than --max-num-seqs {n:,}: vLLM does not start")
    if q.max_num_seqs is None or q.max_num_batched_tokens is None:
        asked.said.append(f"{n:,} sequences and {t:,} tokens a step, the server's defaults where not given")
    return n, t


def _in_chunks(asked: ServerAsked) -> bool:
    """Whether V0 takes a long prompt in chunks where nothing is said."""
    q, spec = asked.question, asked.spec
    windows = any(a.window is not None or a.chunk is not None for a in asked.arch.attentions)
    other = q.max_loras or getattr(q, "draft_model", None) or asked.arch.towers or asked.arch.kind != "decoder"
    return asked.length > LONG and not windows and not other and (spec is None or spec.vendor != "AMD")


def _usual(asked: ServerAsked) -> tuple[int, int]:
    spec, total = asked.spec, asked.total or 0
    if asked.version < V0:
        return SMALL
    if total >= LARGEST_GPU and asked.version >= LARGEST_SINCE:
        return LARGEST
    a100 = spec is not None and "a100" in spec.id and asked.version >= A100_IS_SMALL
    spark = spec is not None and spec.compute_capability == SPARK
    return LARGE if total >= LARGE_GPU and not a100 and not spark else SMALL


def block_of(asked: ServerAsked) -> int:
    """Tokens of a block: as given, else what the attention's kernel takes."""
    return whole(asked.question, "block_size", _block(asked))


def _block(asked: ServerAsked) -> int:
    if all(a.mla is None for a in asked.arch.attentions) or asked.spec is None:
        return BLOCK
    if indexer_bytes(asked):
        return SPARSE_BLOCK
    rules = LATENT.get((asked.spec.compute_capability or "").partition(".")[0], (((0,), BLOCK),))
    found = of_version(asked, rules)
    return LATENT_FP8 if found == BLOCK and len(rules) > 1 and asked.kv_fp8 else found


def captured(asked: ServerAsked, sequences: int, tokens: int) -> list[int]:
    """Tokens of every CUDA graph: pieces of all sizes, and whole decode steps of at most ``sequences``; with adapters
    all of them twice, with and without."""
    if asked.question.enforce_eager:
        return []
    most = min(2 * sequences, LONGEST_CAPTURED, tokens) if asked.version >= V0 else sequences
    fine = [n for n in (1, 2, 4, *range(8, 256, 8)) if n <= most]
    sizes = fine + list(range(256, most + 1, 16 if asked.version >= COARSE else 8))
    made = sizes + ([n for n in sizes if n <= sequences] if asked.version >= BOTH_KINDS else [])
    return 2 * made if asked.question.max_loras and asked.version >= SPECIALISED else made
