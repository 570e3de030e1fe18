"""P-tuning: virtual tokens that a small MLP or LSTM rewrites.

Sources: Liu et al. 2021, arXiv 2103.10385; peft 0.21.2, tuners/p_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor

GATES = 4  # of an LSTM cell


def build(b: Build) -> Iterator[PeftTensor]:
    """p vectors; an MLP d -> h -> h -> d, or a bidirectional LSTM and an MLP 2h -> 2h -> d. Only p vectors are
    saved."""
    a = b.args
    p, d = prompts.tokens(b) * prompts.submodules(b), prompts.width(b)
    h = a.count("encoder_hidden_size") if a.has("encoder_hidden_size") else d
    kind = a.choice("encoder_reparameterization_type", "MLP", "LSTM")
    yield PeftTensor("", "embedding.weight", (p, d))
    if kind == "MLP":
        sizes = [(d, h), (h, h), (h, d)]
    else:
        for layer in range(int(a.count("encoder_num_layers"))):
            width = d if layer == 0 else 2 * h
            for way in ("", "_reverse"):
                yield _free(f"lstm_head.weight_ih_l{layer}{way}", (GATES * h, width))
                yield _free(f"lstm_head.weight_hh_l{layer}{way}", (GATES * h, h))
                yield _free(f"lstm_head.bias_ih_l{layer}{way}", (GATES * h,))
                yield _free(f"lstm_head.bias_hh_l{layer}{way}", (GATES * h,))
        sizes = [(2 * h, 2 * h), (2 * h, d)]
    for i, (wide, narrow) in enumerate(sizes):
        yield _free(f"mlp_head.{2 * i}.weight", (narrow, wide))
        yield _free(f"mlp_head.{2 * i}.bias", (narrow,))


def _free(name: str, shape: tuple[Any, ...]) -> PeftTensor:
    """A tensor that is trained but not in the checkpoint."""
    return PeftTensor("", name, shape, saved=False)


METHOD = Method(
    name="p_tuning",
    title="P-tuning",
    cite="Liu et al. 2021, arXiv 2103.10385; peft 0.21.2, tuners/p_tuning/model.py",
    build=build,
    args={
        **prompts.ARGS,
        "encoder_hidden_size": None,
        "encoder_num_layers": 2,
        "encoder_reparameterization_type": "MLP",
    },
    accepts=f"{prompts.FIELDS} encoder_dropout",
    rank="",
    merges=False,
    virtual=True,
)
