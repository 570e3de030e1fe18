"""Many GPUs: who holds which part of a model, and what they send each other."""
