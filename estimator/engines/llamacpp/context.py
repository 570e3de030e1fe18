"""What llama.cpp makes of the sizes that a user asks for: the context, its streams, the micro-batch.

Source: src/llama-context.cpp (llama_context::llama_context), src/llama-kv-cache-iswa.cpp, build 11549.
"""

from __future__ import annotations

from estimator.ops import ceil_div, round_up
from estimator.records import dataclass

PAD = 256  # cells: GGML_PAD(n_ctx, 256)
SMALL_PAD = 32  # the same without flash attention, in builds before PADDED
N_BATCH = 2048  # llama_context_default_params
N_UBATCH = 512
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ: what a context holds at the most
BUILD = 11549  # what everything here was measured on
# from which builds on, as far as public logs tell: MLA's kv_b is written in two parts (pull 12801, April 2025); a cache
# is written by index (August 2025); the quantizer's rule for fused q, k and v is that of values (2026); a gate's
# activation and its product are one node (pull 14158, end of June 2025: the build by its date); a cache is padded alike
# with flash attention and without (pull 16812, end of October 2025, by its date)
LATENT, INDEXED, FUSED, GATED, PADDED = 5140, 6000, 8000, 5780, 6900
# the earliest that was measured, then the first in xllamacpp's wheels whose own sizes show it, and the last without
# (benchmarks/llamacpp_builds.py): an input for embeddings beside the tokens (7710); quantised caches turn (8352);
# masks are f16, a row of logits a sequence (9294); embeddings mix with tokens in a batch (11063; public logs of b11258
# of 1 October 2026 do not show it, and one of the 8th does)
MEASURED, SELECTED, ROTATING, HALVED, MIXED = 7079, 7827, 8672, 9538, 11300
OUTPUT_FIRST = 7450  # --gpu-layers counts the output layer as the first (pull 18148, December 2025, by its date)
POOLING = ("none", "mean", "cls", "last", "cls")  # llama_pooling_type; the last: a ranker
PLAIN = ("f32", "f16", "bf16")  # cache types that are no blocks


@dataclass(frozen=True, slots=True)
class Context:
    """The sizes of a llama.cpp context.

    asked       --ctx-size as given (tokens of all sequences); sequences: --parallel
    n_batch, n_ubatch   --logical-batch and --ubatch-size as given
    k, v        types of the cache; flash: whether the fused attention kernel runs
    swa_full    window caches keep every token; unified: one cache for all sequences
    build       of llama.cpp
    pooling     how an encoder's rows become one a sequence: mean, cls, last or none; "": a decoder, which keeps a cache
    cached      whether an encoder keeps one too, whose batch the context then caps as a decoder's
    outputs     rows of logits in the worst graph, None: all of the micro-batch
    step        the graph of a generated token of every sequence, in the same caches
    """

    asked: int
    sequences: int = 1
    n_batch: int = N_BATCH
    n_ubatch: int = N_UBATCH
    k: str = "f16"
    v: str = "f16"
    flash: bool = True
    swa_full: bool = False
    unified: bool = False
    outputs: int | None = None
    build: int = BUILD
    pooling: str = ""
    cached: bool = False
    step: bool = False

    @property
    def indexed(self) -> bool:
        """Whether the cache is written by row indices, which are inputs."""
        return self.build >= INDEXED

    @property
    def gated(self) -> bool:
        """Whether a gate's activation and its product are one node, which writes over neither."""
        return self.build >= GATED

    @property
    def selected(self) -> bool:
        """Whether embeddings have an input of their own beside the tokens'."""
        return self.build >= SELECTED

    @property
    def halved(self) -> bool:
        """Whether the fused kernel's mask is an input in f16, not a cast of one in f32."""
        return self.build >= HALVED

    @property
    def mixed(self) -> bool:
        """Whether the graph holds a branch for embeddings among tokens."""
        return self.build >= MIXED

    @property
    def batch(self) -> int:
        """Tokens of a logical batch: capped by the context as asked, before it is padded; an encoder's by none."""
        return self.n_batch if self.pooling and not self.cached else min(self.asked, self.n_batch)

    @property
    def ubatch(self) -> int:
        return min(self.batch, self.n_ubatch, self.n_ctx)

    @property
    def tokens(self) -> int:
        """Tokens of the graph that is reserved: the micro-batch in whole sequences."""
        return self.sequences if self.step else int(ceil_div(self.ubatch, self.sequences)) * self.sequences

    @property
    def rows(self) -> int:
        """Rows of logits in that graph."""
        if self.step:
            return self.sequences
        return min(self.ubatch, self.batch if self.outputs is None else self.outputs)

    @property
    def streams(self) -> int:
        """Caches side by side: one a sequence, or one for all."""
        return 1 if self.unified else self.sequences

    @property
    def n_ctx(self) -> int:
        """Cells of all streams."""
        return self.cells * self.streams

    @property
    def cells(self) -> int:
        """Cells of a stream of the full cache."""
        return self.padded(self.padded(self.asked) // self.streams)

    def window_cells(self, window: int) -> int:
        """Cells of a stream of the cache of layers that see ``window`` tokens."""
        if self.swa_full:
            return self.cells
        reach = window * (self.sequences if self.unified else 1) + self.ubatch
        return self.padded(min(self.cells, reach))

    def padded(self, n: int) -> int:
        """``n`` rounded up to whole blocks of cells."""
        return int(round_up(n, PAD if self.flash or self.build >= PADDED else SMALL_PAD))

    def rotation(self, cache: str, width: int) -> int:
        """Side of the matrix that rotates what a quantised cache ("k" or "v") holds in heads of ``width``; 0: none.

        Source: src/llama-kv-cache.cpp (attn_rot_k, attn_rot_v); switched off by LLAMA_ATTN_ROT_DISABLE.
        """
        if self.build < ROTATING or getattr(self, cache) in PLAIN or width % ROTATED:
            return 0
        return widest_rotation(width) if cache == "k" else ROTATED


ROTATED = 64  # the smallest rotation


def widest_rotation(width: int) -> int:
    """Side of the largest rotation, doubled as often as it divides keys of ``width``."""
    side = ROTATED
    while width % (2 * side) == 0:
        side *= 2
    return side
