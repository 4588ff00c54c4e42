"""Make everything-samples.jpg: python docs/images/everything-samples.py (from the project's root)."""

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

import samlet
from samlet import drawing
from samlet.image import Image

# The whole samples, and crops of them as photographs of their own: x0, y0, x1, y1.
VIEWS = {
    "astronaut": ("astronaut", None),
    "cat": ("chelsea", None),
    "coffee": ("coffee", None),
    "helmet": ("astronaut", (250, 300, 512, 512)),
    "rocket": ("astronaut", (330, 0, 512, 300)),
    "face": ("chelsea", (90, 30, 350, 230)),
    "cup": ("coffee", (120, 60, 480, 320)),
    "spoon": ("coffee", (60, 200, 460, 400)),
}
FIRST = 10


def main() -> None:
    model = samlet.load()
    panels = []
    for name, crop in VIEWS.values():
        photo = PillowImage.open(f"samples/{name}.jpg").convert("RGB")
        image = Image(np.ascontiguousarray(photo.crop(crop) if crop else photo))
        panels.append(drawing.overlay(image, model.everything(image)[:FIRST]))
    sheet = drawing.contact_sheet([panel.convert("RGB") for panel in panels], 4, list(VIEWS), cell=300)
    sheet.save(Path(__file__).parent / "everything-samples.jpg", quality=85)


if __name__ == "__main__":
    main()
