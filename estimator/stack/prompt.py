"""Virtual tokens before the text's: what makes them, and where they stand (peft 0.21.2, peft_model.py).

``PeftModelForCausalLM.forward`` looks the text up itself, makes the virtual tokens, and hands the model the embeddings
of both; its locals name them, and the labels of both, until the model has returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimator.stack import algebra, ops
from estimator.stack.adapted import AdapterTensor
from estimator.stack.machine import Machine
from estimator.stack.nn import UNLOGGED, product
from estimator.stack.tape import F32, I64, Param, Tape, Tensor


class Prompt:
    """An encoder of virtual tokens as it runs.

    t, m       the tape, the run
    tokens     virtual tokens that it makes; d: their width
    args       the method's arguments
    """

    __slots__ = ("args", "d", "held", "m", "t", "tokens")

    def __init__(self, m: Machine, args: Any, held: dict[str, AdapterTensor], tokens: Any, d: Any) -> None:
        self.m, self.t, self.args, self.held, self.tokens, self.d = m, m.t, args, held, tokens, d

    def p(self, name: str) -> Param:
        """The encoder's tensor called ``name``: peft makes them in fp32 whatever the model's format."""
        own = self.held[name]
        return self.m.param(f"prompt.{name}", own.n, F32, own.trains and self.m.training)

    def has(self, name: str) -> bool:
        """Whether there is a tensor called ``name``."""
        return name in self.held

    def shape(self, name: str) -> tuple[Any, ...]:
        """The shape of the tensor called ``name``."""
        return self.held[name].shape

    def embedding(self, name: str = "embedding.weight") -> Tensor:
        """Every row of a table, looked up: of one sequence."""
        table = self.p(name)
        return ops.embedding(self.t, table, table.n)

    def linear(self, x: Tensor, name: str) -> Tensor:
        """torch.nn.Linear called ``name``, with its bias."""
        out, width = self.shape(f"{name}.weight")
        return product(
            self.t, x, self.p(f"{name}.weight"), self.p(f"{name}.bias"), x.n // width * out, "virtual tokens",
            part=UNLOGGED,
        )  # fmt: skip

    def repeated(self, x: Tensor) -> Tensor:
        """One sequence's virtual tokens for all of the batch (get_prompt: prompts.repeat(batch_size, 1, 1))."""
        return algebra.repeated(self.t, x, self.m.b)


Encode = Callable[[Prompt], Tensor]


def table(s: Prompt) -> Tensor:
    """PromptEmbedding.forward, of one sequence, then of all."""
    return s.repeated(s.embedding(next(iter(s.held))))


def prompted(m: Machine, x: Tensor, d: Any, decoder: bool = False) -> Tensor:
    """The virtual tokens' embeddings before the text's, in place of as many tokens of ``x``; ``decoder``: those of the
    second side, which were made with the first's."""
    t: Tape = m.t
    if not decoder:
        if m.training:
            m.named_by_caller.append(t.alloc(m.rows, I64, "labels of virtual tokens and text"))
        assert m.encode is not None
        m.prompts = ops.to(t, m.encode(m), x.w)
    assert m.prompts is not None
    own = m.b * m.prompted * d
    prompts = m.prompts if m.prompts.n == own else ops.piece(t, m.prompts, own)
    text = Tensor(x.n // m.rows * (m.rows - m.b * m.prompted), x.w, x.st, x.node)
    del x
    out = ops.cat(t, (prompts, text), "embeddings with prompt")
    m.named_by_caller.append(out)
    return out
