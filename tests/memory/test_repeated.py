"""A run that is asked again: what its record answers is what the run itself says, bytes, holders and all."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from estimator import api, moments
from estimator.commands.memory.plan import plan
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.models import load_model
from estimator.moments import repeated
from estimator.moments.repeated import SIZES, KeptOutcome, same
from estimator.presets import ids, load_model_preset
from estimator.questions import ask
from estimator.same import Same
from estimator.sweep.again import PATIENCE, Again
from estimator.work import run
from estimator.work.workload import PassSizes

LORA = {"mode": "training", "method": "lora", "targets": "all-linear", "checkpointing": "full"}
STEPS = (
    {"mode": "inference"},
    {"mode": "training"},
    {"mode": "inference", "attention": "eager", "quantization": "nf4"},
    LORA,
    {"mode": "training", "attention": "eager", "checkpointing": "selective", "recipe": "torch-fp32"},
    {"mode": "training", "gpus": 8, "stage": 3, "recipe": "torch-mixed"},
    {"mode": "training", "gpus": 8, "stage": 2, "recipe": "deepspeed"},
)


def families():
    """A preset of each family, and how many tokens it takes."""
    found = {}
    for name in ids("models"):
        found.setdefault(load_model_preset(name)[1]["config"]["model_type"], name)
    return sorted(found.values())


def said(outcome):
    """All that an outcome says, in order."""
    rows = [(m.key, m.label, m.peak, m.end, list(m.buffers().items())) for m in outcome.moments]
    return rows, outcome.weights, outcome.states, outcome.gradients, outcome.base, outcome.unmet


def held_to_the_run(model, options, rows=8, seed=0):
    """Rows at random, out of records as they come: (how many a record answered, how many were recorded)."""
    p = plan(ask(Memory, model, {**options, "seq_len": 64, "batch_size": 1}))
    one = partial(moments._training, p.share) if p.load.training else partial(moments._inference, p.arch)
    again, rng = Again(one, SIZES, KeptOutcome, same), random.Random(seed)
    most, answered = min(model.architecture.max_positions or 9000, 9000), 0
    for _ in range(rows):
        load = replace(p.load, b=rng.choice((1, 2, 3, 64)), s=rng.choice((1, 7, most, rng.randint(1, most))),
                       new=rng.choice((1, 8, 200)))  # fmt: skip
        try:
            want = said(one(load))
        except InputError:  # a length that the model cannot take
            continue
        before = again.served
        assert said(again.at(load)) == want, (options, load.b, load.s, load.new)
        answered += again.served - before
        again.left = 1 if again.served == before else 2  # the next that is run is recorded
    return answered, len(again.records)


@pytest.mark.parametrize("name", families())
@pytest.mark.parametrize("options", STEPS[:2], ids=["inference", "training"])
def test_every_family(name, options):
    model = load_model(name)
    if model.architecture.counted_only and options["mode"] == "inference":
        options = STEPS[1]
    assert held_to_the_run(model, options)[1]


@pytest.mark.parametrize("options", STEPS[2:], ids=lambda o: "-".join(str(v) for v in o.values()))
@pytest.mark.parametrize("name", ["llama-3.2-1b", "gpt2", "gemma-3-1b", "olmoe-1b-7b"])
def test_every_kind_of_step(name, options):
    answered, recorded = held_to_the_run(load_model(name), options, 12)
    assert recorded
    assert answered


def forgotten():
    repeated._lately.cache_clear()
    repeated._runs.cache_clear()


def test_the_first_calls_are_run_and_later_ones_answered():
    model = load_model("llama-3.2-1b", ["num_hidden_layers=3"])
    forgotten()
    found = [api.memory(model, mode="training", seq_len=100 + i).results() for i in range(2 * PATIENCE)]
    forgotten()
    assert found == [api.memory(model, mode="training", seq_len=100 + i).results() for i in range(2 * PATIENCE)]
    forgotten()


def test_threads_that_ask_at_once_are_answered_as_one_is():
    model = load_model("gpt2", ["n_layer=3"])
    asked = [{"seq_len": 1 + 7 * i % 1000, "batch_size": 1 + i % 5, **STEPS[i % 2]} for i in range(160)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda o: api.memory(model, **o).results(), asked))
    for options, results in zip(asked, found, strict=True):
        forgotten()
        assert api.memory(model, **options).results() == results


@pytest.mark.parametrize("name", ["llama-3.2-1b", "gemma-2-27b", "deepseek-v2-lite", "jamba-v0.1", "flan-t5-base"])
@pytest.mark.parametrize("mode", ["forward", "decode"])
def test_timed_passes(name, mode):
    arch = load_model(name).architecture
    two = arch.kind == "encoder-decoder"
    for engine in (False, True):
        rng = random.Random(3)
        for _ in range(3 * PATIENCE):
            b, s = rng.choice((1, 4, 200)), rng.randint(1, 3000)
            work = PassSizes(
                mode, b, s if mode == "forward" and not two else 1, s if mode == "decode" else 0, s if two else None,
                last=True, engine=engine, fused_scan=True, uncapped=True, caches=mode == "forward",
            )  # fmt: skip
            assert run.timed(arch, work) == run._timed(arch, work)
        names = (*run.SIZED, "encoder") if two else run.SIZED
        assert run._passes(run._timed, Same(arch), Same(None), names, run.OTHERS(work)).records


@pytest.mark.parametrize(("name", "method"), [
    ("llama-3.2-1b", "full"), ("llama-3.2-1b", "lora"), ("gpt2", "lora"), ("jamba-v0.1", "full"),
    ("mixtral-8x7b", "lora"), ("flan-t5-base", "full"),
])  # fmt: skip
def test_passes_of_a_training_step(name, method):
    """Products alone, and with every kernel: what ``flops`` and ``train`` ask for."""
    model, rng = load_model(name), random.Random(5)
    how = {} if method == "full" else {"method": method, "targets": "all-linear"}
    adapter = plan(ask(Memory, model, {"mode": "training", **how})).load.adapter
    arch, two = model.architecture, model.architecture.kind == "encoder-decoder"
    for _ in range(2 * PATIENCE):
        b, s = rng.choice((1, 3, 16)), rng.randint(1, 1024)
        work = PassSizes("training", b, s, encoder=s if two else None, checkpointing=method == "lora", uncapped=True)
        assert run.operations(arch, work, adapter) == tuple(run._operations(arch, work, adapter))
        assert run.products(arch, work, adapter) == run._products(arch, work, adapter)
    for made in (run._operations, run._products):
        names = (*run.SIZED, "encoder") if two else run.SIZED
        assert run._passes(made, Same(arch), Same(adapter), names, run.OTHERS(work)).records


def test_what_is_timed_is_all_that_runs():
    work = PassSizes("forward", 2, 100, last=True, uncapped=True, caches=True)
    for name in ("llama-3.2-1b", "qwen3-next-80b-a3b"):
        arch = load_model(name).architecture
        sums = [
            {f: sum(k.times * getattr(k, f) for k in made if isinstance(k, run.Kernel))
             for f in ("launches", "moved", "strided", "welford")}
            for made in (run.operations(arch, work), run.timed(arch, work))
        ]  # fmt: skip
        assert sums[0] == sums[1]
