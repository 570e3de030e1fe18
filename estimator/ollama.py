"""Names of Ollama's library where they name one published model and one mix: ``llama3.1:8b-instruct-q4_K_M``.

A tag without a mix is left out: what it stands for has changed over the years (Q4_0 until 2024, Q4_K_M since), and some
of Ollama's own files keep matrices in f16 that the quantizer would not. Source: ollama.com/library, the pages of tags.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# name in the library -> size in the tag -> preset
LIBRARY: dict[str, dict[str, str]] = {
    "llama2": {"7b": "llama-2-7b", "13b": "llama-2-13b", "70b": "llama-2-70b"},
    "llama3": {"8b": "llama-3-8b", "70b": "llama-3-70b"},
    "llama3.1": {"8b": "llama-3.1-8b", "70b": "llama-3.1-70b", "405b": "llama-3.1-405b"},
    "llama3.2": {"1b": "llama-3.2-1b", "3b": "llama-3.2-3b"},
    "llama3.3": {"70b": "llama-3.1-70b"},
    "mistral-nemo": {"12b": "mistral-nemo-12b"},
    "mixtral": {"8x7b": "mixtral-8x7b", "8x22b": "mixtral-8x22b-instruct"},
    "gemma": {"2b": "gemma-2b", "7b": "gemma-7b"},
    "gemma2": {"2b": "gemma-2-2b", "9b": "gemma-2-9b", "27b": "gemma-2-27b"},
    "qwen2": {"0.5b": "qwen2-0.5b", "7b": "qwen2-7b", "72b": "qwen2-72b"},
    "qwen2.5": {f"{n}b": f"qwen2.5-{n}b" for n in ("0.5", "1.5", "3", "7", "14", "32", "72")},
    "qwen3": {f"{n}b": f"qwen3-{n}b" for n in ("0.6", "1.7", "4", "8", "14", "32")}
    | {"30b-a3b": "qwen3-30b-a3b", "235b-a22b": "qwen3-235b-a22b"},
    "phi4": {"14b": "phi-4"},
    "tinyllama": {"1.1b": "tinyllama-1.1b"},
    "smollm2": {"135m": "smollm2-135m", "1.7b": "smollm2-1.7b"},
    "command-r7b": {"7b": "command-r7b"},
    "aya-expanse": {"8b": "aya-expanse-8b"},
    "granite3.1-dense": {"2b": "granite-3.1-2b", "8b": "granite-3.1-8b"},
    "deepseek-v2": {"16b": "deepseek-v2-lite"},
    "deepseek-v3": {"671b": "deepseek-v3"},
    "codellama": {"34b": "codellama-34b"},
    "starcoder2": {"3b": "starcoder2-3b", "7b": "starcoder2-7b"},
}
_TAG = re.compile(
    r"^(?:ollama/|library/)?([a-z0-9.\-]+):([0-9][0-9a-z.\-]*?)(-[a-z0-9.\-]+?)?-(q\d\w*|iq\d\w*|fp16|bf16)$"
)


class Named(NamedTuple):
    """A preset and a mix of it."""

    preset: str
    mix: str


def named(text: str) -> Named | None:
    """What a name of Ollama's library stands for, or None where that is not certain."""
    found = _TAG.match(text.strip().lower())
    if found is None:
        return None
    name, size, words, mix = found.groups()
    sizes = LIBRARY.get(name, {})
    words = words or ""
    longer = next((s for s in sizes if f"{size}{words}".startswith(s) and s.startswith(size)), size)
    preset = sizes.get(longer)
    return None if preset is None else Named(preset, {"fp16": "f16"}.get(mix, mix))
