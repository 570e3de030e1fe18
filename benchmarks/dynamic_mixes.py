"""Compare public sizes of unsloth's dynamic mixes with the nearest mix of a rule: estimator/storage/gguf_dynamic.py.

python benchmarks/dynamic_mixes.py    a model without a preset is compared by the bits a weight of its neighbour in size
"""

from __future__ import annotations

from estimator.engines.llamacpp.weights import of_mix
from estimator.models import load_model

GIB = 2**30
# (file, bytes, numbers or None for the preset's own, preset or neighbour, mix)
FILES = [
    ("DeepSeek-R1-0528 Q3_K_XL", 296e9, None, "deepseek-v3", "q3_k_m"),
    ("Qwen3-Next-80B Q5_K_XL", 55.45 * GIB, None, "qwen3-next-80b-a3b", "q5_k_m"),
    ("Qwen3.5-0.8B Q4_K_XL", 559e6, 0.758e9, "qwen3-0.6b", "q4_k_m"),
    ("Qwen3.5-2B Q4_K_XL", 1.34e9, 1.89e9, "qwen3-1.7b", "q4_k_m"),
    ("Qwen3.5-4B Q4_K_XL", 2.9e9, 4.21e9, "qwen3-4b", "q4_k_m"),
    ("Qwen3.5-9B Q4_K_XL", 6.0e9, 8.96e9, "qwen3-8b", "q4_k_m"),
    ("Qwen3.5-27B Q4_K_XL", 17.6e9, 26.9e9, "qwen3-32b", "q4_k_m"),
    ("Qwen3.5-35B-A3B Q4_K_XL", 22.2e9, 34.7e9, "qwen3-30b-a3b", "q4_k_m"),
    ("Qwen3.5-122B-A10B Q4_K_XL", 68.4e9, 122e9, "qwen3-235b-a22b", "q4_k_m"),
    ("Qwen3.5-397B-A17B Q4_K_XL", 219.2e9, 397e9, "qwen3-235b-a22b", "q4_k_m"),
    ("Qwen3.6-35B-A3B Q4_K_XL", 21.28 * GIB, 34.66e9, "qwen3-30b-a3b", "q4_k_m"),
    ("Qwen3.6-35B-A3B Q5_K_XL", 24.76 * GIB, 34.66e9, "qwen3-30b-a3b", "q5_k_m"),
    ("Gemma-4-31B Q4_K_XL", 17.46 * GIB, 30.70e9, "gemma-3-27b-text", "q4_k_m"),
]


def ratio(size: float, numbers: float | None, name: str, mix: str) -> float:
    """The file's bytes a number over the mix's."""
    arch = load_model(name).architecture
    whole = float(sum(w.total for w in arch.weights()))
    return size / (numbers or whole) / (float(of_mix(arch, mix, True).total) / whole)


def main() -> None:
    found = sorted((ratio(*row), name) for name, *row in FILES)
    found.append((131 / 138, "MiniMax-M2.1 Q4_K_XL over its own Q4_K_M"))
    for value, name in sorted(found):
        print(f"{value:.3f}  {name}")


if __name__ == "__main__":
    main()
