"""OFT: a block-diagonal rotation of the input; a block of size s has s(s-1)/2 trained angles.

Sources: Qiu et al. 2023, arXiv 2306.07280; peft 0.21.2, tuners/oft/layer.py (``r`` is the number of blocks).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import root
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Method, Module, PeftTensor, Work
from estimator.peft.modules import EMBEDDING
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor

MAX_SEARCH = 10**7


def nearest_divisor(size: Any, wanted: Any) -> int:
    """The divisor of ``size`` nearest to ``wanted``; of two as near, the smaller."""
    n, w = int(size), int(wanted)
    if w < n:
        upper = next(i for i in range(w, n + 1) if n % i == 0)
    else:
        return n
    lower = next(i for i in range(w, 0, -1) if n % i == 0)
    return lower if w - lower <= upper - w else upper

TERMS = 5  # num_cayley_neumann_terms, where none is given
PROJECTION = 5  # tensors of the angles' matrices that _project_batch holds at once


def build(b: Build) -> Iterator[PeftTensor]:
    """blocks x s(s-1)/2 angles, and the row and column numbers of the upper triangle as buffers."""
    a = b.args
    if a.has("r") and a["r"] != 0 and not a.has("oft_block_size"):
        a.given["oft_block_size"] = 0
        b.notes.append(
            "OFT's r is the number of blocks: --rank sets it, and oft_block_size follows (r * oft_block_size = d_in)"
        )
    r, size = a.count("r", 0), a.count("oft_block_size", 0)
    if (r == 0) == (size == 0):
        raise a.bad("oft_block_size", "or --rank must be given, and not both: r * oft_block_size = d_in")
    if size == 1:
        raise a.bad("oft_block_size", "must be at least 2: a block of one number has no angle to turn by")
    b.rank = r or None
    share = a.flag("block_share")
    for m in b.match():
        blocks, s = _split(b, m, r, size)
        angles = s * (s - 1) // 2
        yield PeftTensor(m.name, "oft_R.weight", (1 if share else blocks, angles), m.times)
        yield PeftTensor(m.name, "oft_R.rows", (angles,), m.times, BUFFER, saved=False)
        yield PeftTensor(m.name, "oft_R.cols", (angles,), m.times, BUFFER, saved=False)


def _split(b: Build, m: Module, r: Any, size: Any) -> tuple[Any, Any]:
    """(blocks, block size) of one target; a size that does not divide d_in is moved to the nearest that does."""
    wanted = size or r
    d = m.d_out if m.kind == EMBEDDING else m.d_in  # an embedding's rows are rotated
    if d % wanted != 0 or wanted > d:
        if d > MAX_SEARCH:
            raise b.args.bad("oft_block_size", f"does not divide the width {int(d)}")
        near = nearest_divisor(d, wanted)
        b.notes.append(
            f"{'oft_block_size' if size else 'r'}={int(wanted)} does not divide the width {int(d)} of "
            f"{m.leaf}: adjusted to {near}"
        )
        wanted = near
    other = d // wanted
    return (other, wanted) if size else (wanted, other)


def work(m: Module, a: Args) -> Work:
    """The input is rotated block by block: 2*s FLOPs an element."""
    size = a["oft_block_size"] or m.d_in // a["r"]
    return Work(2 * size * m.d_in, 0, 1)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: the input in the angles' format, rotated block by block, then the layer itself."""
    t = s.t
    angles, index = s.p("oft_R.weight"), s.p("oft_R.rows")
    count = s.shape("oft_R.weight")[1]
    side = (root(8 * count + 1) + 1) // 2
    blocks = angles.n // count
    n = blocks * side * side
    x = ops.to(t, s.x, angles.w)
    required = x.w
    if s.flag("coft"):  # projected first, without gradients
        projected = [t.alloc(n, angles.w, "projected angles") for _ in range(PROJECTION)]
        del projected
    q = algebra.skew(t, angles, index, n)
    if s.flag("use_cayley_neumann", True):
        turn = algebra.neumann(t, q, blocks, side, s.count("num_cayley_neumann_terms", TERMS))
    else:
        turn = ops.to(t, algebra.cayley(t, q, blocks, side), angles.w)
    del q
    if blocks * side != s.d_in:  # block_share
        turn = algebra.repeated(t, turn, s.d_in // side)
    turned = ops.matmul(t, ops.by_heads(t, x), turn, x.n, None, "rotated input")
    out = ops.copy(t, turned, "rotated input")
    del turned, turn
    x = ops.to(t, out, required)
    del out
    return ops.to(t, s.base(ops.to(t, x, s.w)), s.w)


METHOD = Method(
    name="oft",
    title="OFT",
    cite="Qiu et al. 2023, arXiv 2306.07280; peft 0.21.2, tuners/oft/layer.py",
    build=build,
    args={"r": 0, "oft_block_size": 32, "block_share": False, "bias": "none"},
    accepts=f"{COMMON} exclude_modules module_dropout fan_in_fan_out init_weights coft eps "
    f"use_cayley_neumann num_cayley_neumann_terms",
    kinds=(LINEAR, EMBEDDING),
    mapping="oft",
    work=work,
    forward=forward,
)
