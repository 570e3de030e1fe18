"""Where a model drops: after its embeddings, after each branch, on the attention's probabilities.

The probabilities are a config's own; where a config states none, its class's (transformers 5.17). Each dropout keeps a
mask of a byte an element (aten native_dropout), and what it drops is kept beside what it was made from. SDPA's fused
kernels keep a seed instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estimator.records import NamedTuple

# what the config classes of transformers call them
EMBEDDING = ("embd_pdrop", "embed_dropout", "embedding_dropout", "hidden_dropout_prob", "embd_dropout",
             "dropout_rate")  # fmt: skip
INNER = ("activation_dropout", "dropout_rate")
BRANCH = ("resid_pdrop", "resid_dropout", "residual_dropout", "hidden_dropout_prob", "hidden_dropout", "dropout",
          "dropout_rate")  # fmt: skip
ATTENTION = ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob", "dropout_rate")



class Dropout(NamedTuple):
    """Whether a training step drops in each place: after the embeddings, after the attention and the feed-forward
    block, on the attention's probabilities, between the matrices of the feed-forward block, after the last norm.

    ``silent``: every probability was set to 0 (TRL's disable_dropout), an adapter's too, whose module is still there.
    """

    embedding: bool = False
    mixer: bool = False
    branch: bool = False
    attention: bool = False
    inner: bool = False
    final: bool = False
    silent: bool = False


NO_DROPOUT = Dropout()
SKIPPED = "{}: layers are skipped at random; counted is a step that skips none, and one that does needs less"


def skips(config: Mapping[str, Any]) -> list[str]:
    """A sentence where ``config`` states that whole layers are left out of some steps (LayerDrop)."""
    stated = [f"{k} {v}" for k, v in config.items() if k.endswith("layerdrop") and isinstance(v, float) and v > 0]
    return [SKIPPED.format(", ".join(stated))] if stated else []


def stated(config: Mapping[str, Any], own: Mapping[str, str], default: tuple[str, ...]) -> Dropout:
    """What ``config`` (as in config.json) states; ``own``: a place and its field where the family's class differs;
    ``default``: the fields that the class sets above 0 where they are not stated."""

    def any_of(place: str, names: tuple[str, ...]) -> bool:
        names = (own[place],) if place in own else names
        found = next((config[n] for n in names if isinstance(config.get(n), (int, float))), None)
        return found > 0 if found is not None else any(n in default for n in names)

    return Dropout(
        any_of("embedding", EMBEDDING), any_of("mixer", BRANCH), any_of("branch", BRANCH),
        any_of("attention", ATTENTION), any_of("inner", INNER), any_of("final", ()),
    )  # fmt: skip
