"""The completions that a step of reinforcement learning is trained on: their time, which is not the step's.

TRL's GRPOTrainer (1.16, trainer/grpo_trainer.py) generates on each process what it then trains on: a step's
micro-batches of completions at once (steps_per_generation is gradient_accumulation_steps), by transformers' generate
where no vLLM is asked for. The seconds are those of ``llmcalc infer``, of the same model on the same card.
"""

from __future__ import annotations

from typing import Any

from estimator.commands.train.run import Run, money
from estimator.errors import InputError
from estimator.ops import ceil_div
from estimator.questions.read import batch
from estimator.recipes.base import Recipe
from estimator.records import dataclass
from estimator.report import Node, numbers_of
from estimator.sizes import size_option
from estimator.trace import value_of
from estimator.units import HOURS, SECONDS, SECONDS_PER_HOUR, human


@dataclass(frozen=True, slots=True)
class Generated:
    """A step's completions on one GPU: how many, tokens of a prompt and of an answer; seconds, None where not known."""

    count: int
    prompt: int
    answer: int
    seconds: float | None
    why: str = ""


def generated(run: Run, recipe: Recipe, s: Any) -> Generated | None:
    """What a step generates beforehand; None of a recipe that does not. s: tokens of a whole sequence."""
    if not recipe.generates:
        return None
    from estimator.commands.infer.question import Infer
    from estimator.commands.infer.report import answer as served

    q, whole = run.question, int(value_of(s))
    count = int(value_of(batch(q.model, q.batch_size))) * run.accumulation
    asked = q.answer_len
    answer = (
        int(value_of(size_option(q.model, asked, "--answer-len", "answer_len", "length")))
        if asked is not None else int(whole * recipe.scored)
    )  # fmt: skip
    prompt = max(1, whole - answer)
    question = Infer(
        model=q.model, batch_size=count, seq_len=prompt, new_tokens=answer, gpu=q.gpu, engine="transformers"
    )
    try:
        found = numbers_of(served, question)
    except InputError as error:
        return Generated(count, prompt, answer, None, str(error))
    return Generated(count, prompt, answer, float(found["request_seconds"]))


def rows(g: Generated | None, run: Run, spec: Any, total: Any, tokens: Any) -> list[Node]:
    """Hours and dollars of generating the completions of the whole run, beside those of its steps."""
    if g is None or g.seconds is None:
        return []
    steps, gpus = ceil_div(int(value_of(total)), int(value_of(tokens))), int(value_of(run.degrees.gpus))
    hours = g.seconds * steps / SECONDS_PER_HOUR
    paid, _ = money(run.question, spec, dict.fromkeys(("low", "best", "high"), hours * gpus), False)
    parts = [
        Node("generation.seconds", "of one step", g.seconds, SECONDS),
        Node("generation.hours", "of the run", hours, HOURS),
        paid[0]._replace(key="generation.usd", label="Its cost"),
    ]
    return [Node.group("Generating the completions, not in the figures above", parts)]


def said(g: Generated | None, run: Run, found: list[Node]) -> list[str]:
    """What is not in the hours, and what answers it."""
    if g is None:
        return []
    q = run.question
    command = (
        f"llmcalc infer {q.model.name} --gpu {q.gpu} --batch-size {g.count} --seq-len {g.prompt} "
        f"--new-tokens {g.answer}"
    )
    if not found:
        return [f"generating the completions is not in it, and not timed: {g.why}; ask {command} --engine vllm"]
    hours = found[0].children[1].value
    return [
        f"generating the completions is not in it: {human(hours, HOURS)} more by {command} --engine transformers, "
        f"a step's at once, {g.count} a GPU; of vLLM (use_vllm) the same with --engine vllm"
    ]
