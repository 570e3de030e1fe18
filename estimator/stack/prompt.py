"""Virtual tokens before the text's, in place of as many of them (peft's prompt tuning)."""

from __future__ import annotations

from estimator.families.base import Architecture
from estimator.stack.machine import Machine
from estimator.stack.tape import F32, GradFn, Tape, Tensor


def prompted(m: Machine, arch: Architecture, x: Tensor, side: str = "") -> Tensor:
    """peft: the virtual tokens' embeddings before the text's, in place of as many tokens of ``x``."""
    prompt = m.param(f"{side}prompt", m.prompted * arch.hidden, F32, m.training)
    text = Tensor(m.b * (m.s - m.prompted) * arch.hidden, x.w, x.st, x.node)
    del x
    return m.t.emit(
        "embeddings with prompt", m.rows * arch.hidden, text.w, (text, prompt), _prompt_bwd, None, (text.n, prompt.n)
    )


def _prompt_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor | None, ...]:
    text, prompt = node.extra
    made = t.alloc(prompt, F32, "gradient of the prompt")
    return (None if node.ins[0] is None else Tensor(text, g.w, g.st), made)
