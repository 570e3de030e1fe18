"""What llama.cpp keeps between passes: keys and values by layer, recurrent states, the output buffer. All exact.

Source: src/llama-kv-cache.cpp, llama-memory-recurrent.cpp, llama-context.cpp (output_reserve), build 11549.
"""

from __future__ import annotations

from typing import Any

from estimator.dtypes import FORMATS, find_format
from estimator.engines.llamacpp.attention import expanded, value_row
from estimator.engines.llamacpp.context import HALVED, Context
from estimator.engines.llamacpp.indexer import check_indexers
from estimator.engines.llamacpp.passes import size
from estimator.engines.llamacpp.recurrent import check_states, states_of
from estimator.engines.llamacpp.scores import heads_of
from estimator.errors import InputError
from estimator.families.base import Architecture, Attention, Layer, Lookup, StateSpace
from estimator.families.common_gguf import Gguf, blocks, traits, two_sided
from estimator.formulas.llamacpp import gguf_cache_bytes, gguf_state_bytes
from estimator.headers.gguf_meta import MAX_LAYERS
from estimator.records import NamedTuple
from estimator.trace import value_of

UNFUSED = ("f16", "bf16", "f32")  # types of values that lie transposed where the fused kernel does not run
CACHE_TYPES = ("f16", "bf16", "f32", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")


class LayerCache(NamedTuple):
    """What one group of equal layers keeps: ``cells`` of a stream, or 0 for a recurrent state."""

    kind: str
    layers: Any
    bytes: Any
    cells: int


def cells_of(mixer: Attention, gguf: Gguf, context: Context) -> int:
    """Cells of a stream of the cache that this layer reads."""
    if gguf.windows and mixer.cache_window is not None:
        return context.window_cells(int(value_of(mixer.cache_window)))
    return context.cells


def cache_rows(mixer: Attention, arch: Architecture, context: Context) -> tuple[int, int]:
    """Bytes of a token's keys and of its values; an MLA layer keeps its latent as keys alone."""
    h = heads_of(mixer)
    k = FORMATS[_name(context.k)].bytes(h.keys * h.k_width)
    return k, 0 if mixer.mla is not None else FORMATS[_name(context.v)].bytes(value_row(mixer, arch, context.flash))


def indexer_row(mixer: Attention, context: Context) -> int:
    """Bytes of a token's key in the cache of sparse attention's indexer; 0 where there is none."""
    return 0 if mixer.indexer is None else FORMATS[_name(context.k)].bytes(size(mixer.indexer.head_dim))


def kept(layer: Layer, arch: Architecture, gguf: Gguf, context: Context, times: Any = None) -> list[LayerCache]:
    """The cache and the state of ``times`` layers (default: all of the group): one, none, or both (Falcon-H1).

    An encoder-decoder's decoder caches as many layers as its file has blocks.
    """
    n = (blocks(arch) if two_sided(arch) else layer.times) if times is None else times
    if (context.pooling and not context.cached) or (two_sided(arch) and layer.side == "encoder"):
        return []
    out: list[LayerCache] = []
    for mixer in (layer.mixer, layer.second):
        if isinstance(mixer, StateSpace):
            s = states_of(mixer)
            out.append(LayerCache("recurrent", n, gguf_state_bytes(n, context.sequences, s.conv, s.state), 0))
        elif isinstance(mixer, Attention) and not mixer.reuses:
            mixer = expanded(mixer, gguf, context.build)
            cells = cells_of(mixer, gguf, context)
            made = gguf_cache_bytes(n, context.streams, cells, *cache_rows(mixer, arch, context))
            out.append(LayerCache("latent" if mixer.mla is not None else "attention", n, made, cells))
            if mixer.indexer is not None:
                row = indexer_row(mixer, context)
                out.append(LayerCache("indexer", n, gguf_cache_bytes(n, context.streams, cells, row, 0), cells))
    return out


def check(arch: Architecture, context: Context) -> None:
    """InputError for what llama.cpp refuses: too many layers, layers that lack their own input, types not to be
    combined, blocks that divide no head."""
    most = max(int(value_of(arch.num_layers)), sum(int(value_of(x.times)) for x in arch.layers if x.side == "encoder"))
    if most > MAX_LAYERS:  # of either stack
        raise InputError(f"llama.cpp takes at most {MAX_LAYERS} layers, got {most:,}")
    if any(x.wiring == "altup" for x in arch.layers) and not any(isinstance(b, Lookup) for b in arch.beside):
        # n_embd_altup of src/llama-hparams.h is 256, whatever the file's metadata say
        raise InputError("llama.cpp gives every layer of Gemma 3n an input of its own, and this model's are 0 wide")
    if two_sided(arch):
        _check_sides(arch, context)
    rows = context.batch if context.outputs is None else context.outputs
    if context.build >= HALVED and rows < context.sequences:  # output_reserve: n_outputs_max <= cparams.n_outputs_max
        raise InputError(
            f"llama.cpp's program ends where {context.sequences:,} sequences may have {rows:,} rows of logits. "
            f"Give each a row: --outputs all, and --logical-batch and --ctx-size of at least {context.sequences:,}"
        )
    if context.pooling == "mean" and context.rows != context.tokens:
        raise InputError(
            f"--pooling mean: llama.cpp's program ends where it asks for {context.rows:,} rows of {context.tokens:,} "
            "tokens. Give --outputs all, and a --ubatch-size that --parallel divides"
        )
    check_indexers(arch, context)
    for layer in () if context.pooling and not context.cached else arch.layers:
        check_states(arch, layer)
        if not isinstance(layer.mixer, Attention):
            continue
        mixer = expanded(layer.mixer, traits(arch), context.build)
        h = heads_of(mixer)
        if mixer.mla is not None and context.k != context.v:
            raise InputError(
                f"--cache-type-v {context.v}: a latent cache has one type, and --cache-type-k is {context.k}. "
                f"Give both the same type"
            )
        indexed = () if mixer.indexer is None else (("k", context.k, size(mixer.indexer.head_dim)),)
        for flag, kind, width in (("k", context.k, h.k_width), ("v", context.v, h.v_width), *indexed):
            block = FORMATS[_name(kind)].block
            if context.flash and width % block:
                raise InputError(
                    f"--cache-type-{flag} {kind}: its blocks of {block} do not divide heads of {width}. Use f16 or bf16"
                )
    if not context.flash and context.v not in UNFUSED:
        raise InputError(
            f"--cache-type-v {context.v} needs the fused kernel: llama.cpp keeps values transposed without it. "
            "Use --flash-attn on, or f16"
        )


def _check_sides(arch: Architecture, context: Context) -> None:
    """InputError where llama.cpp's graph of a decoder ends the program."""
    encoder = sum(int(value_of(x.times)) for x in arch.layers if x.side == "encoder")
    if blocks(arch) > encoder:
        raise InputError(
            f"llama.cpp loads no decoder with more layers than its encoder: {blocks(arch)}, and {encoder}. "
            "Use --engine transformers"
        )
    if context.streams > 1:
        raise InputError(
            f"--parallel {context.sequences}: llama.cpp adds position biases to one cache alone, and its program ends "
            "with several. Add --kv-unified"
        )


def _name(kind: str) -> str:
    return find_format(kind).name
