"""P-tuning: virtual tokens that a small MLP or LSTM rewrites.

Sources: Liu et al. 2021, arXiv 2103.10385; peft 0.21.2, tuners/p_tuning/model.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.peft import prompts
from estimator.peft.base import Build, Method, PeftTensor
from estimator.stack import algebra, ops
from estimator.stack.prompt import Prompt
from estimator.stack.tape import F32, HALF, Tensor

GATES = 4  # of an LSTM cell
WAYS = 2  # it reads both ways
KEPT = GATES + 1  # a gate each, and a cell: numbers a hidden unit and token that cuDNN keeps of each layer
# bytes a layer that cuDNN asks for beside a copy of the weights (measured with cuDNN 9 on one H200, nine shapes)
WORKSPACE = 16 * 1024**2


def build(b: Build) -> Iterator[PeftTensor]:
    """p vectors; an MLP d -> h -> h -> d, or a bidirectional LSTM and an MLP 2h -> 2h -> d. Only p vectors are
    saved."""
    a = b.args
    p, d = prompts.tokens(b) * prompts.submodules(b), prompts.width(b)
    h = a.count("encoder_hidden_size") if a.has("encoder_hidden_size") else d
    kind = a.choice("encoder_reparameterization_type", "MLP", "LSTM")
    yield PeftTensor("", "embedding.weight", (p, d))
    if kind == "MLP":
        sizes = [(d, h), (h, h), (h, d)]
    else:
        for layer in range(int(a.count("encoder_num_layers"))):
            width = d if layer == 0 else 2 * h
            for way in ("", "_reverse"):
                yield _free(f"lstm_head.weight_ih_l{layer}{way}", (GATES * h, width))
                yield _free(f"lstm_head.weight_hh_l{layer}{way}", (GATES * h, h))
                yield _free(f"lstm_head.bias_ih_l{layer}{way}", (GATES * h,))
                yield _free(f"lstm_head.bias_hh_l{layer}{way}", (GATES * h,))
        sizes = [(2 * h, 2 * h), (2 * h, d)]
    for i, (wide, narrow) in enumerate(sizes):
        yield _free(f"mlp_head.{2 * i}.weight", (narrow, wide))
        yield _free(f"mlp_head.{2 * i}.bias", (narrow,))


def _free(name: str, shape: tuple[Any, ...]) -> PeftTensor:
    """A tensor that is trained but not in the checkpoint."""
    return PeftTensor("", name, shape, saved=False)


def encode(s: Prompt) -> Tensor:
    """PromptEncoder.forward of one sequence, then the same for all (get_prompt)."""
    x = s.embedding()
    if s.has("lstm_head.weight_ih_l0"):
        x = recurrent(s, x)
    heads = sorted(int(name.split(".")[1]) for name in s.held if name.startswith("mlp_head.") and "weight" in name)
    for i in heads:
        x = s.linear(x, f"mlp_head.{i}")
        x = ops.relu(s.t, x) if i != heads[-1] else x
    return s.repeated(x)


def recurrent(s: Prompt, x: Tensor) -> Tensor:
    """torch.nn.LSTM, one call of cuDNN (aten native/cudnn/RNN.cpp): it keeps its input, its output, the weights in one
    buffer, and a reserve: gates and cells of each layer, and what a layer hands to the next. Under autocast input and
    weights are converted to 16 bits (autocast_mode.cpp, _cudnn_rnn_cast_reflatten). Both passes have a workspace."""
    t = s.t
    weights: list[Tensor] = [s.p(name) for name in s.held if name.startswith("lstm_head.")]
    w, width = HALF if t.amp else F32, s.shape("lstm_head.weight_hh_l0")[1]
    x = t.autocast(x)
    if t.amp:
        weights = [t.autocast(Tensor(p.n, p.w, p.st, p.node)) for p in weights]
    layers = s.args.count("encoder_num_layers")
    n = s.tokens * WAYS * width
    states = [t.alloc(layers * WAYS * width, w, "states") for _ in range(2)]
    reserve = t.alloc(n * (KEPT * layers + layers - 1), w, "reserve of cuDNN")
    workspace = (sum(p.n for p in weights) * w + layers * WORKSPACE, 1)
    saved = (x, reserve, states[1], *weights)
    return algebra.op(t, "hidden states", n, w, (x, *weights), saved, (workspace,), (workspace,), result=True)



METHOD = Method(
    name="p_tuning",
    title="P-tuning",
    cite="Liu et al. 2021, arXiv 2103.10385; peft 0.21.2, tuners/p_tuning/model.py",
    build=build,
    args={
        **prompts.ARGS,
        "encoder_hidden_size": None,
        "encoder_num_layers": 2,
        "encoder_reparameterization_type": "MLP",
    },
    accepts=f"{prompts.FIELDS} encoder_dropout",
    rank="",
    merges=False,
    wide=True,
    virtual=True,
    encode=encode,
    simulated=True,
)
