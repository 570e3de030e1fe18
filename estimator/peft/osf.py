"""OSF: the low singular directions of each matrix are trained, the high ones stay.

Source: peft 0.21.2, tuners/osf/model.py, layer.py and utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.ops import minimum
from estimator.patterns import takes
from estimator.peft.base import BUFFER, TARGETS, Build, Method, PeftTensor
from estimator.peft.mappings import default_targets
from estimator.peft.modules import CONTAINER, CONV1D, CONVOLUTION, EMBEDDING, HOLDER, LINEAR, NORM
from estimator.peft.targets import split_by


def build(b: Build) -> Iterator[PeftTensor]:
    """U, S, V of the directions beyond ``effective_rank`` (kept), with their initial values as buffers."""
    if (
        b.asked() == (None, None, False)
        and default_targets("osf", b.arch.model_type) is None
        and not b.arch.textbook
    ):
        b.targets_option = "all-linear"
    patterns = b.args.patterns("rank_pattern")
    given = b.args["effective_rank"]
    if given is not None and not isinstance(given, float):
        b.args.count("effective_rank", 0)
    elif given is not None and not 0 < given < 10**12:
        raise b.args.bad("effective_rank", "must be a number above 0")

    def wanted(key: str) -> Any:
        return next((v for p, v in patterns.items() if takes(p, key, "search")), b.args["effective_rank"])

    found = [m for m in b.match((LINEAR, CONV1D, EMBEDDING, HOLDER, NORM, CONVOLUTION, CONTAINER)) if m.kind == LINEAR]
    if not found:
        b.notes.append("OSF adapts torch.nn.Linear only, and no target is one: nothing is trained")
    b.targets = found
    for m in found:
        for part, value in split_by(m, wanted):
            side = minimum(part.d_in, part.d_out)
            kept = _kept(b, value, side)
            low = side - kept
            for name, shape in (("U_low", (part.d_out, low)), ("S_low", (low,)), ("V_low", (low, part.d_in))):
                yield PeftTensor(part.name, f"osf_svd_params.{name}", shape, part.times)
                yield PeftTensor(part.name, f"_osf_{name}_init", shape, part.times, BUFFER, saved=False)
            if part.d_out > part.d_in:
                yield PeftTensor(part.name, "_osf_U_high", (part.d_out, kept), part.times, BUFFER, saved=False)
            if part.d_out < part.d_in:
                yield PeftTensor(part.name, "_osf_V_high", (kept, part.d_in), part.times, BUFFER, saved=False)


def _kept(b: Build, value: Any, side: Any) -> Any:
    """The singular directions that stay: half of them, a share of them, or a number."""
    if value is None:
        kept = side // 2
    elif isinstance(value, float) and 0 < value <= 1:
        kept = int(int(side) * value)
    else:
        kept = max(minimum(side, value), 0)
    if kept <= 0:
        raise b.args.bad("effective_rank", "must leave at least one direction")
    return kept


METHOD = Method(
    name="osf",
    title="OSF",
    cite="peft 0.21.2, tuners/osf/layer.py",
    build=build,
    args={"effective_rank": None, "rank_pattern": None},
    accepts=f"{TARGETS} init_weights target_svd_config",
    rank="effective_rank",
    kinds=(LINEAR,),
    mapping="osf",
    skips=True,
)
