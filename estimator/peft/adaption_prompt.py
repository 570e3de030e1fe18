"""LLaMA-Adapter: virtual tokens in the attention of the last layers, each with a trained gate.

Sources: Zhang et al. 2023, arXiv 2303.16199; peft 0.21.2, tuners/adaption_prompt/layer.py and config.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import BASE, Build, Method, PeftTensor
from estimator.peft.mappings import ADAPTION_PROMPT
from estimator.peft.modules import containers
from estimator.trace import value_of

DEFAULT_LENGTH = 10  # Zhang et al. 2023, section 4.1


def build(b: Build) -> Iterator[PeftTensor]:
    """adapter_len x d and one gate in each of the last adapter_layers layers."""
    a = b.args
    own = "layers.{i}" if b.arch.textbook else ADAPTION_PROMPT.get(b.arch.model_type)
    if own is None:
        known = "llama, mistral and gpt2"
        raise InputError(
            f"--method adaption_prompt: the peft library has it for {known} only, not {b.arch.model_type!r}"
        )
    names = b.asked()[0]
    name = names[0] if names else own
    holders = [m for m in [*b.known, *containers(b.known)] if m.name == name or m.name.endswith("." + name)]
    count = sum(m.times for m in holders)
    if not holders:
        raise InputError(f"--targets {name}: no such module in {b.model}; the library's own is {own}")
    if count == b.arch.num_layers:
        count = b.arch.num_layers  # keep its letter
    length = a.count("adapter_len") if a.has("adapter_len") else DEFAULT_LENGTH
    if not a.has("adapter_len"):
        b.notes.append(f"adapter_len is not given: {DEFAULT_LENGTH} assumed, as in the paper")
    layers = a.count("adapter_layers") if a.has("adapter_layers") else count
    if not a.has("adapter_layers"):
        b.notes.append("adapter_layers is not given: all layers assumed")
    if layers > count:
        raise a.bad("adapter_layers", f"must be at most the {int(value_of(count))} layers of {b.model}")
    b.virtual_tokens = 0
    where = holders[0].name
    yield PeftTensor(where, "adaption_prompt", (1, length, b.arch.hidden), layers, format=BASE)
    yield PeftTensor(where, "adaption_gate", (1,), layers, format=BASE)


METHOD = Method(
    name="adaption_prompt",
    title="LLaMA-Adapter",
    cite="Zhang et al. 2023, arXiv 2303.16199; peft 0.21.2, tuners/adaption_prompt/layer.py",
    build=build,
    args={"adapter_len": None, "adapter_layers": None},
    accepts="target_modules",
    rank="",
    merges=False,
)
