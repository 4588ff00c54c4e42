"""What tuning changed, for the eye: held-out pictures with their labels, the model before and the model after."""

import numpy as np
from PIL import Image as PillowImage

from samlet import drawing
from samlet.backends.onnx import OnnxBackend
from samlet.card import Card
from samlet.data import IGNORE
from samlet.evaluate.baselines import tight_box
from samlet.evaluate.metrics import iou
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.session import Session
from samlet.train.pictures import Picture

OBJECTS, PICTURES, CELL = 40, 4, 300


def before_after(
    before: Card, after: Card, pictures: list[Picture], *, at_most: int = PICTURES
) -> PillowImage.Image:
    """Draw some pictures, a row each: labels, masks before, masks after, all from the same boxes.

    Args:
        before: The model that tuning began with.
        after: The tuned one.
        pictures: Evenly spread ones are taken.
        at_most: Rows.
    """
    chosen = pictures[:: max(1, len(pictures) // at_most)][:at_most]
    sessions = [Session(card, OnnxBackend()) for card in (before, after)]
    panels, captions = [], []
    for picture in chosen:
        image = Image(picture.pixels)
        ids = picture.regions[0]
        keys = [key for key in np.unique(ids) if key not in (0, IGNORE)][:OBJECTS]
        truths = [ids == key for key in keys]
        prompt = Prompt.make(image_hw=image.hw, boxes=[tight_box(truth) for truth in truths])
        panels.append(drawing.overlay(image, truths))
        captions.append(f"{picture.name}: labels")
        for session, word in zip(sessions, ("before", "after"), strict=True):
            masks = session.segment(session.embed(image), prompt).masks
            mean = np.mean(
                [iou(mask, truth, ignore=ids == IGNORE) for mask, truth in zip(masks, truths, strict=True)]
            )
            panels.append(drawing.overlay(image, list(masks)))
            captions.append(f"{word}: box IoU {mean:.3f}")
    return drawing.contact_sheet(panels, 3, captions, cell=CELL)
