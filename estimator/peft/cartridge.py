"""Cartridge: a trained KV cache of virtual tokens, the first of which stay frozen.

Sources: Eyuboglu et al. 2025, arXiv 2506.06266; peft 0.21.2, tuners/cartridge/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import prompts
from estimator.peft.base import FROZEN, Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """(p - frozen) x 2 L d_kv trained, frozen x 2 L d_kv beside."""
    p, L, d = prompts.tokens(b), prompts.layers(b), prompts.key_value_width(b)
    frozen = b.args.count("num_frozen_tokens", 0)
    if frozen > p:
        raise b.args.bad("num_frozen_tokens", f"must be at most num_virtual_tokens={int(p)}")
    yield PeftTensor("", "trainable_embedding", (p - frozen, L * 2 * d))
    if frozen > 0:
        yield PeftTensor("", "frozen_embedding", (frozen, L * 2 * d), 1, FROZEN)


METHOD = Method(
    name="cartridge",
    title="Cartridge",
    cite="Eyuboglu et al. 2025, arXiv 2506.06266; peft 0.21.2, tuners/cartridge/model.py",
    build=build,
    args={**prompts.ARGS, "num_frozen_tokens": 1},
    accepts=prompts.FIELDS,
    rank="",
    merges=False,
    wide=True,
    recomputes=False,
    virtual=True,
    prefix=True,
    simulated=True,
)
