"""Speculative decoding in an engine: a draft model proposes, the served model verifies all proposals in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from estimator.engines.speed import RequestLoad, Speed
from estimator.engines.stored import stored
from estimator.errors import InputError
from estimator.formulas.decode import expected_tokens
from estimator.formulas.inference import speculative_gain
from estimator.models import load_model
from estimator.report import Node
from estimator.serving.step import decode
from estimator.trace import value_of
from estimator.units import RATIO, SECONDS, TOKEN_RATE, TOKENS
from estimator.work.times import Times


def speculation(
    q: Any, engine: str, speed: Speed, load: RequestLoad, plain: Mapping[str, Any], replicas: int
) -> tuple[Node, str]:
    """The rows of ``--draft-model`` and what they assume (Leviathan et al. 2023).

    q: the question; plain: the seconds of the load without drafts, of which a decode step is shorter with them: the
    prompts of others come with as many tokens.
    """
    sequences, context = load.sequences, load.context
    step, more, every = (
        float(value_of(plain[k])) for k in ("decode_step_seconds", "carried_seconds", "prefill_seconds")
    )
    alpha, gamma = float(q.alpha), int(q.gamma)
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha must be a probability between 0 and 1, got {alpha:g}")
    if not 1 <= gamma <= 1000:
        raise InputError(f"--gamma must be between 1 and 1000 drafted tokens, got {gamma}")
    draft = load_model(q.draft_model) if isinstance(q.draft_model, str) else q.draft_model
    mine, rows, held = speed.serve, max(1, round(sequences)), max(1, round(context))
    if int(value_of(draft.architecture.vocab)) != int(value_of(mine.arch.vocab)):
        raise InputError(f"--draft-model {draft.name}: its vocabulary is not the served model's")
    weights = stored(draft, None, "bf16")
    small = speed.of(replace(mine, arch=draft.architecture, element=weights.element))
    drafted = small.step(sequences, context)
    verified: Times = decode(mine, rows, held, drafted=gamma)
    verify = speed.paced(verified, speed.pace.step)
    tokens = expected_tokens(alpha, gamma) if alpha < 1 else gamma + 1
    gain = speculative_gain(tokens, gamma, drafted, verify, step)
    token = step / float(value_of(gain))
    rate = replicas * sequences * load.new / load.seconds(every, token)
    made = [
        Node("speculative.expected_tokens", "Tokens a pass", tokens, TOKENS),
        Node("speculative.draft_seconds", f"A draft step of {draft.name}", drafted, SECONDS),
        Node("speculative.verify_seconds", f"Verifying {gamma} drafts and one more token", verify, SECONDS),
        Node("speculative.speedup", "Speed-up of decoding", gain, RATIO, formula=speculative_gain),
        Node("speculative.itl_seconds", "Between tokens, prompts of others included", token + more, SECONDS),
        Node("speculative.tokens_per_second", "Generated tokens a second", rate, TOKEN_RATE),
    ]
    memory = (
        "the draft's weights and cache are in the memory, its graphs and trial run are not"
        if engine == "vllm"
        else "the draft's weights and cache are not in the memory"
    )
    said = f"a draft token is accepted with probability {alpha:g}; {memory}"
    return Node.group(f"Speculative decoding: alpha {alpha:g}, {gamma} drafts", made), said
