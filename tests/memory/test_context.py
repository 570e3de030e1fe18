"""Context parallelism under PyTorch's recipes: a GPU's tokens of a sequence, and what the ring holds at attention."""

from __future__ import annotations

import pytest

from estimator.commands.memory.plan import plan, simulate
from estimator.commands.memory.question import Memory
from estimator.errors import InputError
from estimator.questions import ask
from estimator.stack import ring
from estimator.stack.tape import Tape

GIVEN = {"mode": "training", "recipe": "torch-bf16", "stage": "3", "gpus": 4}


def peak(**more):
    return simulate(plan(ask(Memory, "llama-3.2-1b", GIVEN | more))).worst.peak


def test_a_gpu_has_its_tokens_of_each_sequence():
    """The loss, where these steps peak, is of a quarter of the tokens; shards lie on all four GPUs all the same. What
    the ring puts together is copied when the heads are merged: measured, 16 layers of 2,048 tokens of 2,048 numbers."""
    assert peak(seq_len=8192, context_parallel=4) - peak(seq_len=2048) == 16 * 2048 * 2048 * 2


def test_the_ring_holds_the_keys_and_values_of_the_group():
    """By torch's _templated_ring_attention: contiguous ones, one piece to send, and the group's; fp32 beside."""
    t, keys, queries = Tape(), 1024, 4096
    held = ring.gathered(t, keys, keys, 2, 4)
    assert sum(x.n * x.w for x in held) == 2 * (2 * keys + 2 * keys + 4 * 2 * keys)
    assert sum(x.n * x.w for x in ring.merged(t, queries)) == 4 * 4 * queries
    assert sum(x.n * x.w for x in ring.gradients(t, queries, keys, keys)) == 4 * (queries + 2 * keys + 2 * 2 * keys)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"context_parallel": 4, "stage": "0"}, "add --stage 2 or 3"),
        ({"context_parallel": 3, "gpus": 4}, "does not divide --gpus 4"),
        ({"context_parallel": 4, "seq_len": 1004}, "is not a multiple of 8"),
        ({"context_parallel": 4, "attention": "eager"}, "is not simulated with another attention"),
        ({"context_parallel": 4, "recipe": "sft"}, "is not simulated with --recipe sft"),
        ({"context_parallel": 2, "tensor_parallel": 2}, "use one of them"),
    ],
)
def test_what_it_does_not_run(more, said):
    with pytest.raises(InputError, match=said):
        peak(**{"seq_len": 2048} | more)
