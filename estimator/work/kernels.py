"""What the kernels between the products do, as transformers runs them in eager PyTorch: one kernel an operation.

Elements a kernel reads and writes, each once; read in transformers 5 (models/*/modeling_*.py, activations.py,
loss/loss_utils.py) and in torch's derivatives (tools/autograd/derivatives.yaml). ``n`` is the number of elements of
the tensor; widths are told apart as in :class:`Moves`, and so are kernels over broadcast or permuted tensors. The
numbers are counts of tensors: ``w=3`` reads two and writes one. ``engine`` is a serving engine's set: one kernel a norm
(with its residual), one for the rotary embedding, one for the cache, one an activation.
"""

from __future__ import annotations

from typing import Any

from estimator.trace import value_of
from estimator.work.product import NOTHING, Kernel, Moves

ONE = Moves(w=2, launches=1)  # a kernel that reads a tensor and writes one

# norm kind -> forward, backward, backward of the weight besides, an element
_RMS = (
    # to fp32, square, mean, (+eps, rsqrt), x * root (broadcast), back, weight * (broadcast)
    Moves(f=3, cast=2, launches=8, strided=2),
    # weight *, to fp32, * root, * x and its sum, (the root's), mean expanded, the square's 2 * x (3 kernels), sum, back
    Moves(f=14, cast=2, launches=15, strided=3),
    Moves(w=4, launches=2),
)
_NORMS: dict[str, tuple[Moves, Moves, Moves]] = {
    "rms": _RMS,
    "rms_t5": _RMS,
    # (1 + weight) in fp32, before the conversion
    "rms_plus1": (Moves(f=3, cast=2, launches=10, strided=2), _RMS[1], Moves(f=4, launches=3)),
    # the gate to fp32, silu, product
    "rms_gated": (Moves(f=8, cast=3, launches=11, strided=2), Moves(f=23, cast=3, launches=20, strided=3), _RMS[2]),
    "layer": (Moves(launches=1, welford=1), Moves(w=3, launches=1), Moves(w=2, launches=1)),
    # to fp32, mean, x - mean, square, mean, x - mean, (+eps, rsqrt), x * inverse, weight *, back
    "layer_fp32": (
        Moves(f=4, cast=2, launches=12, strided=4), Moves(f=17, cast=2, launches=18, strided=4), Moves(f=4, launches=2),
    ),
    "none": (Moves(cast=2, launches=3, welford=1), Moves(f=3, cast=2, launches=3), NOTHING),
}  # fmt: skip
# activation -> (forward, backward); one kernel unless transformers writes it out op by op
_ACTIVATIONS: dict[str, tuple[Moves, Moves]] = {
    # half * x; x**3; * c; x + ; * c; tanh; 1 + ; product
    "gelu_new": (Moves(w=18, launches=8), Moves(w=28, launches=11)),
    "gelu_fast": (Moves(w=21, launches=9), Moves(w=30, launches=12)),
    "bloom_gelu": (Moves(w=18, launches=8), Moves(w=28, launches=11)),
    "quick_gelu": (Moves(w=7, launches=3), Moves(w=11, launches=4)),
    "relu2": (Moves(w=4, launches=2), Moves(w=7, launches=3)),
}
_FUSED = (ONE, Moves(w=3, launches=1))
MOE_PERMUTE, MOE_UNPERMUTE = 10, 6  # sort, counts, gathers; weighting, scatter: integrations/moe.py
SCAN_LAUNCHES = 6  # mamba_ssm: causal_conv1d, activation, selective scan, gate and their casts


def norm(name: str, n: Any, kind: str, grad: bool, trained: bool, stream: bool = True) -> Kernel:
    """A normalisation of n elements."""
    forward, backward, weight = _NORMS.get(kind, _RMS)
    back = backward + weight if trained else backward
    return Kernel(name, forward.over(n), back.over(n), grad, stream=stream, engine=ONE.over(n))


