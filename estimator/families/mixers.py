"""Mixers of a layer: attention in its forms, and recurrent ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.families.common_parts import Extra, Indexer, Linear, Norm, Pooling
from estimator.families.feeds import MoE
from estimator.ops import NOTHING
from estimator.records import NamedTuple


class Disentangled(NamedTuple):
    """DeBERTa's scores of relative positions: products of queries or keys with ``rows`` vectors of a table.

    terms: "c2p" (queries with the table), "p2c" (keys with it); linears: their own projections of the table, in order,
    or none where the content's serve.
    """

    rows: Any
    terms: tuple[str, ...]
    linears: tuple[Linear, ...] = ()


class Attention(NamedTuple):
    """Scaled dot-product attention with its projections.

    projections   the Linears in the order of the state dict; fused (``c_attn``) or q, k, v, and the output last in
                  :attr:`out`. MLA's chain (q_a, q_b, kv_a, kv_b) is listed here too, with ``mla`` set.
    heads, kv_heads, head_dim   query heads, key/value heads, width of a query/key head
    v_head_dim    width of a value head where it differs (MLA), else None
    window        sliding window in tokens, or None; chunk: chunked attention (Llama 4), or None
    position      "rope", "learned", "alibi", "relative" (T5) or "none"; rope_dim: rotary part of head_dim
    rope_style    "half" (Llama: rotate_half over q and k), "interleaved" (GPT-J, Cohere, GLM, DeepSeek-V3), "complex"
                  (one complex product in fp32: DeepSeek-V2), "none"
    softcap       True for Gemma 2's tanh soft-capping (no fused kernel)
    sinks         True for gpt-oss's attention sinks
    causal        False for encoders; cross: keys and values come from the encoder
    norms         q/k norms and MLA's latent norms, as Norms
    mla           dict of the MLA sizes (q_rank, kv_rank, nope, rope, v) or None
    window_cached False where the cache holds all tokens in spite of the window (GPT-Neo)
    cached_heads  heads that the cache really holds where it is not kv_heads (falcon's new decoder), else None
    gate          True where the output is gated by sigmoid (Qwen3-Next)
    indexer       of sparse attention (DeepSeek-V3.2), or None
    reuses        True where keys and values are those of an earlier layer (Gemma 3n, 4): no projections of its own
    form          which code computes it: "interface" (transformers' attention interface), or what a modeling file
                  writes out itself: "broadcast" (Falcon: SDPA without grouped queries), "alibi" (BLOOM: scores added
                  onto the alibi), "alibi_fp32" (MPT), "fp32_scores" (GPT-J), "fp32_scores_masked" (GPT-Neo: with a
                  causal buffer), "sinks" (gpt-oss)
    sdpa          False where transformers has no fused attention for the class
    softmax       of the eager path: "fp32", or "scores" for the width of the scores
    floored       masked scores are kept above the smallest number by torch.max, which saves them (XGLM)
    rotary        how q and k are turned: "whole", "joined" (what is turned is concatenated with the rest, even where
                  there is no rest), "fp32" (in an fp32 copy for each use), "widened" (in one: Cohere), "promoted" (by
                  tables in fp32: OLMo)
    disentangled  DeBERTa's further scores, or None
    pool          what pools older tokens into further keys (DeepSeek-V4), or None
    taken         how a fused projection is taken apart: "columns" (split), "slices" (one after the other: Phi-3),
                  "heads" (within each head: GPT-NeoX)
    joint         True where the keys are the values too, and cached once
    routed        experts that make the queries and take the heads in place of ``out`` (JetMoE), or None
    pairs         True where each layer writes every number of the tables twice, for pairs (GLM, Helium, ERNIE 4.5)
    table         rows of a table of sines and cosines that each layer holds and picks from by position (GPT-J), or None
    query_scale   where queries are multiplied with a number: "projected" (before the heads: OPT), "parts" (both parts
                  of MLA's, and the latent too: LongCat-Flash), "rotated"
                  (after the rotary embedding: Ministral 3), or "" (the kernel scales)
    normed        when each head of q and k is normalised: "viewed" (before the heads are transposed), "transposed"
                  (Gemma 3), "rotated" (after the rotary embedding: Hunyuan, Llama 4)
    copied        True where queries, keys and values are copied head by head (Whisper)
    out_norm      a Norm between the heads and the output matrix (BitNet), or None
    out_gate      a Linear whose sigmoid gates the heads (AFM: every number; Laguna: one a head), or None
    mask          "needed" (made where the kernel cannot do without), "always" (Falcon: made for every pass), "boolean"
                  (MPT: turned into a boolean one for the eager path)
    """

    projections: tuple[Linear, ...]
    out: Linear
    heads: Any
    kv_heads: Any
    head_dim: Any
    v_head_dim: Any = None
    window: Any = None
    chunk: Any = None
    position: str = "rope"
    rope_dim: Any = None
    rope_style: str = "half"
    softcap: bool = False
    sinks: bool = False
    causal: bool = True
    cross: bool = False
    norms: tuple[Norm, ...] = ()
    extras: tuple[Extra, ...] = ()
    mla: dict[str, Any] | None = None
    cached_heads: Any = None
    gate: bool = False
    window_cached: bool = True
    indexer: Indexer | None = None
    reuses: bool = False
    form: str = "interface"
    sdpa: bool = True
    softmax: str = "fp32"
    floored: bool = False
    rotary: str = "whole"
    pairs: bool = False
    table: Any = None
    query_scale: str = ""
    normed: str = "viewed"
    copied: bool = False
    out_norm: Norm | None = None
    out_gate: Linear | None = None
    mask: str = "needed"
    disentangled: Disentangled | None = None
    pool: Pooling | None = None
    taken: str = "columns"
    joint: bool = False
    routed: MoE | None = None

    @property
    def cache_window(self) -> Any:
        """The window that bounds this layer's cache, or None."""
        return (self.window if self.window is not None else self.chunk) if self.window_cached else None

    def parts(self) -> tuple[Any, ...]:
        further = self.disentangled.linears if self.disentangled else ()
        more: tuple[Any, ...] = tuple(x for x in (self.out_gate, self.out_norm) if x is not None)
        more += self.indexer.parts() if self.indexer else ()
        more += self.pool.parts() if self.pool else ()
        ends = (self.out,) if self.routed is None else self.routed.parts()
        return (*self.projections, *ends, *further, *self.norms, *more, *self.extras)


class StateSpace(NamedTuple):
    """A recurrent mixer: Mamba, Mamba 2, Falcon-Mamba, Qwen3-Next's gated delta net.

    kind          "selective" (Mamba's scan, token by token), "chunked" (Mamba 2's, in blocks), "gated_delta",
                  "short_conv" (LFM2: a gated convolution), "lightning" (MiniMax: conv_width * conv_kernel: its state),
                  "channel_delta" (Kimi: the delta rule, each channel decaying by itself), "time_mix" (RWKV), "rg_lru"
                  (Griffin), and of llama.cpp's graphs alone "wkv6" (RWKV 6), "gated_linear" (QRWKV 6) and "wkv7"
                  (RWKV 7), whose conv_kernel is how many last inputs a layer keeps; sizes["kept"]: tokens that the
                  convolution keeps, where it is not conv_kernel
    linears       its matrices in state-dict order; conv its convolution weights; extras A_log, D, dt_bias
    inner         inner width; state: state size; conv_width: channels of the convolution; conv_kernel
    heads, head_dim, groups, and the delta net's key heads and widths, in ``sizes``; sizes["tried"]: in training the
    class first offers the whole mixer to one fused kernel, and converts that one's arguments, also where it is missing
    one_kernel    whether a library that transformers calls has a kernel for its recurrence
    """

    kind: str
    linears: tuple[Linear, ...]
    extras: tuple[Extra, ...]
    norms: tuple[Norm, ...]
    inner: Any
    state: Any
    conv_width: Any
    conv_kernel: Any
    sizes: Mapping[str, Any] = NOTHING
    one_kernel: bool = True

    def parts(self) -> tuple[Any, ...]:
        return (*self.extras, *self.linears, *self.norms)
