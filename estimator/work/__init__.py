"""The work of a model: its matrix products, forward and backward, as a list that FLOPs and times are folds over."""

from __future__ import annotations

from estimator.work.model import operations, products
from estimator.work.product import Product
from estimator.work.trainable import FULL, NONE, Trainable
from estimator.work.workload import PassSizes

__all__ = ["FULL", "NONE", "PassSizes", "Product", "Trainable", "operations", "products"]
