"""llama.cpp: GGUF models on the host and on devices. What it allocates is laid out as it lays it out.

The way of a number: options -> :mod:`question` -> :mod:`context` (sizes), :mod:`weights` (bytes by layer) and
:mod:`placement` (what lies where) -> :mod:`load`: :mod:`caches` for what is kept, :mod:`model` for the graph of one
micro-batch (:mod:`attention`, :mod:`feedforward`, :mod:`recurrent` emit ggml's operations into :mod:`graph`), and
:mod:`allocate` for the bytes that the graph needs.
"""
