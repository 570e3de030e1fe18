"""Bytes that a llama.cpp context keeps: keys and values, recurrent states, logits."""

from __future__ import annotations

from typing import Any

from estimator.formula import formula
from estimator.units import BYTES

FP32_BYTES = 4


@formula(unit=BYTES, cite="llama.cpp src/llama-kv-cache.cpp, build 11549")
def gguf_cache_bytes(layers: Any, streams: Any, cells: Any, k_row: Any, v_row: Any) -> Any:
    """A row of keys and a row of values a cell, in the bytes of their types, for every stream and layer."""
    return layers * streams * cells * (k_row + v_row)


@formula(unit=BYTES, cite="llama.cpp src/llama-memory-recurrent.cpp, build 11549")
def gguf_state_bytes(layers: Any, sequences: Any, conv: Any, state: Any) -> Any:
    """The convolution's kept inputs and the state, in fp32, for every sequence and layer."""
    return layers * sequences * FP32_BYTES * (conv + state)


@formula(unit=BYTES, cite="llama.cpp src/llama-context.cpp output_reserve, build 11549")
def gguf_output_bytes(sequences: Any, V: Any, embedding: Any = 0) -> Any:
    """The logits of one token a sequence in fp32, kept on the host; of an encoder an embedding beside them."""
    return sequences * (V + embedding) * FP32_BYTES