def activation(name: str, n: Any, act: str, grad: bool, strided: bool = False, gated: bool = False) -> Kernel:
    """An activation of n elements.

    strided: of a view, one half of a fused gate_up; gated: a serving engine multiplies in the same kernel.
    """
    forward, backward = _ACTIVATIONS.get(act, _FUSED)
    if strided:
        forward, backward = Moves(launches=1, strided=1), Moves(w=1, launches=1, strided=1)
    return Kernel(name, forward.over(n), backward.over(n), grad, engine=NOTHING if gated else ONE.over(n))


def multiply(name: str, n: Any, grad: bool, strided: bool = False) -> Kernel:
    """A product of two tensors of n elements, one of them a view where ``strided``."""
    forward, backward = Moves(w=3, launches=1), Moves(w=6, launches=2)
    if strided:
        forward, backward = Moves(launches=1, strided=1), Moves(w=3, launches=2, strided=1)
    return Kernel(name, forward.over(n), backward.over(n), grad, engine=Moves(w=3 * n, launches=1))


def add(name: str, n: Any, grad: bool) -> Kernel:
    """A residual addition; its backward pass adds the two gradients that meet before it. Keeps nothing."""
    both = Moves(w=3 * n, launches=1)
    return Kernel(name, both, both, grad, keeps=False, stream=True)


def scale(name: str, n: Any, grad: bool) -> Kernel:
    """n elements times a constant."""
    return Kernel(name, ONE.over(n), ONE.over(n), grad, keeps=False, stream=True)


def accumulate(name: str, n: Any, times: int, grad: bool) -> Kernel:
    """Additions of gradients where one tensor fed several products."""
    return Kernel(name, NOTHING, Moves(w=3 * n * times, launches=times), grad, keeps=False)


