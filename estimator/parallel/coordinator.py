"""Which weights lie gathered on a GPU under DeepSpeed's ZeRO stage 3, module by module.

Once a step has been traced, the coordinator fetches what a module needs, prefetches what comes after it up to a bucket
and a number of live elements, and releases what is not used again within a distance. Source:
deepspeed/runtime/zero/partitioned_param_coordinator.py (0.19.8), fetch_sub_module, release_sub_module,
__params_to_release.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from estimator.inventory import Weight
from estimator.records import dataclass
from estimator.trace import value_of

MAX_LIVE = 1_000_000_000  # stage3_max_live_parameters, elements
MAX_REUSE = 1_000_000_000  # stage3_max_reuse_distance, elements
PREFETCH = 50_000_000  # stage3_prefetch_bucket_size, elements
NOTHING: Mapping[str, Any] = MappingProxyType({})
PERSIST = 100_000  # stage3_param_persistence_threshold, elements: smaller weights are never partitioned


@dataclass(frozen=True, slots=True)
class Settings:
    """Elements: of a prefetch, of a weight that stays, of one bucket of gradients."""

    prefetch: int = PREFETCH
    persist: int = PERSIST
    bucket: int = 500_000_000  # reduce_bucket_size


def settings(buckets: str, hidden: int) -> Settings:
    """DeepSpeed's defaults, or what transformers' "auto" makes of the hidden size.

    Source: transformers/integrations/deepspeed.py, trainer_config_finalize.
    """
    if buckets == "default":
        return Settings()
    return Settings(int(0.9 * hidden * hidden), 10 * hidden, hidden * hidden)


class Together:
    """Weights fetched ahead in one buffer. When the first of them is waited for, each is copied out of it; the handle
    of all keeps it until the last of them is (partition_parameters.py, AllGatherCoalescedHandle)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.elements, self.weights, self.left = sum(sizes), len(sizes), len(sizes)

    def wait(self) -> int:
        """One of them is waited for: how many more elements lie twice."""
        copied = self.elements if self.left == self.weights else 0
        self.left -= 1
        return copied if self.left else copied - self.elements


