"""Where a model drops: after its embeddings, after each branch, on the attention's probabilities.

The probabilities are a config's own; where a config states none, none is counted. Each dropout keeps a mask of a byte
an element (aten native_dropout), and what it drops is kept beside what it was made from. SDPA's fused kernels keep a
seed instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.records import NamedTuple

# what the config classes of transformers call them
EMBEDDING = ("embd_pdrop", "embed_dropout", "hidden_dropout_prob", "embd_dropout")
BRANCH = ("resid_pdrop", "resid_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout", "dropout_rate")
ATTENTION = ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob")


class Dropout(NamedTuple):
    """Whether a training step drops in each place."""

    embedding: bool = False
    branch: bool = False
    attention: bool = False


NO_DROPOUT = Dropout()


def stated(config: Mapping[str, Any]) -> Dropout:
    """What ``config`` (as in config.json) states."""

    def any_of(names: tuple[str, ...]) -> bool:
        found = next((config[n] for n in names if isinstance(config.get(n), (int, float))), 0)
        return bool(found > 0)

    return Dropout(any_of(EMBEDDING), any_of(BRANCH), any_of(ATTENTION))
