"""Prefix tuning: trained keys and values before those of every layer, directly or through an MLP.

Sources: Li and Liang 2021, arXiv 2101.00190; peft 0.21.2, tuners/prefix_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """p x (2 L d_kv); with ``prefix_projection`` p x d_kv and an MLP d_kv -> hidden -> 2 L d_kv, of which only
    the result is saved."""
    a = b.args
    p, L, d = prompts.tokens(b), prompts.layers(b), prompts.key_value_width(b)
    if not a.flag("prefix_projection"):
        yield PeftTensor("", "embedding.weight", (p, L * 2 * d), stored="prompt_embeddings")
        return
    hidden = a.count("encoder_hidden_size") if a.has("encoder_hidden_size") else d
    b.notes.append("with prefix_projection the MLP is trained and dropped: the checkpoint holds p*2*L*d_kv numbers")
    yield PeftTensor("", "embedding.weight", (p, d), saved_extra=p * L * 2 * d - p * d, stored="prompt_embeddings")
    yield PeftTensor("", "transform.0.weight", (hidden, d), saved=False)
    yield PeftTensor("", "transform.0.bias", (hidden,), saved=False)
    yield PeftTensor("", "transform.2.weight", (L * 2 * d, hidden), saved=False)
    yield PeftTensor("", "transform.2.bias", (L * 2 * d,), saved=False)


METHOD = Method(
    name="prefix_tuning",
    title="Prefix tuning",
    cite="Li and Liang 2021, arXiv 2101.00190; peft 0.21.2, tuners/prefix_tuning/model.py",
    build=build,
    args={**prompts.ARGS, "prefix_projection": False, "encoder_hidden_size": None},
    accepts=f"{prompts.FIELDS} init_weights",
    rank="",
    merges=False,
    wide=True,
    recomputes=False,
    virtual=True,
    prefix=True,
    simulated=True,
)
