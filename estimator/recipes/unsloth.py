"""Unsloth under TRL's SFTTrainer: kernels of its own, and checkpoints that lie on the host.

unsloth and unsloth_zoo 2026.10.9. Its loss goes in as many parts as the card's free memory asks for, which is not
followed: Liger's parts stand for them. Below 512 tokens its checkpoints stay on the card. Not measured.
"""

from dataclasses import replace

from estimator.formula import Citation
from estimator.recipes.sft import RECIPE as SFT
from estimator.stack.offload import INPUTS

RECIPE = replace(
    SFT, name="unsloth", title="Unsloth", loss="fused", quantised_adapters=4, adapters=True,
    always={"checkpointing": "full", "kernels": "liger", "activation_offload": INPUTS},
    cite=Citation("unsloth 2026.10.9, kernels/fast_lora.py, models/llama.py; unsloth_zoo, gradient_checkpointing.py"),
    note="its own norms, MLP, LoRA and loss; every layer checkpointed, on the host from 512 tokens on; not measured",
)  # fmt: skip
