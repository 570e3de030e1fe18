"""Each distinct simulation is run once in a call: steps, timed passes, llama.cpp's graphs and questions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from estimator import moments
from estimator.commands.memory import needed
from estimator.engines.llamacpp import load, question
from estimator.moments import repeated
from estimator.same import Same
from estimator.stack.kernels import HOPPER
from estimator.work import run

LINES = [
    "memory llama-3-8b --mode training --gpu rtx-4090",
    "memory llama-3-70b --gpu h100-sxm",
    "memory mixtral-8x7b --mode training --gpu rtx-4090 --gpus 8",
    "memory llama-3-8b --method lora --gpu rtx-3060-12gb --largest batch-size",
    "memory llama-3-8b --recipe all --gpu h100-sxm",
    "memory llama-3-70b --engine llama.cpp -q q4_k_m --gpu rtx-4090",
    "memory mixtral-8x7b --engine llama.cpp -q q4_k_m --gpu rtx-3090",
    "memory llama-3.2-1b --engine llama.cpp -q all --gpu 4GB",
    "kvcache --gpu h100-sxm",
    "kvcache llama-3.1-8b --gpu rtx-3060-12gb --seq-len 128k",
    "kvcache llama-3-8b --engine llama.cpp -q q4_k_m --gpu rtx-4090",
    "infer",
    "infer llama-3.1-70b --gpu rtx-4090",
    "infer llama-3-8b --engine vllm --gpu rtx-4090",
    "infer llama-3-8b --engine llama.cpp -q q4_k_m --gpu rtx-4090",
    "train --gpu h100 --tokens 1e9",
    "plan train llama-3-8b --gpus 8",
    "plan tune llama-3-8b --gpu rtx-4090",
    "plan tune llama-3.2-1b --top 3",
    "plan serve llama-3-8b",
]


def step(arch, load):
    """What a step is the same by, once it was run: of its card what it asked, but the size of cuBLAS's workspaces."""
    asked = {k: v for k, v in load.card.asked.items() if k != "workspace"}
    return repeated.run_key(arch, replace(load, card=HOPPER)), *sorted(asked.items())


@pytest.mark.parametrize("line", LINES)
def test_each_simulation_is_run_once(llmcalc, monkeypatch, line):
    steps, passes = (repeated._lately, repeated._runs, needed._known), (run._remembered, run._passes)
    for cache in (*steps, *passes, load._known):
        cache.cache_clear()
    ran = []

    def counted(owner, name, key):
        real = getattr(owner, name)

        def run(*args):
            found = real(*args)
            ran.append((name, key(*args)))
            return found

        monkeypatch.setattr(owner, name, run)

    counted(moments, "_training", step)
    counted(moments, "_inference", step)
    counted(run, "_operations", lambda arch, work, adapter: (Same(arch), work, Same(adapter)))
    counted(load.Load, "_laid_out", lambda me, c, asked: (Same(me.arch), c, me.place, *sorted(asked.items())))
    counted(question, "weights_of", lambda q, mix, said: (Same(q.model), mix, q.imatrix, q.flash_attn))
    assert llmcalc(line).code == 0
    assert ran
    assert len(ran) == len(set(ran))
