"""X-LoRA: frozen LoRA adapters, mixed a token by a trained classifier of the hidden state.

Sources: Buehler and Buehler 2024, arXiv 2402.07148; peft 0.21.2, tuners/xlora/classifier.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from estimator.peft import lora
from estimator.peft.base import FROZEN, Build, Method, PeftTensor

DEFAULT_ADAPTERS = 4


def build(b: Build) -> Iterator[PeftTensor]:
    """n LoRAs (frozen unless ``use_trainable_adapters``) and a classifier hidden -> ... -> n (times the
    adapted modules)."""
    a = b.args
    given = a["adapters"]
    n = len(given) if isinstance(given, dict | list) else a.count("adapters") if given is not None else DEFAULT_ADAPTERS
    if given is None:
        b.notes.append(f"adapters is not given: {DEFAULT_ADAPTERS} LoRA adapters assumed")
    state = "trained" if a.flag("use_trainable_adapters") else FROZEN
    for t in lora.build(b):
        yield t._replace(times=t.times * n, state=state, saved=False)
    hidden = a.count("hidden_size") if a.has("hidden_size") else b.arch.hidden
    if not a.has("hidden_size"):
        b.notes.append("hidden_size is not given: the model's width taken (the library takes 4096)")
    depth, size = a.count("xlora_depth"), a.count("xlora_size")
    out = n * sum(m.times for m in b.targets) if a.flag("layerwise_scalings") else n
    widths = [hidden, *[size] * (int(depth) - 1), out]
    for i, (wide, narrow) in enumerate(itertools.pairwise(widths)):
        yield PeftTensor("", f"internal_xlora_classifier.{i}.weight", (narrow, wide))
        yield PeftTensor("", f"internal_xlora_classifier.{i}.bias", (narrow,))


METHOD = Method(
    name="xlora",
    title="X-LoRA",
    cite="Buehler and Buehler 2024, arXiv 2402.07148; peft 0.21.2, tuners/xlora/classifier.py",
    build=build,
    args={
        **lora.ARGS,
        "adapters": None,
        "hidden_size": None,
        "layerwise_scalings": False,
        "xlora_depth": 1,
        "xlora_size": 2048,
        "use_trainable_adapters": False,
    },
    accepts=f"{lora.ACCEPTS} enable_softmax enable_softmax_topk xlora_dropout_p softmax_temperature "
    f"top_k_lora scaling_pass_value "
    "global_scaling_weight",
    kinds=lora.KINDS,
    mapping="lora",
    merges=False,
    work=lora.work,
)
