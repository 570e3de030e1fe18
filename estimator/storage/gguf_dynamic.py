"""unsloth's dynamic mixes (``UD-Q4_K_XL``): a model's types are chosen by measurement, so only a range can be said.

Of 14 files whose size is public, none is smaller than 0.91 or larger than 1.13 times the nearest mix of a rule; where
the model has no preset here, the bits a weight of its neighbour in size were compared (benchmarks/dynamic_mixes.py):
R1-0528's Q3_K_XL github.com/unslothai/unsloth/issues/2699; Q4_K_XL of eight Qwen 3.5
github.com/ggml-org/Llama-macOS/pull/63; MiniMax M2.1's huggingface.co/unsloth/MiniMax-M2.1-GGUF/discussions/7; Qwen 3.6
35B's github.com/joryirving/home-ops/pull/9398, its Q5_K_XL and Gemma 4 31B's github.com/ggml-org/llama.cpp/pull/22078;
Qwen3-Next 80B's Q5_K_XL github.com/lemonade-sdk/llamacpp-rocm/pull/88.
"""

from __future__ import annotations

LOW, HIGH = 0.91, 1.13  # of the bytes of the nearest mix


def nearest(name: str, mixes: dict[str, str]) -> str | None:
    """The mix of a rule nearest to a dynamic one: ``q4_k_m`` for ``UD-Q4_K_XL``; None for other names."""
    text = name.strip().lower().replace("-", "_")
    if text in mixes or not (text.startswith("ud_") or text.endswith("_xl")):
        return None
    like = text.removeprefix("ud_").removesuffix("_xl")
    return next((m for m in (like, f"{like}_m", f"{like.removesuffix('_k')}_0") if m in mixes), None)


def said(name: str, mix: str) -> str:
    """What a size in a dynamic mix rests on."""
    return (
        f"{name[:40]}: unsloth measures which types a model bears, no rule says them; counted as {mix}, and published "
        f"files are {LOW:g} to {HIGH:g} times that; --model FILE.gguf reads a file's own"
    )
