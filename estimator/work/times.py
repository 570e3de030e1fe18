"""Seconds of a pass: a fold over the list of its products and kernels with what one accelerator takes for each.

The operations of a layer run one after the other, so their times add up; the host launches them meanwhile, and where
it is slower, it decides. Training steps, prefills and decode steps are all folded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any

from estimator.alike import add_up
from estimator.ops import maximum
from estimator.records import dataclass
from estimator.roofline import BF16, Accelerator
from estimator.stack.moves import Kernel
from estimator.trace import value_of
from estimator.work import product as p
from estimator.work.folds import moved_elements
from estimator.work.product import FP32_BYTES, Product

COMPUTE, MEMORY, CACHE, LAUNCH, LINK = "compute", "memory", "cache", "launch", "communication"
PRODUCTS, ADAPTERS, ATTENTION, ELEMENTWISE, OPTIMIZER, KERNELS, LINKS, CACHED, ROUTING = (
    "products", "adapters", "attention", "elementwise", "optimizer", "kernels", "links", "cache", "routing",
)  # fmt: skip
STREAM = ("layer", "embedding", "final norm")  # the residual stream, whole on all accelerators but those of How.stream
WIDE = ("fp32", "tf32")  # what a machine multiplies in whose products in fp32 are like all others
UNPACK_ROWS = 1  # bitsandbytes MatMul4Bit: a single row is multiplied with the packed matrix, more with an unpacked one


@dataclass(frozen=True, slots=True)
class How:
    """How a list of operations is executed.

    width     bytes of an activation's element in a product
    element   bytes an element of a product's stored weight
    shards    tensor-parallel accelerators that share every product; stream: those that share the residual stream's
              tokens
    adapters32  adapters multiply in fp32, as peft keeps them over a narrower base: no tensor cores without TF32
    every_pair  attention computes the pairs beyond a window too (transformers passes a mask)
    decode    keys and values come from the cache, whose bytes are counted by the caller
    unpack    packed weights are unpacked before each product of more than one row
    fused_scan  the recurrent state stays on the chip
    autograd  the host records every operation for a backward pass
    experts   expert-parallel accelerators: each holds so many times fewer experts, with as many more rows;
              each_expert: tensor-parallel accelerators that share each
    together  data-parallel ranks that share MLPs and the output matrix too, each with rows of its own
    layers    layers whose Python the host runs beside its launches; 0 for an engine without such modules
    """

    width: float = BF16
    element: Callable[[Product], float] | None = None
    shards: Any = 1
    stream: Any = 1
    adapters32: bool = False
    every_pair: bool = True
    decode: bool = False
    unpack: bool = False
    fused_scan: bool = False
    autograd: bool = False
    experts: Any = 1
    each_expert: Any = None
    together: Any = 1
    layers: Any = 0

    def bytes_of(self, q: Product) -> float:
        """Bytes an element of the weight that a product reads."""
        return self.element(q) if self.element is not None else self.width


@dataclass(slots=True)
class Times:
    """Seconds of a pass by what they are spent on and what bounds them, and its ideal roofline.

    launches: kernels; host: seconds in which the host launches them (0 where a CUDA graph does).
    """

    parts: dict[tuple[str, str], Any] = field(default_factory=dict)
    flops: Any = 0
    launches: Any = 0
    host: Any = 0
    ideal: Any = 0

    def add(self, what: str, bound: str, seconds: Any) -> None:
        self.parts[what, bound] = self.parts.get((what, bound), 0) + seconds

    def of(self, *what: str) -> Any:
        """Seconds spent on these things."""
        return add_up(v for (name, _), v in self.parts.items() if name in what)

    @property
    def by_bound(self) -> dict[str, Any]:
        """Seconds by what bounds them."""
        out: dict[str, Any] = {}
        for (_, bound), v in self.parts.items():
            out[bound] = out.get(bound, 0) + v
        return out

    @property
    def device(self) -> Any:
        """Seconds that the accelerator is busy."""
        return add_up(self.parts.values())

    @property
    def total(self) -> Any:
        """The accelerator's seconds, or the host's where it takes longer."""
        return maximum(self.device, self.host)

    @property
    def bound(self) -> str:
        """What takes the largest part: compute, memory, cache, launch or communication."""
        if value_of(self.host) > value_of(self.device):
            return LAUNCH
        found = self.by_bound
        return max(found, key=lambda k: float(value_of(found[k])))


def times(operations: Iterable[Product | Kernel], machine: Accelerator, how: How) -> Times:
    """Seconds of all passes of ``operations`` (forward, recomputed, backward) on ``machine``."""
    out = Times()
    for q in operations:
        if isinstance(q, Kernel):
            _kernel(out, q, machine, how)
        elif q.times and q.count:
            _product(out, q, machine, how)
    out.add(KERNELS, LAUNCH, out.launches * machine.fixed)
    out.host = out.launches * (machine.launch_gradient if how.autograd else machine.launch)
    if value_of(how.layers):
        out.host = out.host + how.layers * machine.launch_layer + machine.launch_pass
    return out


def _kernel(out: Times, q: Kernel, machine: Accelerator, how: How) -> None:
    _, where, _, n, launches, moved, strided, welford, _ = q
    seconds = n * machine.kernel(moved, strided, welford)
    out.launches = out.launches + n * launches
    shards = how.stream if where in STREAM else how.shards
    out.add(ELEMENTWISE, MEMORY, seconds if shards == 1 else seconds / shards)


def _product(out: Times, q: Product, machine: Accelerator, how: How) -> None:
    """One product: its forward passes, its gradients, and the ideal of both."""
    forward = 0 if q.operator == "backward" else 1 + q.recomputed
    out.launches = out.launches + q.launches
    stored = how.bytes_of(q)
    unpacked = how.unpack and q.weight and stored < BF16 and value_of(q.m) > UNPACK_ROWS
    element = BF16 if unpacked else stored
    own, more = _own(q, how), _more(q, how)
    read = own if value_of(more) == 1 else own / more
    moved = _moved(q, how, element, read)
    flops = q.flops(causal=True) / how.shards
    ideal = machine.ideal(flops, 0 if how.decode and q.part == p.ATTENTION else moved)
    out.ideal = out.ideal + q.times * (forward - q.recomputed + q.left + q.right) * ideal
    out.flops = out.flops + q.times * forward * flops
    if q.wide and machine.dtype not in WIDE:
        every = q.times * (forward + q.left + q.right)
        out.add(ATTENTION, COMPUTE, every * machine.batched32(q.flops() / how.shards))
        return
    if q.operator == "sdpa":
        out.add(ATTENTION, COMPUTE, q.times * _attention(q, machine, how, forward) / how.shards)
        return
    seconds, bound = _once(q, machine, how, element * read, moved, own, more)
    narrow = how.adapters32 and q.part == p.ADAPTER
    runs: Any = forward
    if gradients := q.gradients:
        runs = forward + (gradients if narrow else gradients / machine.backward(q.k, q.n))
    what = ATTENTION if q.part == p.ATTENTION else ADAPTERS if narrow else PRODUCTS
    out.add(what, bound, q.times * runs * seconds)
    if unpacked:
        uses = q.times * (forward + int(q.left))
        out.add(ELEMENTWISE, MEMORY, uses * machine.stream(q.weight * (stored + BF16)) / how.shards)


def _moved(q: Product, how: How, element: float, read: Any) -> Any:
    """Bytes that one pass of one layer's product reads and writes; read: elements of its stored weights that the
    accelerators of a tensor group read."""
    width = FP32_BYTES if how.adapters32 and q.part == p.ADAPTER else how.width
    if q.part == p.SCAN and how.fused_scan:
        return 0
    weights = (element if width == how.width else width) * read
    return (width * (moved_elements(q) - q.weight) + weights) / how.shards


def _own(q: Product, how: How) -> Any:
    """Elements of a product's stored weights that the ranks of one expert hold: of one expert or more."""
    if q.operator != "experts" or how.experts == 1:
        return q.weight
    return maximum(q.weight / how.experts, q.k * q.n)


