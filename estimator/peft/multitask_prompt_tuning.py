"""Multitask prompt tuning: one prompt times a low-rank matrix of each task.

Sources: Wang et al. 2023, arXiv 2303.02861; peft 0.21.2, tuners/multitask_prompt_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """p x d shared, and p x k, k x d for each task."""
    a = b.args
    p, d = prompts.tokens(b) * prompts.submodules(b), prompts.width(b)
    tasks, k = a.count("num_tasks"), a.count("num_ranks")
    b.rank = k
    yield PeftTensor("", "embedding.weight", (p, d))
    yield PeftTensor("", "prefix_task_cols", (tasks, p, k))
    yield PeftTensor("", "prefix_task_rows", (tasks, k, d))


METHOD = Method(
    name="multitask_prompt_tuning",
    title="Multitask prompt tuning",
    cite="Wang et al. 2023, arXiv 2303.02861; peft 0.21.2, tuners/multitask_prompt_tuning/model.py",
    build=build,
    args={**prompts.ARGS, "num_tasks": 1, "num_ranks": 1},
    accepts=f"{prompts.FIELDS} prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs "
    "prompt_tuning_init_state_dict_path prompt_tuning_init_task",
    rank="num_ranks",
    merges=False,
    virtual=True,
)
