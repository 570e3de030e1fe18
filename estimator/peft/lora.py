"""LoRA: a trained product B A of rank r beside a frozen matrix; with rsLoRA, DoRA, LoRA on embeddings and experts.

Sources: Hu et al. 2021, arXiv 2106.09685; Liu et al. 2024 (DoRA), arXiv 2402.09353; peft 0.21.2,
tuners/lora/layer.py, tuners/lora/variants.py and utils/transformers_weight_conversion.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from estimator.config import MAX_LAYERS
from estimator.errors import InputError
from estimator.ops import exact_div
from estimator.peft.base import (
    COMMON,
    FROZEN,
    TRAINED,
    Args,
    Build,
    Method,
    Module,
    PeftTensor,
    Work,
    low_rank_work,
)
from estimator.peft.extras import trainable_tokens
from estimator.peft.lora_variants import VARIANTS, block_diagonal, variant
from estimator.peft.mappings import moe_mapping
from estimator.peft.modules import (
    CONTAINER,
    CONV1D,
    CONVOLUTION,
    EMBEDDING,
    HOLDER,
    LINEAR,
    NORM,
    is_expert_stack,
    replicate,
)
from estimator.peft.targets import (
    ParameterTarget,
    moe_names,
    moe_targets,
    parameters,
    pattern_value,
    split_by,
)
from estimator.trace import value_of

KINDS = (LINEAR, CONV1D, EMBEDDING, CONVOLUTION)
ARGS: dict[str, Any] = {
    "r": 8,
    "bias": "none",
    "use_dora": False,
    "lora_bias": False,
    "rank_pattern": {},
    "target_parameters": None,
    "trainable_token_indices": None,
    "layer_replication": None,
    "ensure_weight_tying": False,
    "use_qalora": False,
    "qalora_group_size": 16,
    "use_bdlora": None,
    "kasa_config": None,
    "velora_config": None,
    "monteclora_config": None,
    "init_lora_weights": True,
    "arrow_config": None,
    "alora_invocation_tokens": None,
    "lora_dropout": 0.0,
    "fan_in_fan_out": False,
}
ACCEPTS = (
    f"{COMMON} exclude_modules lora_alpha alpha_pattern use_rslora loftq_config eva_config corda_config lora_ga_config "
    "megatron_config megatron_core loraplus_lr_ratio"
)


def build(b: Build) -> Iterator[PeftTensor]:
    """A (r x d_in) and B (d_out x r) for each target, and what its variants add."""
    a = b.args
    b.rank = a.count("r")
    _check(a)
    ranges = _replication(a)
    if ranges:
        b.known = replicate(b.known, ranges, _stack(b))
    modules, params, factors = _targets(b)
    patterns = a.patterns("rank_pattern")
    above: list[str] = []
    for m in modules:
        for part, r in split_by(m, lambda key: pattern_value(patterns, key, b.rank)) if patterns else [(m, b.rank)]:
            if r > min(part.d_in, part.d_out):
                above.append(f"{part.example} (rank {value_of(r)}, side {value_of(min(part.d_in, part.d_out))})")
            yield from adapt(b, part, r)
    if above:
        more = f" and {len(above) - 1} other targets" if len(above) > 1 else ""
        b.notes.append(f"the rank is above the smaller side of {above[0]}{more}: a full matrix has no more directions")
    for p in params:
        yield from _parameter(b, p, patterns, factors)
    yield from trainable_tokens(b)


def _check(a: Args) -> None:
    active = [v for v in VARIANTS if a[v]]
    if a["init_lora_weights"] == "mica":
        active.append("init_lora_weights=mica")
    if len(active) > 1:
        raise InputError(f"--method lora: {' and '.join(active)} cannot be combined")
    if a.flag("lora_bias") and a.flag("use_dora"):
        raise InputError("--arg lora_bias: DoRA does not support it")
    if a["init_lora_weights"] == "orthogonal" and a["r"] % 2:
        raise InputError(f"--rank {int(a['r'])}: the orthogonal initialisation needs an even rank")
    if a["lora_bias"] and a["init_lora_weights"] not in (True, False):
        raise InputError("--arg lora_bias: only with init_lora_weights true or false")


def _replication(a: Args) -> list[tuple[int, int]]:
    value = a["layer_replication"]
    if value is None:
        return []
    if not isinstance(value, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(n, int) for n in p) for p in value
    ):
        raise a.bad("layer_replication", "must be a list of pairs, like [[0, 4], [2, 5]]")
    if any(not 0 <= start < end <= MAX_LAYERS for start, end in value):
        raise a.bad("layer_replication", "must be pairs with 0 <= start < end")
    if sum(end - start for start, end in value) > MAX_LAYERS:
        raise a.bad("layer_replication", f"makes more than {MAX_LAYERS:,} layers")
    return [(start, end) for start, end in value]


def _stack(b: Build) -> str:
    """The path of the stack of layers that peft replicates: Llama's, BERT's or Falcon's."""
    for m in b.known:
        prefix = m.name.partition("{i}")[0]
        if m.layered and prefix in ("model.layers.", "bert.encoder.layer.", "transformer.h.", "roberta.encoder.layer."):
            top = max(max(k.indices) for k in b.known if k.layered and k.name.startswith(prefix)) + 1
            if any(end > top for _, end in _replication(b.args)):
                raise b.args.bad("layer_replication", f"must stay within the {top} layers")
            return prefix
    raise b.args.bad("layer_replication", f"is not possible for model type {b.arch.model_type!r}")


