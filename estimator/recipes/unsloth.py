"""Unsloth under TRL's SFTTrainer: kernels of its own, and checkpoints that lie on the host.

unsloth and unsloth_zoo 2026.10.9. Measured: 14 steps of one H100, tests/accuracy/stacks_wrapped.json.gz.
"""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.sft import RECIPE as SFT
from estimator.stack.codes import UNSLOTH
from estimator.stack.offload import INPUTS

RECIPE = replace(
    SFT, name="unsloth", title="Unsloth", loss="rows", quantised_adapters=4, adapters=True, code=UNSLOTH,
    checkpoints=False,
    always={"kernels": "liger", "reentrant": True}, unsaid={"checkpointing": "full", "activation_offload": INPUTS},
    cite=Citation("unsloth 2026.10.9, kernels/fast_lora.py, models/llama.py; unsloth_zoo, gradient_checkpointing.py, "
                  "fused_losses/fused_linear.py"),
    note="its own norms, MLP, LoRA and loss; every layer checkpointed on the host, where --checkpointing is not given",
)  # fmt: skip
