"""AdaLoRA: the update as P diag(E) Q of rank ``init_r``, pruned to ``target_r`` on average while it trains.

Sources: Zhang et al. 2023, arXiv 2303.10512; peft 0.21.2, tuners/adalora/layer.py (``r`` is not used).
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import (
    COMMON,
    CONV1D,
    FROZEN,
    LINEAR,
    Args,
    Build,
    Method,
    Module,
    PeftTensor,
    Work,
    low_rank_work,
)
from estimator.peft.extras import trainable_tokens
from estimator.stack import algebra, ops
from estimator.stack.adapted import AdaptedLayer
from estimator.stack.tape import Tensor


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in), E (r) and B (d_out x r) of the initial rank, and a frozen count of ranks."""
    r = b.rank = b.args.count("init_r", 0)
    if b.args["use_dora"]:
        raise InputError("--arg use_dora: AdaLoRA does not support DoRA")
    for m in b.match():
        yield PeftTensor(m.name, "lora_A", (r, m.d_in), m.times)
        yield PeftTensor(m.name, "lora_E", (r, 1), m.times)
        yield PeftTensor(m.name, "lora_B", (m.d_out, r), m.times)
        yield PeftTensor(m.name, "ranknum", (1,), m.times, FROZEN, saved=False)
    yield from trainable_tokens(b)


def work(m: Module, a: Args) -> Work:
    """LoRA's two products of the initial rank."""
    return low_rank_work(m, a["init_r"])


def forward(s: AdaptedLayer) -> Tensor:
    """SVDLinear.forward: B (E A) x, scaled by a number that the library leaves trainable (ParameterDict.to)."""
    t = s.t
    result = s.base()
    a, e, b = s.p("lora_A"), s.p("lora_E"), s.p("lora_B")
    ranks = ops.shift(t, s.p("ranknum", True), "number of ranks")
    x = ops.to(t, s.x, a.w)
    low = s.linear(s.dropped(x, "lora_dropout"), ops.mul(t, a, e, "E A"), s.rows * e.n)
    scaled = ops.scale(t, s.linear(low, b))
    del low
    return ops.add_into(t, result, algebra.div(t, scaled, ranks, "AdaLoRA output"))


METHOD = Method(
    name="adalora",
    title="AdaLoRA",
    cite="Zhang et al. 2023, arXiv 2303.10512; peft 0.21.2, tuners/adalora/layer.py",
    build=build,
    args={"init_r": 12, "bias": "none", "trainable_token_indices": None, "use_dora": False},
    accepts=f"{COMMON} exclude_modules r target_r tinit tfinal deltaT beta1 beta2 orth_reg_weight "
    f"total_step lora_alpha "
    "lora_dropout alpha_pattern rank_pattern use_rslora init_lora_weights fan_in_fan_out loftq_config lora_bias "
    "ensure_weight_tying layer_replication target_parameters "
    "megatron_config megatron_core eva_config corda_config lora_ga_config velora_config "
    "alora_invocation_tokens use_qalora "
    "qalora_group_size monteclora_config use_bdlora arrow_config kasa_config",
    rank="init_r",
    kinds=(LINEAR, CONV1D),
    mapping="adalora",
    work=work,
    forward=forward,
)
