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


ALL_REDUCES = 1.013  # multiple of the seconds of an all-reduce
FP4 = 1.096  # multiple of the work where products are in fp4
# published speeds: 23 of vLLM and SGLang (0.5 to 0.17; H100, H200, B200), 66 of TensorRT-LLM (0.5 to 1.1)
_SAID = (
    "times: the roofline with measured ceilings, and {what} fitted to {n} published figures; left out a model at a "
    "time, they are missed by a median of {median}, nine in ten by {most}"
)
_VLLM = _SAID.format(what="multiples", n="23", median="5%", most="20%")
_SERVED = (0.943, 1.099), (0.764, 1.413)

# engine -> (first version, steps ahead): vLLM schedules a step while another runs (async scheduling, the default since
# 0.14). Half a step, its own and this much are the first token of 15 measured runs of 0.15, of three models
AHEAD = {"vllm": ((0, 14), 1.25)}


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


PACE: dict[str, Pace] = {
    "vllm": Pace(1.013, 1.013, 0.0, 0.005, *_SERVED, _VLLM),
    "sglang": Pace(1.013, 1.013, 0.0, 0.005, *_SERVED, _VLLM + "; SGLang's four figures share vLLM's"),
    "tgi": Pace(1.013, 1.013, 0.0, 0.005, *_SERVED, _VLLM + "; no figure of TGI was compared: vLLM's multiples"),
    "tensorrt-llm": Pace(
        1.185, 1.013, 1.4e-5, 0.003, (0.935, 1.113), (0.751, 1.424),
        _SAID.format(what="multiples and seconds a sequence", n="66", median="10%", most="32%"),
    ),
}  # fmt: skip