def _targets(b: Build) -> tuple[list[Module], list[ParameterTarget], dict[str, int]]:
    """The modules and bare parameters to adapt, and the rank factors of fused experts."""
    a = b.args
    wanted = list(a.names("target_parameters"))
    moe = moe_mapping(b.arch.model_type)
    factors: dict[str, int] = {}
    names, pattern, everything = b.asked()
    if moe is None:
        if names is None and pattern is None and not everything and wanted and not _has_default(b):
            found: list[Module] = []
        elif names == [] and wanted:
            found = []
        else:
            found = b.match(KINDS)
    else:
        if names is None and pattern is None and not everything and not wanted:
            raise InputError(
                f"--method lora: the peft library has no default targets for {b.arch.model_type!r} on transformers 5 "
                f"(its experts are stacked); name them: --targets {b.suggested()}"
            )
        if everything or pattern is not None:
            names = moe_names(b.rule(pattern=pattern) if pattern else None, everything, b.known, moe[0])
        stay, more, factors = moe_targets(names or [], *moe)
        wanted = sorted({*wanted, *more})
        found = _some(b, stay) if stay else []
    params = parameters(b.known, wanted) if wanted else []
    if wanted and not params:
        b.notes.append(f"target_parameters: no parameter of {b.model} is named {', '.join(wanted)}")
    if not found and not params:
        from estimator.peft.targets import nothing_matches

        raise nothing_matches(names or wanted, b.known, b.model)
    b.targets = found
    return found, params, factors


def _has_default(b: Build) -> bool:
    try:
        b.default()
    except InputError:
        return False
    return True


def _some(b: Build, names: list[str]) -> list[Module]:
    """The modules of these names; none is no error where parameters are adapted too."""
    from estimator.peft.targets import select

    rule = b.rule(names)
    found = select(b.known, rule)
    if found:
        b.check(found, names, rule, KINDS)
    return found


