"""Choosing among regions that are there already: by points, by boxes, by words.

FastSAM finds every region of a picture at once; a prompt then only chooses. Each rule here is a pure function of
the regions and a batch of N prompts, gives N answers in prompt order, and knows no network:

    regions = Regions.of(masks)                              Masks, bool (N, H, W), or run-length codes
    by_points(regions, points, labels) -> [Pick, ...]        what to paint for each object; paint(regions, pick)
    by_boxes(regions, boxes) -> (index, overlap)             best region for each box, -1 where none fits
    by_boxes_and_points(regions, boxes, points, labels) -> index
    by_text(regions, image, text, scorer) -> TextPick        best region for a phrase, -1 where none is left

Masks stay run lengths: a question about points or boxes is answered from them, without painting a mask. The
rules are those of FastSAM's prompts (Zhao et al. 2023, arXiv 2306.12156).
"""

from samlet.regions.choosing import Pick, by_boxes, by_boxes_and_points, by_points, paint
from samlet.regions.coverage import NOTHING, Regions
from samlet.regions.words import MIN_TEXT_AREA, WIDER_SHARE, Crop, Scorer, TextPick, by_text, crops

__all__ = [
    "MIN_TEXT_AREA",
    "NOTHING",
    "WIDER_SHARE",
    "Crop",
    "Pick",
    "Regions",
    "Scorer",
    "TextPick",
    "by_boxes",
    "by_boxes_and_points",
    "by_points",
    "by_text",
    "crops",
    "paint",
]
