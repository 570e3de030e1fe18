"""AdaMSS: rows of the weight's top r directions are clustered; each cluster trains a factor of its own.

Sources: Zheng et al. 2025 (AdaMSS); peft 0.21.2, tuners/adamss/layer.py. The clusters come from the weights'
values (k-means): counted
here with all ``num_subspaces`` clusters holding at least ``subspace_rank`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.ops import minimum
from estimator.peft.base import BUFFER, COMMON, LINEAR, Args, Build, Kept, Method, Module, PeftTensor


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


def keeps(m: Module, a: Args) -> Kept:
    """The directions are frozen: the projections are kept, and each subspace's own."""
    return Kept(a["r"] + a["num_subspaces"] * a["subspace_rank"])


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
    keeps=keeps,
)
