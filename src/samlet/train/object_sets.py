"""What each of the training sets is good for when objects are to be found: nano's object head, and all instances."""

from dataclasses import dataclass

import cv2
import numpy as np

from samlet.train.pictures import Picture


@dataclass(frozen=True)
class SetPlan:
    """What a set is good for.

    Attributes:
        views: Views of each picture in the object head's cache: whole, mirrored, then crops.
        weight: How often a view of it is drawn, relative to other sets' views.
        trust: How far a place without a label is background: 1 where most objects are labelled, 0 where one is.
    """

    views: int
    weight: float
    trust: float


# Objects only: sets whose regions are surfaces, parts or defects are left out, or count little.
PLAN = {
    "coco_mini": SetPlan(3, 1.5, 0.7), "coco_train50": SetPlan(3, 1.5, 0.7),
    "voc2007_seg_train": SetPlan(3, 1.2, 1.0), "voc2012_animals": SetPlan(3, 1.0, 1.0),
    "voc2012_tiny": SetPlan(2, 1.2, 1.0), "ecssd831": SetPlan(1, 0.8, 0.5), "davis2016": SetPlan(2, 0.5, 0.0),
    "pets": SetPlan(1, 0.5, 0.0), "pennfudan170": SetPlan(1, 0.5, 0.0), "food_plates": SetPlan(2, 0.5, 0.0),
    "dsb2018": SetPlan(2, 0.5, 1.0), "bsds500_trainval": SetPlan(2, 0.5, 0.0), "camvid": SetPlan(1, 0.2, 0.0),
    "cwfid": SetPlan(1, 0.3, 0.0), "carrotweed": SetPlan(1, 0.3, 0.0),
}  # fmt: skip
ONE_ID = ("ecssd831",)  # one id for everything salient: two pieces may be two objects or one


def in_one_piece(picture: Picture) -> bool:
    """Whether the only id of a set like ECSSD covers one connected piece, next to specks."""
    if picture.group not in ONE_ID:
        return True
    mask = (picture.regions[0] == 1).astype(np.uint8)
    areas = np.sort(cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA])[::-1]
    return len(areas) < 2 or bool(areas[1] < 0.1 * areas[0])
