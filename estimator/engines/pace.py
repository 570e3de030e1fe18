"""What engines take beside the roofline: fitted multiples and times, and how far they miss.

Fitted by ``benchmarks/fit_engines.py`` to published speeds (tests/engines/records.json.gz).
"""

from __future__ import annotations

from estimator.records import NamedTuple


class Pace(NamedTuple):
    """An engine's own share of the time.

    prompt, step   multiples of the work of a prompt's pass and of a decode step
    sequence       seconds that a decode step takes for each of its sequences (scheduling, sampling)
    server         seconds between a request and its prompt's pass
    middle, ends   measured over estimated: 25th and 75th, 5th and 95th percentile
    said           what it rests on
    """

    prompt: float
    step: float
    sequence: float
    server: float
    middle: tuple[float, float]
    ends: tuple[float, float]
    said: str


ALL_REDUCES = 1.0  # multiple of the seconds of an all-reduce
FP4 = 1.17  # multiple of the work where products are in fp4
# published speeds: 23 of vLLM and SGLang (0.5 to 0.17; H100, H200, B200), 66 of TensorRT-LLM (0.5 to 1.1)
_SAID = (
    "times: the roofline with measured ceilings, and {what} fitted to {n} published figures; left out a model at a "
    "time, they are missed by a median of {median}, nine in ten by {most}"
)
_VLLM = _SAID.format(what="multiples", n="23", median="5%", most="11%")
_SERVED = (0.935, 1.114), (0.761, 1.427)

# engine -> (first version, steps ahead): vLLM schedules a step while another runs (async scheduling, the default in
# 0.14.1, not in 0.12.0: config/vllm.py): two batches at once (max_concurrent_batches of v1/executor and
# step_with_batch_queue of v1/engine/core.py), so that one is scheduled already when a request comes
AHEAD = {"vllm": ((0, 14), 1.0)}


def steps_ahead(engine: str, version: tuple[int, ...]) -> float:
    """Steps that are scheduled before a request that comes is."""
    since, steps = AHEAD.get(engine, ((0,), 0.0))
    return steps if version >= since else 0.0


# engine -> the first version whose decode attention reads keys and values once for all query heads that share them:
# TensorRT-LLM's XQA kernel (docs/source/blogs/XQA-kernel.md: Llama-70B 1.9 to 2.4 times as fast, in 0.8)
SHARED_READS = {"tensorrt-llm": (0, 8)}


def reads_by_query(engine: str, version: tuple[int, ...]) -> bool:
    """Whether decode attention reads keys and values once a query head."""
    return version < SHARED_READS.get(engine, (0,))


# engine -> the first version that sums over NVLink by a kernel of its own: vLLM's and SGLang's CustomAllreduce; one of
# TensorRT-LLM was an option of a build until 0.12 (docs/source/release-notes.md: use_custom_all_reduce is removed)
DIRECT_SUMS = {"vllm": (0,), "sglang": (0,), "tensorrt-llm": (0, 12)}


def sums_directly(engine: str, version: tuple[int, ...], link: str, gpus: int) -> bool:
    """Whether all-reduces are the engine's own kernel: where every pair is linked by NVLink; a bridge links two."""
    since = DIRECT_SUMS.get(engine)
    linked = link.startswith("NVLink") and ("bridge" not in link or gpus == 2)
    return since is not None and version >= since and linked


PACE: dict[str, Pace] = {
    "vllm": Pace(1.0, 1.0, 0.0, 0.005, *_SERVED, _VLLM),
    "sglang": Pace(1.0, 1.0, 0.0, 0.005, *_SERVED, _VLLM + "; SGLang's four figures share vLLM's"),
    "tgi": Pace(1.0, 1.0, 0.0, 0.005, *_SERVED, _VLLM + "; no figure of TGI was compared: vLLM's multiples"),
    "tensorrt-llm": Pace(
        1.217, 1.0, 1e-5, 0.003, (0.928, 1.125), (0.751, 1.438),
        _SAID.format(what="multiples and seconds a sequence", n="66", median="11%", most="32%"),
    ),
}  # fmt: skip