def available(
    modules: Sequence[Sequence[str]], sizes: dict[str, int], rules: Settings, distance: int = MAX_REUSE, host: int = 0,
    saved: Collection[str] = (), turn: int = 0,
) -> list[int]:  # fmt: skip
    """Elements gathered while each module of the trace runs, in turn; weights that persist are not counted.

    host: GPUs that share weights whose parts lie on the host (0: they lie on the GPUs). What is fetched ahead alone
    then keeps a copy of this GPU's part until its module waits for it (partition_parameters.py,
    _all_gather_sequential); what is fetched together is copied into one buffer. saved: weights of which the backward
    pass keeps a view (stacked experts): what a forward pass releases stays until that is over. turn: the module with
    which the backward pass begins; what lies twice (``Together``) was measured in forward passes, and not after them.
    """
    uses = deque((p, step) for step, module in enumerate(modules) for p in module)
    sums = [0]
    for module in modules:
        sums.append(sums[-1] + sum(sizes[p] for p in module))
    held: set[str] = set()
    last: dict[str, int] = {}
    alone: set[str] = set()  # on their way
    together: dict[str, Together] = {}
    viewed: dict[str, int] = {}
    live = twice = 0
    out = []
    following = _next_uses(modules)
    for step, module in enumerate(modules):
        kept = [p for p in module if sizes[p] > rules.persist]
        for p in kept:
            if p not in held:
                held.add(p)
                live += sizes[p]
        need, seen = {p for p in module if last.get(p, -1) < step}, set[str]()
        while uses and len(seen) < len(need):
            p, at = uses.popleft()
            last[p] = at
            seen.add(p)
        fetched = _prefetch(uses, held, last, sizes, rules, min(MAX_LIVE - live, rules.prefetch))
        live += sum(sizes[p] for p in fetched)
        alone.difference_update(module)
        for p in module:
            if (group := together.pop(p, None)) is not None:
                twice += group.wait()
        if host and len(fetched) == 1:
            alone.update(fetched)
        elif len(fetched) > 1 and step < turn:
            together |= dict.fromkeys(fetched, Together([sizes[p] for p in fetched]))
        out.append(live + twice + sum(viewed.values()) + sum(-(-sizes[p] // host) for p in alone))
        for p in kept:
            reused = following[step].get(p)
            near = reused is not None and sums[reused] - sums[step + 1] < distance
            if not near and last.get(p, -1) <= step + 1 and p in held:
                held.discard(p)
                live -= sizes[p]
                if step >= turn:
                    viewed.pop(p, None)
                elif p in saved:
                    viewed[p] = sizes[p]
    return out


def _next_uses(modules: Sequence[Sequence[str]]) -> list[dict[str, int]]:
    """For each module, when each of its weights is used next."""
    out: list[dict[str, int]] = [{} for _ in modules]
    upcoming: dict[str, int] = {}
    for step in range(len(modules) - 1, -1, -1):
        out[step] = {p: upcoming[p] for p in modules[step] if p in upcoming}
        for p in modules[step]:
            upcoming[p] = step
    return out


def _prefetch(
    uses: deque[tuple[str, int]],
    held: set[str],
    last: dict[str, int],
    sizes: dict[str, int],
    rules: Settings,
    most: int,
) -> list[str]:
    """What is fetched ahead; weights that are there are skipped and marked as used later."""
    found, n = list[str](), 0
    while uses and n < most:
        p, at = uses.popleft()
        last[p] = max(last.get(p, -1), at)
        if p not in held and sizes[p] > rules.persist:
            held.add(p)
            found.append(p)
            n += sizes[p]
    return found


Added = Mapping[str, Sequence[tuple[str, int]]]  # what an adapter adds to a module: names and elements


def modules_of(
    weights: Sequence[Weight], prefix: str, sizes: dict[str, int], acts: str = "", added: Added = NOTHING
) -> list[list[str]]:
    """Weights module by module, in order; their sizes are added to ``sizes``.

    A module that holds others (a layer, its attention, its MLP) is one of its own, without weights, and so is the
    activation behind the module ``acts``: the hooks of each fetch ahead. An adapted module holds its own weights' one,
    its dropout's and one for each tensor that is added (peft's lora.Linear: base_layer, lora_dropout, lora_A, lora_B).
    """
    out: dict[str, list[str]] = {}
    for w in weights:
        name = prefix + w.name
        sizes[name] = int(value_of(w.elements))
        *above, _ = w.module.split(".")
        for i in range(len(above)):
            if above[i] == "{i}" or "{i}" in above[:i]:
                out.setdefault(".".join(above[: i + 1]), [])
        out.setdefault(w.module, []).append(name)
        if w.module == acts:
            out.setdefault(f"{w.module} activation", [])
    found = []
    for module, names in out.items():
        more = [(f"{prefix}{module}.{name}", n) for name, n in added.get(module, ())]
        sizes.update(more)
        found += [[], names, [], *([name] for name, _ in more)] if more else [names]
    return found


def trace(before: Iterable[Sequence[str]], layers: Sequence[Sequence[Sequence[str]]], after: Iterable[Sequence[str]],
          back: Sequence[Sequence[str]], again: bool) -> tuple[list[list[str]], list[int], list[int]]:  # fmt: skip
    """A step's modules in order, and where each layer's forward and backward modules begin.

    back: those of ``before`` that the backward pass reaches; again: layers are run a second time in it (checkpointing)
    """
    first, last = [list(m) for m in before], [list(m) for m in after]
    out = list(first)
    forward, backward = [], [0] * len(layers)
    for layer in layers:
        forward.append(len(out))
        out += [list(m) for m in layer]
    out += last + last[::-1]
    for i in range(len(layers) - 1, -1, -1):
        backward[i] = len(out)
        out += [list(m) for m in layers[i]] * (1 if again else 0) + [list(m) for m in layers[i]][::-1]
    out += [list(m) for m in back][::-1]
    return out, forward, backward
