"""Text prompts for every model, in two ways; neither needs a text model until it is asked something.

Regions first, words second: everything mode or FastSAM finds all regions, a scorer such as CLIP ranks them.

    scorer = load_clip(image_tower, text_tower, tokenizer)          torch-free; or clip_from_open_clip(...)
    pick(masks, image, ["a dog", "a bench"], scorer) -> StoredMasks

Words first, regions second: a detector finds boxes, any promptable model cuts them out.

    detector = load_detector("IDEA-Research/grounding-dino-tiny")   with transformers; or any `Detector`
    segment_text(model, image, ["a dog"], detector) -> StoredMasks

Both answers carry their words: `masks.facts["text"]`, one for each mask, which `to_coco(labels=...)` takes.
"""

from samlet.text.clip import CLIP_FILES, CLIP_REPOSITORY, clip_from_open_clip, default_scorer, load_clip
from samlet.text.detectors import GroundingDino, Owl, load_detector
from samlet.text.grounding import Detections, Detector, segment_text
from samlet.text.ranking import pick
from samlet.text.scoring import CosineScorer

__all__ = [
    "CLIP_FILES",
    "CLIP_REPOSITORY",
    "CosineScorer",
    "Detections",
    "Detector",
    "GroundingDino",
    "Owl",
    "clip_from_open_clip",
    "default_scorer",
    "load_clip",
    "load_detector",
    "pick",
    "segment_text",
]