def rotary(name: str, n: Any, part: Any, style: str, grad: bool) -> Kernel:
    """Rotary embedding of n elements of q and k, ``part`` of them rotated, all of them permuted views.

    Forward: x * cos, -x2 (half), the halves turned and concatenated, * sin, sum. Backward: two products, -x2, the
    slices of the turned halves (each a zeroed tensor that is written to) and their sum, a sum, and the copy into the
    projections' layout.
    """
    whole = n if part is not n else 0  # the unrotated part is concatenated again
    turned = Moves(w=2 * n, launches=1)
    if style == "complex":
        both = Moves(0, 3 * part, 2 * part, 6, whole)
        return Kernel(name, both, both, grad, engine=turned)
    cut = 10 if value_of(whole) else 0  # slices and their sum again
    backward = Moves(w=5 * part + 5 * whole, launches=20 + cut, strided=9 * part // 2 + n + whole)
    forward = Moves(launches=12 if cut else 10, strided=9 * part // 2 + whole)
    return Kernel(name, forward, backward, grad, engine=turned)


def copies(
    name: str, forward: Any, backward: Any, launches: tuple[int, int], grad: bool, engine: Moves = NOTHING
) -> Kernel:
    """Elements written where tensors are rearranged between products: permuted, repeated, concatenated."""
    made = Moves(launches=launches[0], strided=forward), Moves(launches=launches[1], strided=backward)
    return Kernel(name, *made, grad, keeps=False, engine=engine)


def cache(name: str, permuted: Any, contiguous: Any) -> Kernel:
    """The new elements of keys and values written into the cache, from permuted views and from contiguous tensors."""
    forward = Moves(w=2 * contiguous, launches=2, strided=permuted)
    return Kernel(name, forward, grad=False, keeps=False, engine=ONE.over(permuted + contiguous))


def repeat(name: str, wide: Any, narrow: Any, grad: bool) -> Kernel:
    """Grouped keys and values repeated for every query head, from ``narrow`` to ``wide`` elements together."""
    return Kernel(name, Moves(launches=2, strided=wide), Moves(w=wide + narrow, launches=2), grad, keeps=False)


def softmax(name: str, n: Any, capped: bool, grad: bool) -> Kernel:
    """Eager attention between its products: scale, (cap), mask, to fp32, softmax, back; n scores."""
    forward, backward = Moves(5, 2, 2, 5), Moves(2, 3, 2, 4)
    if capped:  # divide, tanh, multiply
        forward, backward = forward + Moves(w=6, launches=3), backward + Moves(w=7, launches=3)
    return Kernel(name, forward.over(n), backward.over(n), grad)


def bias(name: str, n: Any, trained: bool) -> Kernel:
    """A linear layer's bias: added inside the product; its gradient sums n elements."""
    return Kernel(name, NOTHING, Moves(n, launches=1), trained, keeps=False)


def adapter(name: str, d_in: Any, d_out: Any, grad: bool) -> Kernel:
    """Around a LoRA adapter in fp32 over a base of another width: casts, scale, sum (peft, tuners/lora/layer.py).

    The sum of two types is not vectorised (aten/native/cuda/Loops.cuh): it counts as a strided kernel.
    """
    forward = Moves(0, 2 * d_out, d_in + d_out, 4, d_out)
    return Kernel(name, forward, Moves(3 * d_in, 2 * d_out, d_in + 2 * d_out, 5), grad, keeps=False)


def kept(name: str, grad: bool) -> Kernel:
    """Nothing moved besides, but something kept."""
    return Kernel(name, NOTHING, NOTHING, grad)


def dropout(name: str, n: Any, grad: bool) -> Kernel:
    """Dropout of n elements: the input, the output and a mask of one byte each (half an element)."""
    both = Moves(w=5 * n // 2, launches=1)
    return Kernel(name, both, both, grad)


def loss(n: Any, grad: bool) -> Kernel:
    """Cross entropy of n logits: to fp32, log-softmax; backward: zeros, its gradient, back."""
    return Kernel("loss", Moves(0, 2 * n, n, 3), Moves(0, 4 * n, n, 3), grad, keeps=False)


def table(name: str, gathered: Any, size: Any, trained: bool, tied: bool) -> Kernel:
    """An embedding table: rows gathered; its gradient scattered into a table of zeros, and added to a tied head's."""
    forward = Moves(w=2 * gathered, launches=1)
    back = Moves(w=gathered + size + (3 * size if tied else 0), launches=2 if tied else 1)
    return Kernel(name, forward, back, trained, keeps=False, stream=True, engine=forward)


def routing(name: str, n: Any, grad: bool) -> Kernel:
    """A router's n scores to probabilities."""
    return Kernel(name, Moves(5, 2, 2, 5).over(n), Moves(2, 3, 2, 4).over(n), grad, engine=Moves(w=2 * n, launches=2))


def permute(name: str, routed: Any, grad: bool) -> Kernel:
    """``routed`` elements gathered by expert."""
    forward, backward = Moves(launches=MOE_PERMUTE, strided=routed), Moves(w=3 * routed, launches=4)
    return Kernel(name, forward, backward, grad, keeps=False, engine=Moves(w=2 * routed, launches=2))


def unpermute(name: str, routed: Any, n: Any, grad: bool) -> Kernel:
    """The experts' outputs weighted, put back in the tokens' order and summed to n elements."""
    forward = Moves(w=2 * n, launches=MOE_UNPERMUTE, strided=2 * routed)
    backward = Moves(w=5 * routed, launches=5, strided=routed)
    return Kernel(name, forward, backward, grad, engine=Moves(w=2 * routed, launches=2))


def scan(name: str, convolved: Any, inner: Any) -> Kernel:
    """A recurrent mixer through its fused kernels: the convolution and the scan read and write their inputs once."""
    moved = Moves(w=2 * convolved + 4 * inner, launches=SCAN_LAUNCHES)
    return Kernel(name, moved, grad=False, keeps=False, engine=moved)
