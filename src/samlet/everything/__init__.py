"""Everything in a picture, found by clicking on a grid: SAM's automatic mask generation."""

from samlet.everything.engine import GridEngine, Progress, everything
from samlet.everything.finder import Mode
from samlet.everything.grid import Grid

__all__ = ["Grid", "GridEngine", "Mode", "Progress", "everything"]
