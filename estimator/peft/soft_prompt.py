"""Soft prompt: p trained vectors before the input, one side only (the textbook's prompt tuning).

Source: Lester et al. 2021, arXiv 2104.08691, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor
from estimator.stack.prompt import Prompt
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """p vectors of the embedding's width."""
    yield PeftTensor("", "prompt", (prompts.tokens(b), b.arch.hidden))


def encode(s: Prompt) -> Tensor:
    """The vectors themselves, for every sequence."""
    return s.repeated(s.p("prompt"))


METHOD = Method(
    name="soft-prompt",
    title="Soft prompt",
    cite="Lester et al. 2021, arXiv 2104.08691, section 2",
    build=build,
    args={"num_virtual_tokens": None},
    rank="",
    merges=False,
    virtual=True,
    encode=encode,
    simulated=True,
    library=False,
)
