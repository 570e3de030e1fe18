"""(IA)3: one trained vector a target that scales its output, or its input where it is a feed-forward module.

Sources: Liu et al. 2022, arXiv 2205.05638; peft 0.21.2, tuners/ia3/layer.py and model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from estimator.errors import InputError
from estimator.patterns import takes
from estimator.peft.base import CONV1D, LINEAR, TARGETS, Args, Build, Method, Module, PeftTensor, Work
from estimator.peft.mappings import default_targets
from estimator.peft.targets import compiled, split_by
from estimator.stack import ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """d_out numbers a target, d_in where ``feedforward_modules`` names it."""
    feeds = _feedforward(b)
    for m in b.match():
        for part, inward in split_by(m, feeds):
            shape = (1, part.d_in) if inward else (part.d_out, 1)
            yield PeftTensor(part.name, "ia3_l", shape, part.times, layers=part.layers)


def _feedforward(b: Build) -> Callable[[str], bool]:
    given = b.args["feedforward_modules"]
    names = b.asked()[0]
    if given is None:
        found = default_targets("ia3_feedforward", b.arch.model_type)
        if found is None and not b.arch.textbook:
            raise InputError(
                f"--method ia3: the peft library does not know the feed-forward modules of model type "
                f"{b.arch.model_type!r}; "
                "name them (or none): --arg feedforward_modules=[]"
            )
        ends = tuple((found or "down_proj").split())
    elif isinstance(given, str):
        pattern = compiled(given, "--arg feedforward_modules")
        return lambda key: takes(pattern, key)
    else:
        ends = b.args.names("feedforward_modules")
        if names is not None and not set(ends) <= set(names):
            raise InputError("--arg feedforward_modules must be among --targets")
    return lambda key: any(key.endswith(n) for n in ends)


def work(m: Module, a: Args) -> Work:
    """One multiplication an output (or input) element."""
    return Work(m.d_out, 0, 0)


def forward(s: AdaptedLayer) -> Tensor:
    """Linear.forward: the input (a row of numbers) or the output (a column) times a vector, in the vector's format."""
    t, vector = s.t, s.p("ia3_l")
    scaling = ops.scale(t, vector, "vector")
    if s.shape("ia3_l")[0] == 1:
        x = ops.to(t, s.x, vector.w)
        scaled = ops.to(t, ops.mul(t, x, scaling, "scaled input"), s.w)
        return s.base(scaled)
    result = s.base()
    return ops.to(t, ops.mul(t, result, scaling, "scaled output"), result.w)


METHOD = Method(
    name="ia3",
    title="(IA)3",
    cite="Liu et al. 2022, arXiv 2205.05638; peft 0.21.2, tuners/ia3/layer.py",
    build=build,
    args={"feedforward_modules": None},
    accepts=f"{TARGETS} exclude_modules fan_in_fan_out init_ia3_weights",
    rank="",
    kinds=(LINEAR, CONV1D),
    mapping="ia3",
    work=work,
    forward=forward,
)
