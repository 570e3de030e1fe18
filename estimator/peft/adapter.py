"""Bottleneck adapters: small networks d -> m -> d inside every layer.

Houlsby et al. 2019 (arXiv 1902.00751) place two a layer, after the attention and after the MLP; Pfeiffer et
al. 2021 (arXiv 2005.00247)
one, after the MLP. ``bias`` counts the m + d biases of each, as the papers do; peft has no such method.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.peft.base import Args, Build, Method, Module, PeftTensor, Work

PLACES = {"houlsby": ("attention", "mlp"), "pfeiffer": ("mlp",)}


def build(b: Build) -> Iterator[PeftTensor]:
    """Two matrices d x m an adapter, with biases m and d unless ``bias`` is false."""
    a = b.args
    m = b.rank = a.count("bottleneck")
    places = PLACES[a.choice("variant", *PLACES)]
    if a.has("adapters_per_layer"):
        places = tuple(f"place{i}" for i in range(int(a.count("adapters_per_layer"))))
    d, L = b.arch.hidden, sum(layer.times for layer in b.arch.layers)
    L = b.arch.num_layers if b.arch.num_layers == L else L
    for place in places:
        yield PeftTensor(f"adapter_{place}", "down.weight", (m, d), L)
        yield PeftTensor(f"adapter_{place}", "up.weight", (d, m), L)
        if a.flag("use_bias"):
            yield PeftTensor(f"adapter_{place}", "down.bias", (m,), L)
            yield PeftTensor(f"adapter_{place}", "up.bias", (d,), L)
    b.targets = [Module(f"adapter_{p}.{{i}}", "adapter", d, d, times=L) for p in places]


def work(m: Module, a: Args) -> Work:
    """Down, up, and the addition to the residual stream; it cannot be merged, a nonlinearity lies between."""
    return Work(4 * a["bottleneck"] * m.d_in + m.d_in, 0, 2)


METHOD = Method(
    name="adapter",
    title="Bottleneck adapters",
    cite="Houlsby et al. 2019, arXiv 1902.00751, section 2.1",
    build=build,
    args={"bottleneck": 64, "variant": "houlsby", "use_bias": False, "adapters_per_layer": None},
    rank="bottleneck",
    merges=False,
    work=work,
    library=False,
)
