"""QLoRA: LoRA on every linear layer over a base stored in NF4. Its adapter is LoRA's own.

Source: Dettmers et al. 2023, arXiv 2305.14314, section 3: adapters on all linear layers; double quantisation: a scale
of 8 bits for 64 weights, one of 32 bits for 256 of them, 4 + 8/64 + 32/(64 * 256) = 4.127 bits a weight.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft import lora
from estimator.peft.base import Build, Method, PeftTensor


def build(b: Build) -> Iterator[PeftTensor]:
    """LoRA's tensors; without named targets, on all linear layers as the paper has it."""
    if b.targets_option is None and b.args["target_modules"] is None:
        b.targets_option = "all-linear"
        b.notes.append("QLoRA adapts all linear layers unless --targets says otherwise (its paper, section 4)")
    b.notes.append(
        "the base model is stored in NF4 with double quantisation, 4.127 bits a weight, unless --quantization says "
        "otherwise"
    )
    yield from lora.build(b)


METHOD = Method(
    name="qlora",
    title="QLoRA",
    cite="Dettmers et al. 2023, arXiv 2305.14314; peft 0.21.2, tuners/lora/bnb.py",
    build=build,
    args=lora.ARGS,
    accepts=lora.ACCEPTS,
    kinds=lora.KINDS,
    work=lora.work,
    mapping="lora",
    library=False,
    simulated=True,
)
