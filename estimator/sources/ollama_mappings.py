"""Names of Ollama's library where they name one published model: ``llama3.1:8b-instruct-q4_K_M``, ``llama3.1:8b``.

A tag without a mix stands for Ollama's default, which is said as an assumption: Q4_0 for the library's first models,
Q4_K_M since 2024 (its maintainers in github.com/ollama/ollama issues 643, 2495, 4626 and 1543), MXFP4 for gpt-oss. Some
of Ollama's own files keep matrices in f16 that the quantizer would not. A name without a tag is ":latest". Source:
ollama.com/library, the pages of tags.
"""

from __future__ import annotations

import re

from estimator.records import NamedTuple

# name in the library -> size in the tag -> preset
LIBRARY: dict[str, dict[str, str]] = {
    "llama2": {"7b": "llama-2-7b", "13b": "llama-2-13b", "70b": "llama-2-70b"},
    "llama3": {"8b": "llama-3-8b", "70b": "llama-3-70b"},
    "llama3.1": {"8b": "llama-3.1-8b", "70b": "llama-3.1-70b", "405b": "llama-3.1-405b"},
    "llama3.2": {"1b": "llama-3.2-1b", "3b": "llama-3.2-3b"},
    "llama3.3": {"70b": "llama-3.1-70b"},
    "mistral": {"7b": "mistral-7b-v0.3"},
    "mistral-nemo": {"12b": "mistral-nemo-12b"},
    "mistral-large": {"123b": "mistral-large-2407"},
    "mixtral": {"8x7b": "mixtral-8x7b", "8x22b": "mixtral-8x22b-instruct"},
    "gemma": {"2b": "gemma-2b", "7b": "gemma-7b"},
    "gemma3": {"270m": "gemma-3-270m", "1b": "gemma-3-1b", "4b": "gemma-3-4b-text",
               "12b": "gemma-3-12b-multimodal", "27b": "gemma-3-27b-text"},
    "gpt-oss": {"20b": "gpt-oss-20b", "120b": "gpt-oss-120b"},
    "gemma2": {"2b": "gemma-2-2b", "9b": "gemma-2-9b", "27b": "gemma-2-27b"},
    "qwen2": {"0.5b": "qwen2-0.5b", "7b": "qwen2-7b", "72b": "qwen2-72b"},
    "qwen2.5": {f"{n}b": f"qwen2.5-{n}b" for n in ("0.5", "1.5", "3", "7", "14", "32", "72")},
    "qwen3": {f"{n}b": f"qwen3-{n}b" for n in ("0.6", "1.7", "4", "8", "14", "32")}
    | {"30b-a3b": "qwen3-30b-a3b", "235b-a22b": "qwen3-235b-a22b", "30b": "qwen3-30b-a3b", "235b": "qwen3-235b-a22b"},
    "qwen2.5-coder": {f"{n}b": f"qwen2.5-{n}b" for n in ("0.5", "1.5", "3", "7", "14", "32")},  # the same shapes
    "qwen3-coder": {"30b": "qwen3-30b-a3b", "480b": "qwen3-coder-480b-a35b"},
    "deepseek-r1": {"7b": "qwen2.5-7b", "14b": "qwen2.5-14b", "32b": "qwen2.5-32b", "70b": "llama-3.1-70b",
                    "671b": "deepseek-v3"},
    "qwq": {"32b": "qwen2.5-32b"},
    "phi": {"2.7b": "phi-2"},
    "phi4": {"14b": "phi-4"},
    "phi4-mini": {"3.8b": "phi-4-mini"},
    "glm4": {"9b": "glm-4-9b"},
    "olmo2": {"7b": "olmo2-7b"},
    "falcon": {"7b": "falcon-7b", "180b": "falcon-180b"},
    "tinyllama": {"1.1b": "tinyllama-1.1b"},
    "smollm2": {"135m": "smollm2-135m", "1.7b": "smollm2-1.7b"},
    "command-r7b": {"7b": "command-r7b"},
    "aya-expanse": {"8b": "aya-expanse-8b"},
    "granite3.1-dense": {"2b": "granite-3.1-2b", "8b": "granite-3.1-8b"},
    "deepseek-v2": {"16b": "deepseek-v2-lite"},
    "deepseek-v3": {"671b": "deepseek-v3"},
    "codellama": {"34b": "codellama-34b"},
    "nomic-embed-text": {"latest": "nomic-embed-text-v1.5", "v1.5": "nomic-embed-text-v1.5"},
    "mxbai-embed-large": {"latest": "mxbai-embed-large", "335m": "mxbai-embed-large"},
    "all-minilm": {"latest": "all-minilm-l6-v2", "22m": "all-minilm-l6-v2"},
    "bge-m3": {"latest": "bge-m3", "567m": "bge-m3"},
    "starcoder2": {"3b": "starcoder2-3b", "7b": "starcoder2-7b"},
}
# what a name without a tag stands for: the page's tag "latest". Names that are presets' own (llama3, mistral) are these
LATEST = {
    "llama3.1": "8b", "llama3.2": "3b", "llama3.3": "70b", "gemma": "7b", "gemma2": "9b", "gemma3": "4b",
    "gpt-oss": "20b", "qwen2": "7b", "qwen2.5": "7b", "qwen3": "8b", "qwen2.5-coder": "7b", "qwen3-coder": "30b",
    "qwq": "32b", "phi4-mini": "3.8b", "glm4": "9b", "olmo2": "7b", "falcon": "7b", "smollm2": "1.7b",
    "granite3.1-dense": "8b", "starcoder2": "3b",
}  # fmt: skip
EMBEDDERS = ("nomic-embed-text", "mxbai-embed-large", "all-minilm", "bge-m3")  # whose tags are files in f16
DEFAULTS = {"llama2": "q4_0", "llama3": "q4_0", "gpt-oss": "mxfp4_moe"} | dict.fromkeys(EMBEDDERS, "f16")
DEFAULT = "q4_k_m"
_TAG = re.compile(
    r"^(?:ollama/|library/)?([a-z0-9.\-]+):([0-9][0-9a-z.\-]*?|latest|v1\.5)(-[a-z0-9.\-]+?)?"
    r"(?:-(q\d\w*|iq\d\w*|fp16|bf16))?$"
)


class Named(NamedTuple):
    """A preset and a mix of it; ``said``: whether the tag itself says the mix."""

    preset: str
    mix: str
    said: bool


def named(text: str) -> Named | None:
    """What a name of Ollama's library stands for, or None where that is not certain."""
    key = text.strip().lower()
    found = _TAG.match(key if ":" in key else f"{key}:latest")
    if found is None:
        return None
    name, size, words, mix = found.groups()
    sizes = LIBRARY.get(name, {})
    if size == "latest" and not words:
        size = LATEST.get(name, size)
    words = words or ""
    longer = next((s for s in sizes if f"{size}{words}".startswith(s) and s.startswith(size)), size)
    preset = sizes.get(longer)
    if preset is None:
        return None
    return Named(preset, {"fp16": "f16"}.get(mix, mix or DEFAULTS.get(name, DEFAULT)), mix is not None)
