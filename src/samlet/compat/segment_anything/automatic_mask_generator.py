"""Where the original keeps its automatic mask generator."""

from samlet.compat.segment_anything.automatic import SamAutomaticMaskGenerator

__all__ = ["SamAutomaticMaskGenerator"]
