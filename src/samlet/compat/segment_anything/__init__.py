"""A drop-in for `segment_anything` and `mobile_sam`: change the import, keep the rest.

    from samlet.compat.segment_anything import SamPredictor, sam_model_registry

It works without torch, in numpy; where torch is loaded, the methods that gave tensors give tensors. What
differs from the original is listed in docs/how-to/from-segment-anything.md.
"""

from samlet.compat.segment_anything.automatic import SamAutomaticMaskGenerator
from samlet.compat.segment_anything.build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    build_sam_vit_t,
    sam_model_registry,
)
from samlet.compat.segment_anything.modeling import Sam
from samlet.compat.segment_anything.predictor import SamPredictor
from samlet.compat.segment_anything.utils.transforms import ResizeLongestSide

__all__ = [
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "sam_model_registry",
]
