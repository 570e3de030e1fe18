"""CPT: a prompt of real tokens, frozen, with a trained difference for each.

Sources: Blau et al. 2024, arXiv 2410.17222; peft 0.21.2, tuners/cpt/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.peft import prompts
from estimator.peft.base import FROZEN, Adapter, Build, Method, PeftTensor
from estimator.peft.extras import token_count
from estimator.stack import ops
from estimator.stack.losses import shifted_loss
from estimator.stack.machine import Machine
from estimator.stack.prompt import Prompt
from estimator.stack.tape import F32, Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """As many vectors frozen as trained; the checkpoint holds their sum."""
    if b.arch.kind != "decoder":
        raise InputError(f"--method cpt: only for causal language models, and {b.model} is an {b.arch.kind}")
    a = b.args
    p = token_count(a["cpt_token_ids"], "cpt_token_ids") if a["cpt_token_ids"] is not None else 1
    for other in ("cpt_mask", "cpt_tokens_type_mask"):
        if a[other] is not None and token_count(a[other], other) != p:
            raise a.bad(other, f"must have as many entries as cpt_token_ids ({p})")
    b.virtual_tokens = p
    d = prompts.width(b)
    yield PeftTensor("", "embedding.weight", (p, d), 1, FROZEN)
    yield PeftTensor("", "delta_embedding.weight", (p, d), saved=False)


def encode(s: Prompt) -> Tensor:
    """CPTEmbedding.forward: the tokens, looked up without a gradient, and their differences; then the same for all."""
    t = s.t
    tokens = t.alloc(s.p("embedding.weight").n, F32, "tokens of the prompt")
    return s.repeated(ops.add(t, tokens, s.embedding("delta_embedding.weight"), "tokens and differences"))


def after(adapter: Adapter, m: Machine, arch: Architecture, loss: Tensor, logits: Tensor | None) -> Tensor:
    """CPTEmbedding.calculate_loss, on the logits that the model has taken its own loss of: a copy of them without the
    last token, in their own format; the model's loss, and what it keeps, goes when the other takes its name."""
    return loss if logits is None else shifted_loss(m, logits, arch)


METHOD = Method(
    name="cpt",
    title="CPT",
    cite="Blau et al. 2024, arXiv 2410.17222; peft 0.21.2, tuners/cpt/model.py",
    build=build,
    args={"cpt_token_ids": None, "cpt_mask": None, "cpt_tokens_type_mask": None},
    accepts=f"{prompts.FIELDS} num_virtual_tokens token_dim num_layers opt_weighted_loss_type "
    f"opt_loss_decay_factor opt_projection_epsilon "
    "opt_projection_format_epsilon tokenizer_name_or_path",
    rank="",
    merges=False,
    wide=True,
    virtual=True,
    encode=encode,
    after=after,
    simulated=True,
)