def _more(q: Product, how: How) -> Any:
    """How many times wider than the tensor group a product's weights are cut: others bring as many more rows."""
    if q.operator == "experts" and how.each_expert is not None:
        return how.each_expert / how.shards
    return how.together if q.part in (p.MLP, p.HEAD) else 1


def _once(
    q: Product, machine: Accelerator, how: How, matrix: Any, moved: Any, own: Any, more: Any
) -> tuple[Any, str]:
    """(seconds of one pass of one layer's product, what bounds it).

    matrix: bytes of its stored weights that are read; moved: all its bytes; own, more: of :func:`_own`, :func:`_more`.
    """
    if how.adapters32 and q.part == p.ADAPTER:
        return machine.simt(q.flops() / how.shards, moved), MEMORY
    if q.operator == "conv":
        return machine.stream(moved), MEMORY
    if not q.weight:
        compute, arrive = machine.gemm(q.m, q.k, q.n, q.count / how.shards), machine.stream(moved)
    else:
        # every expert that is chosen multiplies its own share of the rows
        chosen = own / (q.k * q.n) if q.operator == "experts" else 1
        m, shards = q.m / chosen, how.shards
        if value_of(more) != 1:
            m, shards = m * more, shards * more
        compute = machine.gemm(m, q.k, q.n / shards, q.count * chosen)
        arrive = machine.arrive(matrix / how.shards, m, moved)
    return maximum(compute, arrive), MEMORY if arrive > compute else COMPUTE


def _attention(q: Product, machine: Accelerator, how: How, forward: int) -> Any:
    """Seconds of one layer's fused attention kernel, the share of its scores or of its values."""
    scores = q.pairs_of == "n"
    pairs, width = _pairs(q, how) * q.count, q.k if scores else q.n
    seconds = forward * machine.attention(pairs, width, int(scores))
    if q.gradients:
        seconds += machine.attention(pairs, q.gradients * width, int(scores))
    return seconds


def _pairs(q: Product, how: How) -> Any:
    """Query-key pairs that the kernel computes: with a window, transformers passes a mask and all are computed."""
    every = q.m * (q.n if q.pairs_of == "n" else q.k)
    if q.pairs is None or (how.every_pair and q.pairs < q.m * (q.m + 1) // 2):
        return every
    return q.pairs
