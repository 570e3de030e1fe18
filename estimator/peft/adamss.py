"""AdaMSS: rows of the weight's top r directions are clustered; each cluster trains a factor of its own.

Sources: Zheng et al. 2025 (AdaMSS); peft 0.21.2, tuners/adamss/layer.py. The clusters come from the weights'
values (k-means): counted
here with all ``num_subspaces`` clusters holding at least ``subspace_rank`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import BUFFER, COMMON, LINEAR, Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import I64, Tensor
from estimator.trace import value_of


def build(b: Build) -> Iterator[PeftTensor]:
    """num_subspaces factors A (rank x r), factors B with d_out rows in all, and the directions (r x d_in, bias
    counted in)."""
    a = b.args
    b.rank = a.count("r")
    n, rank = a.count("num_subspaces"), a.count("subspace_rank")
    b.notes.append(
        "AdaMSS clusters rows by their values: counted with every cluster in use and larger than subspace_rank"
    )
    for m in b.match():
        d_in = m.d_in + (1 if m.bias else 0)
        r = minimum(b.rank, d_in, m.d_out)
        yield PeftTensor(m.name, "adamss_A", (n, rank, r), m.times, pieces=n)
        yield PeftTensor(m.name, "adamss_B", (m.d_out, rank), m.times, pieces=n)
        yield PeftTensor(m.name, "adamss_newB", (r, d_in), m.times, BUFFER)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: what the frozen directions project, by the factors of each subspace, put in the rows' places. All
    in the model's format; clusters of rows counted as of equal sizes."""
    t = s.t
    bias = s.bias()
    x = s.x
    whole: Tensor = x
    if bias is not None:
        ones = t.alloc(s.rows, x.w, "ones")
        whole = ops.cat(t, [x, ones], "input with ones")
        del ones
    result = s.base()
    index = t.alloc(s.d_out, I64, "places of the rows")
    n, rank, r = s.shape("adamss_A")
    directions = ops.to(t, s.p("adamss_newB"), x.w)
    low = s.linear(whole, directions, s.rows * r)
    del directions
    made = []
    for i in range(int(value_of(n))):
        first = ops.to(t, s.item("adamss_A", i, rank * r), x.w)
        second = ops.to(t, s.item("adamss_B", i, s.d_out * rank // n), x.w)
        made.append(s.linear(s.linear(low, first, s.rows * rank), second, s.rows * (s.d_out // n)))
        del first, second
    change = ops.cat(t, made, "subspaces")
    zeros = t.alloc(s.n_out, change.w, "zeros")
    change = algebra.op(t, "rows in their places", s.n_out, change.w, (change,), (index,))
    del zeros
    result = ops.add(t, result, change, "output with AdaMSS")
    return ops.to(t, result, s.w)


METHOD = Method(
    name="adamss",
    title="AdaMSS",
    cite="peft 0.21.2, tuners/adamss/layer.py",
    build=build,
    args={"r": 100, "num_subspaces": 5, "subspace_rank": 1},
    accepts=f"{COMMON} init_weights use_asa asa_target_subspaces init_warmup final_warmup mask_interval "
    f"asa_importance_beta asa_uncertainty_beta "
    "asa_schedule_exponent use_dynamic_rank svd_threshold random_seed",
    kinds=(LINEAR,),
    mapping="adamss",
    forward=forward,
)
