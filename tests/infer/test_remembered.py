"""A pass is run once for all the machines that it is timed on."""

from __future__ import annotations

from estimator.models import load_model
from estimator.work.run import operations
from estimator.work.workload import PassSizes


def test_a_pass_is_remembered_for_the_same_model_alone() -> None:
    one, two = (load_model("llama-3.2-1b", [f"num_hidden_layers={n}"]).architecture for n in (2, 4))
    work = PassSizes("decode", 1, context=64)
    assert operations(one, work) is operations(one, work)
    launches = [sum(k.times for k in operations(arch, work)) for arch in (one, two)]
    assert launches[0] < launches[1]
