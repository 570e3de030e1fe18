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
from estimator.peft.modules import CONTAINER, CONV1D, CONVOLUTION, EMBEDDING, HOLDER, LINEAR, NORM, Module
from estimator.peft.targets import split_by
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import GradFn, Tape, Tensor


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
                yield PeftTensor(part.name, f"osf_svd_params.{name}", shape, part.times, layers=part.layers)
                yield _buffer(part, f"_osf_{name}_init", shape)
            if part.d_out > part.d_in:
                yield _buffer(part, "_osf_U_high", (part.d_out, kept))
            if part.d_out < part.d_in:
                yield _buffer(part, "_osf_V_high", (kept, part.d_in))


def _buffer(part: Module, name: str, shape: tuple[Any, ...]) -> PeftTensor:
    """A buffer that stays out of the checkpoint."""
    return PeftTensor(part.name, name, shape, part.times, BUFFER, saved=False, layers=part.layers)


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


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: what the trained directions are beyond what they were, as one product of twice the rank."""
    t = s.t
    result = s.base()
    u, S, v = (_hooked(s, name) for name in "USV")
    u0, S0, v0 = (s.p(f"_osf_{name}_low_init") for name in "USV")
    left = ops.cat(t, [ops.mul(t, u, S), ops.neg(t, ops.mul(t, u0, S0))], "U S and its initial value")
    right = ops.cat(t, [v, v0], "V and its initial value")
    x = ops.to(t, s.x, left.w)
    low = s.linear(x, right, s.rows * 2 * S.n)
    made = s.linear(low, left)
    return ops.add(t, result, ops.to(t, made, s.w), "output with OSF")


def _hooked(s: AdaptedLayer, name: str) -> Tensor:
    """A trained factor, whose gradient is projected by a hook where the library's cast has not replaced the tensor."""
    p = s.p(f"osf_svd_params.{name}_low")
    if name == "S" or p.node is None or not s.same_width:
        return p
    out, high = Tensor(p.n, p.w, None), f"_osf_{name}_high"
    away = s.has(high)  # from the high directions, where these do not span all others
    low, side = s.shape("osf_svd_params.S_low")[0], s.d_out if name == "U" else s.d_in
    across = s.p(high).n // side if away else low
    s.t.record(out, (p,), _projected_bwd, None, (low * across, away))
    return out


def _projected_bwd(t: Tape, node: GradFn, g: Tensor) -> tuple[Tensor]:
    """OSFLayer._attach_hooks: grad - U (U^T grad), or U (U^T grad)."""
    across, away = node.extra
    held = t.alloc(across, g.w, "gradient along the directions")
    made = t.alloc(g.n, g.w, "gradient, projected")
    del held
    return (t.alloc(g.n, g.w, "gradient away from the directions") if away else made,)


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
    forward=forward,
)