def adapt(b: Build, m: Module, r: Any) -> Iterator[PeftTensor]:
    """The tensors of one target."""
    a = b.args
    mica = a["init_lora_weights"] == "mica"
    if m.kind == EMBEDDING:
        if a["lora_bias"] or any(a[v] for v in VARIANTS if v != "use_dora"):
            raise InputError(
                f"--method lora: {m.example!r} is an embedding; lora_bias and variants but DoRA are not for it"
            )
        state = FROZEN if mica else TRAINED
        yield PeftTensor(m.name, "lora_embedding_A", (r, m.d_in), m.times, layers=m.layers)
        yield PeftTensor(m.name, "lora_embedding_B", (m.d_out, r), m.times, state, layers=m.layers)
        if a["use_dora"]:
            yield PeftTensor(m.name, "lora_magnitude_vector", (m.d_out,), m.times, layers=m.layers)
        return
    if m.kind == CONVOLUTION:
        kernel = m.weights[0][1][-1]
        yield PeftTensor(m.name, "lora_A.weight", (r, m.d_in, kernel), m.times, layers=m.layers)
        yield PeftTensor(m.name, "lora_B.weight", (m.d_out, r, 1), m.times, layers=m.layers)
        return
    wide_in, wide_r = m.d_in, r
    if a["use_qalora"]:
        b.notes.append("use_qalora has no effect on weights that are not GPTQ-quantised")
    halves = block_diagonal(a, m)
    if halves:
        side, blocks = halves
        if side == "A":
            wide_in = exact_div(m.d_in, blocks, "--arg use_bdlora: d_in over nblocks")
            exact_div(r, blocks, "--arg use_bdlora: rank over nblocks")
        else:
            wide_r = exact_div(r, blocks, "--arg use_bdlora: rank over nblocks")
            exact_div(m.d_out, blocks, "--arg use_bdlora: d_out over nblocks")
    yield PeftTensor(m.name, "lora_A.weight", (r, wide_in), m.times, layers=m.layers)
    yield PeftTensor(m.name, "lora_B.weight", (m.d_out, wide_r), m.times, FROZEN if mica else TRAINED, layers=m.layers)
    if a["lora_bias"]:
        yield PeftTensor(m.name, "lora_B.bias", (m.d_out,), m.times, layers=m.layers)
    yield from variant(a, m, r)


def _parameter(b: Build, p: ParameterTarget, patterns: dict[str, Any], factors: dict[str, int]) -> Iterator[PeftTensor]:
    """A bare parameter [E, ., .] or [out, in]: one adapter of rank r*E."""
    a = b.args
    for option in ("lora_dropout", "fan_in_fan_out", "lora_bias", *VARIANTS):
        if a[option]:
            raise InputError(
                f"--method lora: {option} is not possible where bare parameters are adapted "
                f"({p.module.example}.{p.name})"
            )
    if len(p.shape) not in (2, 3):
        raise InputError(
            f"--arg target_parameters: {p.module.example}.{p.name} has {len(p.shape)} dimensions; only 2 "
            f"and 3 are possible"
        )
    init = a["init_lora_weights"]
    if (
        isinstance(init, str)
        and is_expert_stack(p.module)
        and init.lower().startswith(("pissa", "corda", "olora", "orthogonal", "loftq", "lora_ga"))
    ):
        raise InputError(
            f"--arg init_lora_weights={init} is not possible for stacked experts ({p.module.example}.{p.name})"
        )
    experts, *(rest) = p.shape if len(p.shape) == 3 else (1, *p.shape)
    d_out, d_in = rest
    own = {**patterns, **{rf".*\.{name}": b.rank * n for name, n in factors.items()}}
    for part, r in split_by(p.module, lambda key: pattern_value(own, f"{key}.{p.name}", b.rank)):
        holder = f"{part.name}.{p.name}" if is_expert_stack(part) else part.name
        yield PeftTensor(holder, "lora_A.weight", (r * experts, d_in), part.times, layers=part.layers)
        yield PeftTensor(holder, "lora_B.weight", (d_out, r * experts), part.times, layers=part.layers)
        b.fixed_work += part.times * 2 * r * experts * d_in * d_out  # B A is multiplied out and added to the parameter


def work(m: Module, a: Args) -> Work:
    """x A^T B^T beside x W^T; DoRA also norms W + B A once a forward pass."""
    r = a["r"]
    if m.kind == EMBEDDING:
        return Work(flops=2 * r * m.d_out, products=1)
    base = low_rank_work(m, r)
    # the norm of each row of W + s*B*A: the product 2*r*d_in*d_out, the scaled sum 2*d_in*d_out, squares and
    # sums 2*d_in*d_out
    return Work(base.flops, 2 * (r + 2) * m.d_in * m.d_out, 2) if a["use_dora"] else base


METHOD = Method(
    name="lora",
    title="LoRA",
    cite="Hu et al. 2021, arXiv 2106.09685; peft 0.21.2, tuners/lora/layer.py",
    build=build,
    args=ARGS,
    accepts=ACCEPTS,
    kinds=KINDS,
    work=work,
    simulated=True,
)
__all__ = ["CONTAINER", "HOLDER", "METHOD", "NORM", "Iterable", "adapt", "build", "work"]
