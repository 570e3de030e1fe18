"""How an engine finds the weights stored: bytes a number of each, and the type that its products run in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from estimator.models import Model
from estimator.records import dataclass
from estimator.same import Same
from estimator.schemas import GpuSpec
from estimator.storage import model_storage, stored_weights
from estimator.storage.layouts import WEIGHT_ONLY
from estimator.storage.products import multiplied_in
from estimator.trace import value_of

# a number's own code; what is left of a weight's bytes are scales and zero points, which are tensors of their own
CODES = (4.0, 2.0, 1.0, 0.5)


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """Bytes an element of every stored weight by its name; ``scheme``: its name, "none" for plain weights.

    products   what most of its bytes are multiplied in (:mod:`estimator.storage.layouts`)
    tiles      (inputs, outputs) that share a scale, of every quantised weight by its name
    """

    scheme: str
    products: str
    element: Mapping[str, float]
    width: float
    notes: tuple[str, ...]
    tiles: Mapping[str, tuple[int, int]]

    def tensors(self, name: str, elements: int) -> tuple[int, ...]:
        """Bytes of the tensors that hold ``elements`` numbers of a weight: its codes, and scales if any."""
        size = self.element.get(name, self.width)
        code = next((c for c in CODES if c <= size), size)
        codes = int(elements * code)
        scales = round(elements * size) - codes
        return (codes, scales) if scales > 0 else (codes,)

    def compute_type(self, spec: GpuSpec, dtype: str) -> str:
        """The type that its matrices are multiplied in on a card; ``dtype``: of the activations."""
        found = multiplied_in(self.products, spec.architecture, dtype)
        return found if spec.peak_flops(found) else dtype


def stored(model: Model, quantization: str | None, dtype: str) -> HeldWeights:
    """The weights of ``model`` in ``quantization`` (None: as its files declare); what is not quantised in ``dtype``."""
    return _stored(Same(model), quantization, dtype)


@lru_cache(maxsize=64)
def _stored(same: Same[Model], quantization: str | None, dtype: str) -> HeldWeights:
    model = same.it
    storage = model_storage(model, quantization, dtype)
    element: dict[str, list[float]] = {}
    products: dict[str, float] = {}
    met: set[int] = set()  # by identity: some are several of the same name and shape
    for part in storage.parts:
        sums = element.setdefault(part.weight.name, [0.0, 0.0])
        sums[0] += float(value_of(part.bytes))
        if part.layout is not None:
            kind = part.layout.products
            products[kind] = products.get(kind, 0.0) + float(value_of(part.bytes))
        if id(part.weight) not in met:
            sums[1] += float(value_of(part.weight.total))
            met.add(id(part.weight))
    plain = stored_weights(model.architecture, "none", dtype).parts[0]
    width = float(value_of(plain.bytes)) / float(value_of(plain.weight.total))
    return HeldWeights(
        storage.scheme, max(products, key=lambda k: products[k]) if products else WEIGHT_ONLY,
        {k: b / n for k, (b, n) in element.items() if n}, width, storage.notes,
        {p.weight.name: p.layout.tile for p in storage.parts if p.layout is not None and any(p.layout.tile)},
    )  # fmt: skip
