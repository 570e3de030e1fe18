"""An architecture's tensors as the fixtures of families list them."""

from __future__ import annotations

import re
from collections import Counter

from estimator.families.base import Architecture


def tensors(made: Architecture) -> Counter[tuple[str, tuple[int, ...]]]:
    """(name with indices as {i}, shape) -> how many."""
    out: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for w in made.weights():
        out[re.sub(r"\.\d+(?=\.)", ".{i}", w.name), tuple(int(n) for n in w.shape)] += int(w.times)
    return out
