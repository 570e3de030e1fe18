"""FLOPs of a model that transformers builds, as PyTorch's own counter counts them (``--with-transformers``)."""

from __future__ import annotations

from estimator.commands.flops.question import Flops
from estimator.errors import InputError
from estimator.formula import Citation
from estimator.library import forward_flops, version
from estimator.names import choice
from estimator.questions.read import batch, tokens
from estimator.report import Node, Report
from estimator.units import FLOPS

COUNTER = Citation("PyTorch, torch/utils/flop_counter.py, on the model that transformers builds")


def counted(q: Flops) -> Report:
    """One forward pass. InputError for everything else: a counter on the meta device sees nothing but the forward."""
    choice(q.mode, "--mode", ("forward", "training", "decode"))
    if q.mode != "forward":
        raise InputError(f"--mode {q.mode}: with --with-transformers a forward pass is counted, nothing else")
    if q.method not in (None, "", "full"):
        raise InputError(f"--method {q.method}: with --with-transformers the model is counted as it is")
    said: list[str] = []
    b, s = int(batch(q.model, q.batch_size)), int(tokens(q.model, q.seq_len, said))
    assert q.model.config is not None
    total, parts = forward_flops(q.model.config, b, s)
    rows = [Node(f"operators.{name}", name, n, FLOPS) for name, n in sorted(parts.items(), key=lambda x: -x[1])]
    tree = Node.sum("forward_flops", "Forward", rows)
    return Report(
        "flops", f"FLOPs of a forward pass of {q.model.name}",
        {"model": q.model.name, "batch_size": b, "seq_len": s, "mode": "forward"},
        (tree, Node("total_flops", "In all", total, FLOPS)), {},
        (*said, f"counted by PyTorch on the class of transformers {version()}, eager attention, every logit"),
        (COUNTER,), tuple(q.model.notes),
    )  # fmt: skip
