"""Serving a model: the time of a prefill and of a decode step, on one accelerator or several."""
