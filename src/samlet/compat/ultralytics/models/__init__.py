"""Where `ultralytics.models` has its models, for imports by their long names."""

from samlet.compat.ultralytics.fast_sam import FastSAM
from samlet.compat.ultralytics.sam import SAM

__all__ = ["SAM", "FastSAM"]
