"""Which layers of a model stand for others: what a segment is where layers are simulated once and repeated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from estimator.models import load_model
from estimator.moments import Workload
from estimator.moments.run import _ends, _in_turn, folds, ordered, split_layers
from estimator.parallel.coordinator import settings
from estimator.stack.model import Segment


def arch(name):
    return load_model(name).architecture


def cut(name, m=None, **load):
    """(window, layers, whether later ones reuse their keys) of each segment."""
    found = split_layers(arch(name), Workload(1, 64, **load), m)
    return [(s.layer.mixer.window, s.times, s.stores) for s in found]


def test_the_first_layer_and_each_kind():
    assert cut("llama-3-8b") == [(None, 1, False), (None, 31, False)]
    assert cut("gpt-oss-20b") == [(128, 1, False), (128, 11, False), (None, 12, False)]


def test_the_last_layer_of_a_stage_stands_alone():
    assert cut("gpt-oss-20b", SimpleNamespace(hands_on=True, ahead=None)) == [
        (128, 1, False), (128, 11, False), (None, 11, False), (None, 1, False)
    ]  # fmt: skip


def test_gathered_layers_have_ends_of_their_own():
    """What FSDP gathers lives into the next layer, which may be of another kind."""
    assert cut("llama-3-8b", stage=3, gpus=8) == [(None, 1, False), (None, 30, False), (None, 1, False)]
    assert cut("gpt-oss-20b", stage=2, gpus=2) == [
        (128, 1, False), (128, 10, False), (128, 1, False), (None, 1, False), (None, 10, False), (None, 1, False)
    ]  # fmt: skip
    assert cut("llama-3-8b", stage=3, gpus=1) == cut("llama-3-8b", stage=1, gpus=8) == cut("llama-3-8b")


def test_every_layer_of_deepspeed_stands_alone():
    assert cut("pythia-14m", sharder="deepspeed", stage=1, gpus=2) == [(None, 1, False)] * 6
    assert cut("pythia-14m", sharder="deepspeed", stage=0, gpus=2) == cut("pythia-14m")


def test_ends():
    found = [_ends(5, first, last) for first in (False, True) for last in (False, True)]
    assert found == [[5], [4, 1], [1, 4], [1, 3, 1]]
    assert _ends(1, True, True) == [1]
    assert _ends(2, True, True) == _ends(2, True, False) == [1, 1]


def test_layers_in_order_are_those_whose_keys_are_reused_and_recomputed():
    checkpointed = Workload(1, 64, checkpointing="full")
    assert ordered(arch("gemma-4-e2b"), checkpointed)
    assert not ordered(arch("gemma-4-e2b"), Workload(1, 64))
    assert not ordered(arch("llama-3-8b"), checkpointed)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, True), ({"stage": 3}, False), ({"adapter": None}, False), ({"kept_gradients": True}, False)],
)
def test_layers_fold_where_an_adapter_fills_no_bucket(given, wanted):
    model = arch("llama-3-8b")
    bucket = settings("default", 4096).bucket
    load = {"stage": 2, "adapter": SimpleNamespace(trained=bucket), "kept_gradients": False, "buckets": "default"}
    assert folds(model, SimpleNamespace(**load | given)) is wanted
    assert not folds(model, SimpleNamespace(**load | {"adapter": SimpleNamespace(trained=bucket + 1)}))


def segment(indices, times, trains=None, without=frozenset()):
    return Segment(SimpleNamespace(indices=indices), times, trains, without)


def test_layers_in_turn():
    first, odd, even = segment((0,), 1), segment((1, 2, 5), 3), segment((3, 4), 2)
    got = _in_turn([first, odd, even])
    assert [(s.layer, s.times) for s in got] == [(first.layer, 1), (odd.layer, 2), (even.layer, 2), (odd.layer, 1)]
    same = segment((0, 1, 2), 3)  # the first layer stays by itself
    assert [s.times for s in _in_turn([same])] == [1, 2]
    for unlike in (
        segment(None, 1), segment((1,), 1, trains=False), segment((1,), 1, without=frozenset("q")), segment((1,), 1.0),
    ):  # fmt: skip
        given = [first, unlike]
        assert _in_turn(given) is given


def test_the_last_layers_that_make_keys_store_them():
    """Gemma 4 31B: 50 layers with a window, every sixth without; of E2B's 35 layers 13 and 14 are those that the last
    20 take keys from (modeling_gemma4.py, store_full_length_kv), and the last of those 20 makes the first gradient."""
    assert cut("gemma-4-31b") == [
        (1024, 1, False), (1024, 48, False), (1024, 1, True), (None, 9, False), (None, 1, True)
    ]  # fmt: skip
    assert cut("gemma-4-e2b") == [
        (512, 1, False), (512, 10, False), (512, 1, True), (None, 2, False), (None, 1, True),
        (512, 15, False), (512, 1, False), (None, 3, False), (None, 1, False),
    ]  # fmt: skip
    assert cut("gemma-4-e2b", checkpointing="full")[5:9] == [
        (512, 3, False), (512, 1, True), (None, 1, True), (512, 4, False)
    ]  # fmt: skip


def test_trained_layers_stand_apart():
    """The lowest of them is one that passes no gradient on."""
    found = split_layers(arch("llama-3-8b"), Workload(1, 64, top=2))
    assert [(s.times, s.trains) for s in found] == [(1, False), (29, False), (1, True), (1, True)]


def times(model, m=None, **load):
    return [s.times for s in split_layers(model, Workload(1, 64, **load), m)]


def test_what_all_layers_share_gets_its_first_gradient_from_the_last():
    llama = arch("llama-3-8b")
    assert times(arch("albert-base-v2-encoder")) == [1, 10, 1]  # one layer's weights
    assert times(arch("flan-t5-base")) == [1, 10, 1, 1, 10, 1]  # the encoder's output, positions
    assert times(llama, SimpleNamespace(hands_on=False, ahead=print)) == [1, 30, 1]  # what an adapter makes before it
    blocks = llama._replace(layers=tuple(x._replace(ahead=x.mlp) for x in llama.layers))
    assert times(blocks) == times(blocks, SimpleNamespace(hands_on=False, ahead=None)) == [1, 30, 1]
    assert times(llama, SimpleNamespace(hands_on=False, ahead=None)) == times(llama) == [1, 31]
