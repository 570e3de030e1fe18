"""What the step's log of products says where a family's classes, or an adapter, do more than multiply."""

from __future__ import annotations

from estimator.models import load_model
from estimator.peft.asked import prepare
from estimator.work.run import products
from estimator.work.workload import PassSizes


def test_a_prefix_has_no_gradient_in_a_forward_pass() -> None:
    model = load_model("llama-3.2-1b")
    adapter = prepare(model, "prefix_tuning", None, None, {}, None)
    found = products(model.architecture, PassSizes("forward", 1, 64, fused=True), adapter)
    assert sum(q.backward() for q in found) == 0


def test_nothing_below_the_first_adapter_is_differentiated() -> None:
    """Jamba's LoRA sits in its attentions, the lowest of which is layer 4."""
    model = load_model("jamba-v0.1")
    adapter = prepare(model, "lora", 8, "q_proj,v_proj", {}, None)
    found = products(model.architecture, PassSizes("training", 1, 24), adapter)
    assert sum(q.times for q in found if q.name.endswith("mamba.in_proj") and not q.left) == 4
