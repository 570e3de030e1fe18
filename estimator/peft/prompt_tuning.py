"""Prompt tuning: trained embeddings before the input.

Sources: Lester et al. 2021, arXiv 2104.08691; peft 0.21.2, tuners/prompt_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """p vectors of the model's width; of an encoder-decoder p for each side."""
    rows = prompts.tokens(b) * prompts.submodules(b)
    yield PeftTensor("", "embedding.weight", (rows, prompts.width(b)), stored="prompt_embeddings")


METHOD = Method(
    name="prompt_tuning",
    title="Prompt tuning",
    cite="Lester et al. 2021, arXiv 2104.08691; peft 0.21.2, tuners/prompt_tuning/model.py",
    build=build,
    args=prompts.ARGS,
    accepts=f"{prompts.FIELDS} prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs",
    rank="",
    merges=False,
    wide=True,
    virtual=True,
    simulated=True,
)
