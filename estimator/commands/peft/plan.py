"""What every report on adapters asks of one: formats, optimizer states, shares."""

from __future__ import annotations

from typing import Any

from estimator.dtypes import Format, find_format
from estimator.formulas.peft import trainable_percent
from estimator.models import Model
from estimator.peft.arguments import BASE, PeftTensor
from estimator.peft.base import FROZEN, TRAINED, Adapter
from estimator.trace import value_of


def trained_format(adapter: Adapter, dtype: str | None) -> tuple[Format, str]:
    """(format of what is trained, how it was chosen)."""
    if dtype is not None:
        return find_format(dtype), ""
    if adapter.tensors:
        return find_format(
            "fp32"
        ), "adapters are stored in fp32, as the peft library does over a 16-bit model (autocast_adapter_dtype)"
    return find_format("bf16"), "the model's own weights are trained in bf16"


def model_format(model: Model) -> Format:
    """The format of the model that the adapter sits on: its file's, else bf16."""
    from estimator.storage.file import base_format

    return find_format(base_format(model))


def optimizer_state_bytes(adapter: Adapter, fmt: Format, own: Format, name: str) -> Any:
    """Bytes of the optimizer's states for everything trained, exactly: each in the width of what it belongs to.

    fmt: of the adapter's own tensors; own: of the model's, and of copies of its modules.
    """
    from estimator.optimizers import Trained, find_optimizer, state_bytes

    def width(t: PeftTensor) -> int:
        return (own if t.format == BASE else fmt).block_bits // 8

    rows = [Trained(t.shape, width(t), t.times) for t in (*adapter.tensors, *adapter.unfrozen) if t.state == TRAINED]
    return state_bytes(find_optimizer(name), rows)


def share(adapter: Adapter, base: Any) -> Any:
    held = sum((t.elements for t in adapter.tensors if t.state == FROZEN), start=0)
    everything = base + adapter.added_trained + held
    return trainable_percent(adapter.trained, everything) if value_of(everything) else 0.0
