"""Everything in a picture that is too large for one look: tile by tile, joined across the seams."""

from samlet.tiling.layout import tiles
from samlet.tiling.walk import everything_tiled

__all__ = ["everything_tiled", "tiles"]
