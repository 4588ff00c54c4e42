"""Make with-the-masks.jpg: python docs/images/with-the-masks.py (from the project's root)."""

from pathlib import Path

import numpy as np
from PIL import Image

import samlet
from samlet import drawing, uses

PHOTO = "samples/astronaut.jpg"
# A person, her head, a flag, a rocket, a helmet and a patch: boxes make the picture the same whatever finds regions.
BOXES = [[20, 15, 362, 512], [152, 12, 302, 192], [0, 0, 110, 512], [355, 0, 470, 285], [278, 343, 510, 512]]
BOXES += [[134, 345, 210, 423]]


def main() -> None:
    model = samlet.load()
    view = model.embed(PHOTO)
    masks = model.segment(view, boxes=BOXES, zoom="auto")
    palette = np.array([(245, 245, 245), *(drawing.color(row) for row in range(len(masks)))], np.uint8)
    panels = {
        "six masks": drawing.overlay(view.image, masks),
        "label map": Image.fromarray(palette[uses.label_map(masks)]),
        "edge map": Image.fromarray(np.uint8(255 - 255 * np.sqrt(uses.edge_map(masks)))),
        "salient": drawing.overlay(view.image, uses.salient(masks)),
    }
    sheet = drawing.contact_sheet(
        [panel.convert("RGB") for panel in panels.values()], 4, list(panels), cell=300
    )
    sheet.save(Path(__file__).parent / "with-the-masks.jpg", quality=85)


if __name__ == "__main__":
    main()
