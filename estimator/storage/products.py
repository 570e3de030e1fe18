"""What the products of a layout run in, by the accelerator's generation: data for ``infer`` and the engines.

Read from the kernel choice of vLLM 0.19 to 0.33, SGLang 0.4 and TensorRT-LLM 1.0: 4-bit integers, NF4 and LLM.int8()
are unpacked to 16 bits everywhere (Marlin, AWQ and bitsandbytes kernels; LLM.int8() multiplies its outlier-free part
in int8, but no faster than 16 bits); fp8 needs Ada, Hopper or Blackwell, NVFP4 Blackwell; before them Marlin kernels
unpack to 16 bits. MXFP4 weights meet fp8 activations on Blackwell (FlashInfer, TensorRT-LLM).
"""

from __future__ import annotations

from estimator.storage.layouts import FP8, INT8, MXFP4, NVFP4, WEIGHT_ONLY

# what a layout's products are -> generation of the accelerator -> the format that multiplies; others: 16 bits
_FASTEST: dict[str, dict[str, str]] = {
    WEIGHT_ONLY: {},
    INT8: dict.fromkeys(("Turing", "Ampere", "Ada", "Hopper", "Blackwell"), "int8"),
    FP8: dict.fromkeys(("Ada", "Hopper", "Blackwell", "CDNA3", "CDNA4", "RDNA4"), "fp8"),
    NVFP4: {"Blackwell": "fp4"},
    MXFP4: {"Blackwell": "fp8", "CDNA4": "fp4"},
}


def multiplied_in(products: str, generation: str, base: str = "bf16") -> str:
    """The format that the fastest kernels multiply a layout's matrices in.

    products: :attr:`estimator.storage.layouts.Layout.products`; generation: a GPU preset's ``architecture``.
    """
    known = _FASTEST[products]
    return next((fmt for name, fmt in known.items() if generation.startswith(name)), base)
