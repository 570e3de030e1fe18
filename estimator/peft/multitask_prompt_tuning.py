"""Multitask prompt tuning: one prompt times a low-rank matrix of each task.

Sources: Wang et al. 2023, arXiv 2303.02861; peft 0.21.2, tuners/multitask_prompt_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.prompt import Prompt
from estimator.stack.tape import F32, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """p x d shared, and p x k, k x d for each task."""
    a = b.args
    p, d = prompts.tokens(b) * prompts.submodules(b), prompts.width(b)
    tasks, k = a.count("num_tasks"), a.count("num_ranks")
    b.rank = k
    yield PeftTensor("", "embedding.weight", (p, d))
    yield PeftTensor("", "prefix_task_cols", (tasks, p, k))
    yield PeftTensor("", "prefix_task_rows", (tasks, k, d))


def encode(s: Prompt) -> Tensor:
    """MultitaskPromptEmbedding.forward: the shared prompt of every sequence, multiplied in place with the product of
    its task's two factors. What a product in place keeps of its first factor is a copy."""
    t, b = s.t, s.m.b
    x = ops.embedding(t, s.p("embedding.weight"), b * s.p("embedding.weight").n)
    p, k = s.shape("prefix_task_cols")[1:]
    cols, rows = (algebra.op(t, "of the tasks", b * n, F32, (s.p(f"prefix_task_{of}"),))
                  for of, n in (("cols", p * k), ("rows", k * s.d)))  # fmt: skip
    change = algebra.mm(t, cols, rows, x.n, "prompts of the tasks")
    before = t.alloc(x.n, x.w, "prompt, cloned")
    out = Tensor(x.n, x.w, x.st)
    t.record(out, (x, change), ops.mul_bwd, (change.st, before.st), ((x.n, x.w), (change.n, change.w)))
    return out


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
    wide=True,
    virtual=True,
    encode=encode,
    both=True,
    simulated=True,
)
