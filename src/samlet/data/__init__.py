"""Data sets as they lie on people's disks, behind one door: pictures listed, masks or boxes read one picture at a time.

Evaluation, training and batches read through it. It imports no training framework and needs nothing but the plain
install, except for BSDS500's `.mat` files (`samlet[mat]`).
"""

from samlet.data.dataset import KINDS, Dataset
from samlet.data.sample import IGNORE, Boxed, Broken, Item, LabelledRegions, Region, Sample

__all__ = ["IGNORE", "KINDS", "Boxed", "Broken", "Dataset", "Item", "LabelledRegions", "Region", "Sample"]
