"""What lies beside a served model, counted by hand: adapters, a draft; and no graphs where they are switched off."""

from __future__ import annotations

from typing import Any

import pytest

from estimator.commands.infer.question import Infer
from estimator.commands.kvcache.question import KVCache
from estimator.engines import server_of
from estimator.engines.logs import parse
from estimator.questions.base import ask

# Llama 3 8B: q, o 4096 x 4096; k, v 4096 x 1024; gate, up, down 4096 x 14336; 32 layers
SIDES = 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))


def rank(engine: str, **more: Any) -> Any:
    q = ask(KVCache, "llama-3-8b", {"engine": engine, "gpu": "h100-sxm"} | more)
    server = server_of(engine)
    return server.plan(server.read(q))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_adapters_room(engine: str) -> None:
    plain, more = rank(engine), rank(engine, max_loras=8, max_lora_rank=64)
    assert more.weights - plain.weights == pytest.approx(8 * 64 * 2 * SIDES, rel=1e-3)
    assert rank(engine, max_loras=8).weights - plain.weights == pytest.approx(8 * 16 * 2 * SIDES, rel=4e-3)


def test_draft() -> None:
    """A draft's weights, halved over two ranks, and its rotary table; its 16 layers of 8 heads of 64 in every block."""
    options = {"engine": "vllm", "gpu": "h100-sxm", "tensor_parallel": 2}
    plain, more = (
        server_of("vllm").plan(server_of("vllm").read(ask(Infer, "llama-3.1-8b", options | x)))
        for x in ({}, {"draft_model": "llama-3.2-1b"})
    )
    assert plain.pool is not None
    assert more.pool is not None
    assert more.weights - plain.weights == pytest.approx(1235814400 * 2 / 2 + 131072 * 64 * 2, rel=1e-3)
    assert more.pool.block_bytes - plain.pool.block_bytes == 16 * 16 * 2 * (8 // 2) * 64 * 2


def test_no_graphs_where_switched_off() -> None:
    assert rank("vllm", enforce_eager=True).graphs.best == 0
    assert rank("vllm", max_loras=1).graphs.best > rank("vllm").graphs.best


def test_a_log_says_so() -> None:
    said = "model='a/b', enforce_eager=True, enable_lora={}, max_loras=4\nModel loading took 14.99 GiB"
    log, without = parse(said.format("True")), parse(said.format("False"))
    assert log is not None
    assert without is not None
    assert (log.options["enforce_eager"], log.options["max_loras"]) == (True, "4")
    assert "max_loras" not in without.options
