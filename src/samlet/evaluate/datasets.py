"""Where the evaluation's pictures come from: `samlet.data`, through which the trainer and batches read too."""

from samlet.data import Broken, Dataset, Item, LabelledRegions, Region, Sample

__all__ = ["Broken", "Dataset", "Item", "LabelledRegions", "Region", "Sample"]
