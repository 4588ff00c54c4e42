"""Measures a model: data sets, protocols and reports. It needs the extra "eval" (OpenCV)."""

from samlet.evaluate.datasets import Broken, Dataset, Item, Region, Sample
from samlet.evaluate.protocols import ObjectResult, Plan, SetResult, evaluate_set

__all__ = [
    "Broken",
    "Dataset",
    "Item",
    "ObjectResult",
    "Plan",
    "Region",
    "Sample",
    "SetResult",
    "evaluate_set",
]
