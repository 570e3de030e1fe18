"""The folds that count bytes, held to what they stand for: a log unrolled round by round, segments and standing bytes
written out."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest

from estimator.families.base import together
from estimator.models import load_model
from estimator.moments.outcome import Alive, Moment, Outcome, phase
from estimator.moments.run import alternating, machine, split_layers
from estimator.moments.workload import Workload
from estimator.peft.asked import build_adapter
from estimator.stack.model import Segment
from estimator.stack.packed import is_packed
from estimator.stack.releases import PRESENT
from estimator.stack.replay import Replay, alive, holders, settle
from estimator.stack.tape import Tape
from estimator.trace import recording

SIZES = (0, 1, 5, 512, 1000)


def drawn(rng):
    """A log whose buffers are handed out before they are given back, with segments of none to five rounds."""
    log, standing = [], []

    def entries(count):
        held = []
        for _ in range(count):
            if held and rng.random() < 0.45:
                yield -1, held.pop(rng.randrange(len(held)))
            else:
                held.append((rng.choice(SIZES), (rng.choice("ab"), rng.choice("xyz"))))
                yield 1, held[-1]

    for _ in range(rng.randint(0, 8)):
        how = rng.random()
        if how < 0.4:
            log.append((rng.randint(0, 5), list(entries(rng.randint(0, 6)))))
        elif standing and how < 0.6:
            log.append((-1, standing.pop(rng.randrange(len(standing)))))
        else:
            standing.append((rng.choice(SIZES), (rng.choice("ab"), rng.choice("xyz"))))
            log.append((1, standing[-1]))
    return log


def unrolled(log):
    """((entries before, rounds before, entries within), sign, record) of each step, round by round."""
    for i, (sign, what) in enumerate(log):
        if isinstance(what, list):
            for r in range(sign):
                for j, (s, record) in enumerate(what):
                    yield (i, r, j + 1), s, record
        else:
            yield (i + 1, 0, 0), sign, what


@pytest.mark.parametrize("part", range(8))
def test_a_fold_is_the_log_unrolled(part):
    """End, peak and place, and who is alive at it: base bytes apart, the buffers alive add up to the peak."""
    rng = Random(part)
    for _ in range(150):
        log, base = drawn(rng), rng.choice((0, 700))
        start = rng.choice((0, 0, len(log) // 2))
        fold = Replay(base)
        assert (fold.level, fold.peak, fold.top) == (base, base, None)
        fold.run(log, start)
        level, peak, where = base, base, None
        steps = [s for s in unrolled(log) if s[0][0] > start or (s[0][0] == start and s[0][2])]
        for at, sign, record in steps:
            level += sign * record[0]
            if level > peak:
                peak, where = level, at
        assert (fold.level, fold.peak) == (level, peak)
        assert fold.top == where
        if start == 0 and fold.top is not None:
            held = alive(log, fold.top)
            assert sum(held.values()) == peak - base
            want = {}
            for at, sign, record in steps:
                if at <= fold.top or (at[0] == fold.top[0] and at[1] < fold.top[1]):
                    want[record[1]] = want.get(record[1], 0) + sign * record[0]
            assert held == {k: v for k, v in want.items() if v}
            assert all(v > 0 for v in held.values())


def test_nothing_is_alive_where_there_is_no_peak():
    assert holders([(1, (8, ("a", "x")))], None) == {}
    assert alive([], None) == {}


A, B, C = (100, ("layer", "a")), (100, ("layer", "b")), (100, ("layer", "c"))


def test_what_a_round_gives_back_of_the_round_before_goes_by_one_name():
    """A layer frees its input under the name that the layer before gave it; sizes that differ stay apart."""
    log = [(1, A), (3, [(1, B), (-1, A)])]  # a stream: each layer takes what the one before made
    assert holders(log, (2, 0, 0)) == {(A[1], 100): [0, 100], (B[1], 100): [1, 100]}
    assert holders(log, (1, 2, 1)) == {(A[1], 100): [0, 100], (B[1], 100): [2, 100]}
    log = [(1, A), (1, B), (-1, C), (-1, C)]
    assert holders(log, (4, 0, 0)) == {(A[1], 100): [0, 100], (B[1], 100): [0, 100], (C[1], 100): [0, 100]}
    log = [(1, A), (1, A), (1, A), (-1, C), (1, B)]  # no more than is missing, from the first that has any
    assert holders(log, (5, 0, 0)) == {(A[1], 100): [2, 100], (C[1], 100): [0, 100], (B[1], 100): [1, 100]}
    log = [(1, (50, A[1])), (-1, C)]
    assert holders(log, (2, 0, 0)) == {(A[1], 50): [1, 50], (C[1], 100): [-1, 100]}
    assert alive(log, (2, 0, 0)) == {A[1]: 50, C[1]: -100}
    log = [(1, (50, A[1])), (1, A), (-1, (50, A[1]))]
    assert alive(log, (3, 0, 0)) == {A[1]: 100}


def test_what_all_rounds_share_is_given_back_once():
    shared, carried, own = (7, ("m", "mask")), (9, ("m", "stream")), (3, ("l", "own"))
    inside = [(1, own), (-1, shared), (-1, own), (-1, carried)]
    log = [(1, shared), (1, carried), (4, list(inside)), (2, [(-1, own)])]
    settle(log, 0, [carried])
    assert log == [(1, shared), (1, carried), (4, [(1, own), (-1, own), (-1, carried)]), (-1, shared), (2, [(-1, own)])]
    log = [(1, shared), (4, list(inside)), (4, list(inside))]
    settle(log, 2, [])  # what lies before the start stays
    assert log == [(1, shared), (4, inside), (4, [(1, own), (-1, own), (-1, carried)]), (-1, shared)]
    log = [(1, shared), (1, own), (2, [(-1, own), (1, carried), (-1, shared)])]
    settle(log, 0, [])
    assert log == [(1, shared), (1, own), (2, [(1, carried)]), (-1, own), (-1, shared)]
    log = [(-1, shared), (2, [(-1, shared)])]  # handed out before this log
    settle(log, 0, [])
    assert log == [(-1, shared), (2, [(-1, shared)])]


def test_a_phase_begins_at_its_own_level():
    log = [(1, (1000, A[1])), (-1, (1000, A[1])), (1, B), (-1, B)]
    fold = Replay(5)
    fold.run(log[:2])
    found = phase("forward", "Forward", log, 2, fold, {("model", "weights"): 5})
    assert (found.peak, found.end) == (105, 5)
    assert found.buffers() == found.live == {("model", "weights"): 5, B[1]: 100}
    assert (found.total(False), found.total(True)) == (105, 105)
    nothing = phase("end", "End", log, 4, fold, {("model", "weights"): 5})
    assert (nothing.peak, nothing.end, nothing.buffers()) == (5, 5, {("model", "weights"): 5})
    freed = [(1, A), (1, A), (2, [(-1, A)])]
    assert phase("free", "Free", freed, 2, Replay(200), {}).buffers() == {A[1]: 200}
    assert Alive({A[1]: 1}, log, (3, 0, 0), {C[1]: 2})() == {A[1]: 1, B[1]: 100, C[1]: 2}
    out = Outcome([nothing, found, Moment("later", "Later", 105, 0)], 5)
    assert out.worst is found
    assert out["end"] is nothing


def parts(name, how=lambda segments: segments, **options):
    """(which group of layers, how many, whether they train) of each segment."""
    arch = load_model(name).architecture
    groups = [id(layer) for layer in together(arch.layers)]
    segments = how(split_layers(arch, Workload(1, 8, **options)))
    return [(groups.index(id(s.layer)), s.times, s.trains) for s in segments]


T, F = True, False
SPLIT = (
    ("gpt2", {}, [(0, 1, None), (0, 11, None)]),
    ("gpt2", {"stage": 2, "gpus": 2}, [(0, 1, None), (0, 10, None), (0, 1, None)]),
    ("gpt2", {"stage": 3, "gpus": 3}, [(0, 1, None), (0, 10, None), (0, 1, None)]),
    ("gpt2", {"stage": 2, "gpus": 1}, [(0, 1, None), (0, 11, None)]),
    ("gpt2", {"stage": 1, "gpus": 2}, [(0, 1, None), (0, 11, None)]),
    ("gpt2", {"stage": 3, "gpus": 2, "sharder": "deepspeed"}, [(0, 1, None)] * 12),
    ("gpt2", {"stage": 2, "gpus": 2, "top": 12}, [(0, 1, T), (0, 10, T), (0, 1, T)]),
    ("gpt2", {"stage": 2, "gpus": 2, "top": 1}, [(0, 1, F), (0, 10, F), (0, 1, T)]),
    ("gpt2", {"top": 0}, [(0, 1, F), (0, 11, F)]),
    ("gpt2", {"top": 1}, [(0, 1, F), (0, 10, F), (0, 1, T)]),
    ("gpt2", {"top": 4}, [(0, 1, F), (0, 7, F), (0, 1, T), (0, 3, T)]),
    ("gpt2", {"top": 11}, [(0, 1, F), (0, 1, T), (0, 10, T)]),
    ("gpt2", {"top": 12}, [(0, 1, T), (0, 11, T)]),
    ("gemma-3-270m", {}, [(0, 1, None), (0, 14, None), (1, 3, None)]),
    ("gemma-3-270m", {"stage": 2, "gpus": 2}, [(0, 1, None), (0, 13, None), (0, 1, None), *[(1, 1, None)] * 3]),
    ("gemma-3-270m", {"top": 3}, [(0, 1, F), (0, 12, F), (1, 2, F), (0, 1, T), (0, 1, T), (1, 1, T)]),
    ("gemma-3-270m", {"top": 6}, [(0, 1, F), (0, 9, F), (1, 2, F), (0, 1, T), (0, 4, T), (1, 1, T)]),
    ("gemma-3-270m", {"top": 7}, [(0, 1, F), (0, 9, F), (1, 1, F), (0, 1, T), (0, 4, T), (1, 1, T), (1, 1, T)]),
    ("t5-small", {}, [(0, 1, None), (0, 4, None), (0, 1, None), (1, 1, None), (1, 4, None), (1, 1, None)]),
    ("t5-small", {"top": 1},
     [(0, 1, F), (0, 4, F), (0, 1, F), (1, 1, F), (1, 3, F), (1, 1, F), (1, 1, T)]),
    ("t5-small", {"top": 2},
     [(0, 1, F), (0, 4, F), (0, 1, F), (1, 1, F), (1, 2, F), (1, 1, F), (1, 1, T), (1, 1, T)]),
    ("t5-small", {"top": 3},
     [(0, 1, F), (0, 4, F), (0, 1, F), (1, 1, F), (1, 1, F), (1, 1, F), (1, 1, T), (1, 1, T), (1, 1, T)]),
    ("t5-small", {"top": 6}, [(0, 1, F), (0, 4, F), (0, 1, F), (1, 1, T), (1, 4, T), (1, 1, T)]),
    ("albert-base-v2", {}, [(0, 1, None), (0, 10, None), (0, 1, None)]),
)  # fmt: skip


@pytest.mark.parametrize(("name", "options", "want"), SPLIT)
def test_layers_as_segments(name, options, want):
    assert parts(name, **options) == want
    assert sum(times for _, times, _ in want) == sum(g.times for g in together(load_model(name).architecture.layers))


def test_the_last_layer_of_a_group_that_trains_trains():
    arch = load_model("gemma-3-270m").architecture
    one, other = arch.layers
    groups = one._replace(times=14, indices=tuple(range(14))), other._replace(times=4, indices=(14, 15, 16, 17))
    segments = split_layers(arch._replace(layers=groups), Workload(1, 8, top=4, stage=2, gpus=2))
    assert [(s.times, s.trains) for s in segments] == [(1, F), (12, F), (1, F), (1, T), (2, T), (1, T)]
    two = arch._replace(layers=(one._replace(times=3, indices=None),))
    assert [s.times for s in split_layers(two, Workload(1, 8, stage=2, gpus=2))] == [1, 1, 1]


def with_adapter(arch, method, rank=None, targets=None, **args):
    config = {"model_type": "gpt2", "hidden_size": 768, "num_hidden_layers": 12}
    return build_adapter(arch, "gpt2", config, method, rank, targets, args)


def adapted(arch, **args):
    return with_adapter(arch, "lora", 8, ["attn.c_attn"], **args)


def test_virtual_tokens_stand_before_the_others():
    """Of prompts in every sequence, of prefixes among the keys alone."""
    arch = load_model("gpt2").architecture._replace(encoder_tokens=30)
    for method, want in (("prompt_tuning", (13, 13, 35, 0, 5, False)), ("prefix_tuning", (8, 13, 30, 5, 0, True))):
        made = with_adapter(arch, method, num_virtual_tokens=5)
        m = machine(arch, Workload(2, 8, adapter=made), Tape())
        assert (m.s, m.kv, m.enc_tokens, m.prefix, m.prompted, m.blocks) == want


def test_an_adapter_of_some_layers_parts_them():
    """What is below the first adapted layer, that layer, and those above it; all alike without an adapter of some."""
    arch = load_model("gpt2").architecture

    def found(**options):
        load = Workload(1, 8, **options)
        return [s.times for s in split_layers(arch, load, machine(arch, load, Tape()))]

    some, every = adapted(arch, layers_to_transform=[3, 4]), adapted(arch)
    assert found(adapter=some) == [1, 2, 1, 1, 7]
    assert found(adapter=every) == found() == found(adapter=some, training=False) == [1, 11]
    assert [s.times for s in split_layers(arch, Workload(1, 8, adapter=some))] == [1, 11]


def test_settings_of_a_run():
    arch = load_model("gpt2").architecture

    def made(b=2, **options):
        tape = Tape()
        return machine(arch, Workload(b, 8, **options), tape), tape

    assert [made(kept_gradients=k, stage=s, gpus=g)[0].standing for k, s, g in (
        (True, 0, 1), (True, 1, 2), (True, 2, 2), (True, 3, 2), (True, 2, 1), (False, 0, 1), (False, 2, 1)
    )] == [True, True, False, False, True, False, False]  # fmt: skip
    assert [made(b)[1].single for b in (1, 2)] == [True, False]
    assert [made(half=half)[1].fp16 for half in ("fp16", "bf16")] == [True, False]
    every = adapted(arch)
    assert [made(**o)[0].inputs_want_grad for o in (
        {}, {"adapter": every}, {"adapter": every, "training": False}, {"adapter": every, "top": 2}, {"top": 2},
    )] == [False, True, False, False, False]  # fmt: skip
    m = made(loss="parallel")[0]
    assert (m.loss, m.parallel_loss, m.selective, m.logits) == ("full", True, False, "all")
    m = made(loss="fused", checkpointing="selective", training=False)[0]
    assert (m.loss, m.parallel_loss, m.selective, m.logits) == ("fused", False, True, "last")
    assert [made(fused=f)[0].fused for f in (True, False)] == [True, False]
    assert [made(packing=p)[0].blocks for p in (False, True)] == [False, True]
    old = replace(PRESENT, makes_masks=True)
    assert [made(release=old, masked=x)[0].blocks for x in (True, False)] == [False, True]
    assert [made(kbit=k)[0].w for k in (False, True)] == [2, 4]
    plain, packed = made()[0], made(quantization="nf4", b=1)[0]
    double = made(quantization="nf4-dq")[0]
    name = next(w.module for w in arch.weights() if is_packed(w, Workload(1, 8, quantization="nf4")))
    assert [m.packed(n) for m in (packed, double) for n in (name, "x")] == ["plain", "", "nested", ""]
    assert not plain.packed(name)


def test_one_layer_of_each_kind_comes_first():
    assert parts("gemma-3-270m", alternating) == [(0, 1, None), (1, 1, None), (0, 14, None), (1, 2, None)]
    assert parts("gpt2", alternating) == [(0, 1, None), (0, 11, None)]
    assert parts("gemma-3-270m", alternating, top=3) == [
        (0, 1, F), (1, 1, F), (0, 12, F), (1, 1, F), (0, 1, T), (0, 1, T), (1, 1, T)
    ]  # fmt: skip
    layer = load_model("gpt2").architecture.layers[0]
    assert [(s.times, s.trains) for s in alternating([Segment(layer, 4, True), Segment(layer, 2)])] == [
        (1, True), (3, True), (2, None)
    ]  # fmt: skip


def test_defaults_are_nothing():
    assert (Replay().level, Replay().peak) == (0, 0)
    out = Outcome([], 5)
    assert (out.states, out.gradients, out.trained, out.base, out.unmet) == (0, 0, [], {}, ())


def test_what_is_alive_is_added_up_and_an_outcome_begins_at_nothing():
    label = ("a", "x")
    assert Alive({label: 5}, [(1, (8, label))], (1, 0, 0), {label: 3, ("b", "y"): 2})() == {label: 16, ("b", "y"): 2}
    made = Outcome([], 7)
    assert (made.weights, made.states, made.gradients, made.operations) == (7, 0, 0, 0)


def test_a_recorded_peak_is_placed_when_it_is_read():
    log = [(1, (8, ("a", "x")))]
    token = recording.set(SimpleNamespace(key=lambda size: size))
    try:
        assert holders(log, SimpleNamespace(place=lambda: (1, 0, 0))) == {(("a", "x"), 8): [1, 8]}
        assert holders(log, None) == {}
    finally:
        recording.reset(token)


def test_a_machine_asks_an_adapter_of_what_its_layers_have():
    arch = load_model("gpt2").architecture
    cpt = with_adapter(arch, "cpt", cpt_token_ids=[1, 2, 3])
    assert machine(arch, Workload(2, 8, adapter=cpt), Tape()).after is not None
    assert machine(arch, Workload(2, 8, adapter=cpt, training=False), Tape()).after is None
    two = adapted(arch, rank_pattern={"h.0.attn.c_attn": 3})
    m = machine(arch, Workload(2, 8, adapter=two), Tape())
    (name, spec), = m.varied.items()
    m.segment_without = frozenset([(name, 0)])
    assert m.adapters(name) is spec.also[0]
    m.segment_without = frozenset([(name, 1)])
    assert m.adapters(name) is spec
