"""Presets whose checkpoints are quantised."""

from __future__ import annotations

from estimator.models import load_model
from estimator.storage import model_storage


def test_kimi_k2_is_counted_in_its_int4():
    """Experts in 4 bits with a 16-bit scale for 32 inputs and 16 bytes of shape a matrix, the rest in bf16."""
    model = load_model("kimi-k2")
    experts, matrices = 60 * 384 * 3 * 7168 * 2048, 60 * 384 * 3
    rest = model.expect["total_params"] - experts
    assert model_storage(model).bytes == experts // 2 + experts // 16 + 16 * matrices + 2 * rest
    assert model_storage(model, "none").bytes == 2 * model.expect["total_params"]
