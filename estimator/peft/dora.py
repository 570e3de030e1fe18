"""DoRA: LoRA and a trained magnitude for each output, as peft's ``use_dora``.

Source: Liu et al. 2024, arXiv 2402.09353, eq. 5; peft 0.21.2, tuners/lora/dora.py.
"""

from __future__ import annotations

from estimator.peft import lora
from estimator.peft.base import Method

METHOD = Method(
    name="dora",
    title="DoRA",
    cite="Liu et al. 2024, arXiv 2402.09353, eq. 5; peft 0.21.2, tuners/lora/dora.py",
    build=lora.build,
    args={**lora.ARGS, "use_dora": True},
    accepts=lora.ACCEPTS,
    kinds=lora.KINDS,
    work=lora.work,
    mapping="lora",
    library=False,
    simulated=True,
)
