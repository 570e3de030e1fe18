"""CPT: a prompt of real tokens, frozen, with a trained difference for each.

Sources: Blau et al. 2024, arXiv 2410.17222; peft 0.21.2, tuners/cpt/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft import prompts
from estimator.peft.base import FROZEN, Build, Method, PeftTensor
from estimator.peft.extras import token_count


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
    virtual=True,
)
