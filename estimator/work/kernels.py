"""What the kernels between the products move, as transformers runs them in eager PyTorch: one kernel an operation.

Elements a kernel reads and writes, each once; read in transformers 5 (models/*/modeling_*.py, activations.py,
loss/loss_utils.py) and in torch's derivatives. ``n`` is the number of elements of the tensor; widths are told apart
as in :class:`Moves`. The numbers are counts of tensors: ``w=3`` reads two tensors and writes one.
"""

from __future__ import annotations

from typing import Any

from estimator.work.product import NOTHING, Kernel, Moves

# norm kind -> (forward, backward, backward of the weight besides), each (w, f, cast, launches) a tensor element
# rms: x to fp32, square, mean, times the root, back, times the weight; its backward is the chain rule op by op
_NORMS: dict[str, tuple[tuple[int, int, int, int], tuple[int, int, int, int], tuple[int, int, int, int]]] = {
    "rms": ((2, 5, 2, 8), (2, 17, 2, 14), (4, 0, 0, 2)),
    "rms_t5": ((2, 5, 2, 8), (2, 17, 2, 14), (4, 0, 0, 2)),
    "rms_plus1": ((0, 7, 2, 9), (0, 19, 2, 16), (0, 4, 0, 2)),
    "rms_gated": ((2, 10, 2, 11), (2, 26, 2, 20), (4, 0, 0, 2)),
    "layer": ((2, 0, 0, 1), (3, 0, 0, 1), (0, 0, 0, 1)),
    "layer_fp32": ((0, 11, 2, 9), (0, 31, 2, 18), (0, 4, 0, 2)),
    "none": ((0, 2, 2, 3), (0, 3, 2, 3), (0, 0, 0, 0)),
}
# activation -> (forward, backward) as (tensors moved, launches); one fused kernel unless written out in Python
_ACTIVATIONS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "gelu_new": ((18, 8), (28, 11)),
    "gelu_fast": ((18, 8), (28, 11)),
    "bloom_gelu": ((18, 8), (28, 11)),
    "quick_gelu": ((7, 3), (11, 4)),
    "relu2": ((4, 2), (7, 3)),
}
_FUSED = ((2, 1), (3, 1))


def norm(name: str, n: Any, kind: str, grad: bool, trained: bool) -> Kernel:
    """A normalisation of n elements."""
    forward, backward, weight = _NORMS.get(kind, _NORMS["rms"])
    w, f, cast, launches = (b + (v if trained else 0) for b, v in zip(backward, weight, strict=True))
    return Kernel(
        name,
        Moves(forward[0] * n, forward[1] * n, forward[2] * n, forward[3]),
        Moves(w * n, f * n, cast * n, launches),
        grad,
        stream=True,
    )


def activation(name: str, n: Any, act: str, grad: bool) -> Kernel:
    """An activation of n elements."""
    forward, backward = _ACTIVATIONS.get(act, _FUSED)
    return Kernel(name, Moves(forward[0] * n, launches=forward[1]), Moves(backward[0] * n, launches=backward[1]), grad)


def multiply(name: str, n: Any, grad: bool) -> Kernel:
    """A product of two tensors of n elements."""
    return Kernel(name, Moves(3 * n, launches=1), Moves(6 * n, launches=2), grad)


def add(name: str, n: Any, grad: bool) -> Kernel:
    """A residual addition; its backward pass adds the two gradients that meet before it. Keeps nothing."""
    return Kernel(name, Moves(3 * n, launches=1), Moves(3 * n, launches=1), grad, keeps=False, stream=True)


def accumulate(name: str, n: Any, times: int, grad: bool) -> Kernel:
    """Additions of gradients where one tensor fed several products."""
    return Kernel(name, NOTHING, Moves(3 * n * times, launches=times), grad, keeps=False)


def rotary(name: str, n: Any, part: Any, style: str, grad: bool) -> Kernel:
    """Rotary embedding of n elements of q and k, ``part`` of them rotated: half turned, two products, a sum."""
    whole = 0 if part is n else 2 * n  # the unrotated part is concatenated again
    if style == "complex":
        return Kernel(name, Moves(whole, 3 * part, 2 * part, 6), Moves(whole, 3 * part, 2 * part, 6), grad)
    return Kernel(name, Moves(10 * part + whole, launches=10), Moves(14 * part + whole, launches=14), grad)


def copies(name: str, forward: Any, backward: Any, launches: tuple[int, int], grad: bool) -> Kernel:
    """Copies and concatenations: tensors rearranged between products."""
    return Kernel(name, Moves(forward, launches=launches[0]), Moves(backward, launches=launches[1]), grad, keeps=False)


def softmax(name: str, n: Any, grad: bool) -> Kernel:
    """Eager attention between its products: scale, mask, softmax in fp32, back; n scores."""
    return Kernel(name, Moves(5 * n, 2 * n, 2 * n, 5), Moves(2 * n, 3 * n, 2 * n, 4), grad)


def bias(name: str, n: Any, trained: bool) -> Kernel:
    """A linear layer's bias: added inside the product; its gradient sums n elements."""
    return Kernel(name, NOTHING, Moves(n, launches=1), trained, keeps=False)


def adapter(name: str, d_in: Any, d_out: Any, grad: bool) -> Kernel:
    """Around a LoRA adapter in fp32 over a base of another width: casts, scale, sum (peft, tuners/lora/layer.py)."""
    forward = Moves(0, 2 * d_out + d_out, d_in + 2 * d_out, 4)
    return Kernel(name, forward, Moves(3 * d_in, 2 * d_out, d_in + 2 * d_out, 5), grad, keeps=False)


def kept(name: str, grad: bool) -> Kernel:
    """Nothing moved besides, but something kept."""
    return Kernel(name, NOTHING, NOTHING, grad)


def dropout(name: str, n: Any, grad: bool) -> Kernel:
    """Dropout of n elements: the input, the output and a mask of one byte each (half an element)."""
    return Kernel(name, Moves(5 * n // 2, launches=1), Moves(5 * n // 2, launches=1), grad)


def loss(n: Any, grad: bool) -> Kernel:
    """Cross entropy of n logits: to fp32, log-softmax; backward: zeros, its gradient, back."""
    return Kernel("loss", Moves(0, 2 * n, n, 3), Moves(0, 4 * n, n, 3), grad, keeps=False)


def table(name: str, gathered: Any, size: Any, trained: bool, tied: bool) -> Kernel:
    """An embedding table: rows gathered; its gradient scattered into a table of zeros, and added to a tied head's."""
    return Kernel(
        name,
        Moves(2 * gathered, launches=1),
        Moves(gathered + size + (3 * size if tied else 0), launches=2 if tied else 1),
        trained,
        keeps=False,
    )
