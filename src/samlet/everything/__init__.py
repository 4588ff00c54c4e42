"""Everything in a picture: by clicking on a grid (SAM), or from boxes of objects (MobileSAMv2)."""

from samlet.everything.coarse import COARSE
from samlet.everything.engine import GridEngine, Progress, everything
from samlet.everything.finder import Mode
from samlet.everything.grid import Grid
from samlet.everything.objects import Objects, masks_of_boxes, object_boxes, objects

__all__ = [
    "COARSE",
    "Grid",
    "GridEngine",
    "Mode",
    "Objects",
    "Progress",
    "everything",
    "masks_of_boxes",
    "object_boxes",
    "objects",
]
