"""Trainable tokens: some rows of the token table, trained beside it.

Source: peft 0.21.2, tuners/trainable_tokens/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import BUFFER, Build, Method, PeftTensor
from estimator.peft.extras import input_embedding, token_count
from estimator.peft.modules import EMBEDDING, LINEAR


def build(b: Build) -> Iterator[PeftTensor]:
    """n rows trained, and their originals as a buffer; a tied head uses the same rows."""
    count = token_count(b.args["token_indices"], "token_indices")
    table = input_embedding(b)
    if b.asked() == (None, None, False):
        b.targets_option = [table.leaf]
    for m in b.match():
        width = m.d_out if m.kind == EMBEDDING else m.d_in
        if m.head and b.arch.tied and table in b.targets:
            continue
        # the state dict shows the rows again under the name of every module that shares the table
        names = (2 if b.arch.kind == "encoder-decoder" else 0) + (1 if b.arch.tied and b.arch.has_head else 0)
        extra = names * count * width if m.name == table.name else 0
        tied = b.arch.head_name if b.arch.tied and b.arch.has_head else ""
        again = ((f"{tied}.trainable_tokens_delta", (count, width), ""),) if tied and extra else ()
        yield PeftTensor(
            m.name, "trainable_tokens_delta", (count, width), m.times, saved_extra=extra, beside=again
        )  # fmt: skip
        yield PeftTensor(m.name, "trainable_tokens_original", (count, width), m.times, BUFFER, saved=False)


METHOD = Method(
    name="trainable_tokens",
    title="Trainable tokens",
    cite="peft 0.21.2, tuners/trainable_tokens/layer.py",
    build=build,
    args={"token_indices": []},
    accepts="target_modules init_weights",
    rank="",
    kinds=(EMBEDDING, LINEAR),
    simulated=True,
)
