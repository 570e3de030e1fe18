"""Formulas by area; :data:`estimator.formula.FORMULAS` holds those of every module that was imported."""

MODULES = (
    "kvcache",
    "llamacpp",
    "optimizer",
    "storage",
    "activations",
    "peft",
    "flops",
    "zero",
    "scaling",
    "time",
    "cost",
    "energy",
    "inference",
    "decode",
    "compress",
)
