"""Make edit.jpg: python docs/images/edit.py (from the project's root; needs samlet[cv])."""

from pathlib import Path

import numpy as np
from PIL import Image

import samlet
from samlet import drawing, edit

PHOTO = "samples/astronaut.jpg"
# The person, her head, the helmet beside her, and a patch on her sleeve.
BOXES = [[20, 15, 362, 512], [152, 12, 302, 192], [278, 343, 510, 512], [134, 345, 210, 423]]


def on_checks(rgba: np.ndarray) -> Image.Image:
    """Show what is transparent as painting programs do."""
    y, x = np.indices(rgba.shape[:2]) // 12
    checks = np.where(((x + y) % 2)[..., None], 255, 215) * np.ones(3)
    alpha = rgba[..., 3:] / 255
    return Image.fromarray(np.uint8(rgba[..., :3] * alpha + checks * (1 - alpha)))


def main() -> None:
    model = samlet.load()
    view = model.embed(PHOTO)
    photo = view.image
    person, head, helmet, patch = model.segment(view, boxes=BOXES, zoom="auto").masks
    everything = edit.union(person, helmet)
    panels = {
        "cut_out": on_checks(edit.cut_out(photo, everything, crop=False)),
        "replace_background": edit.replace_background(photo, everything, (70, 130, 150)),
        "blur_background": edit.blur_background(photo, everything),
        "recolour minus(person, head)": edit.recolour(photo, edit.minus(person, head), (40, 90, 200)),
        "recolour all but the person, grey": edit.recolour(photo, ~everything, (128, 128, 128)),
        "erase the patch": edit.erase(photo, patch, grow=5),
    }
    pictures = [one if isinstance(one, Image.Image) else Image.fromarray(one) for one in panels.values()]
    sheet = drawing.contact_sheet(pictures, 3, list(panels), cell=380)
    sheet.save(Path(__file__).parent / "edit.jpg", quality=85)


if __name__ == "__main__":
    main()
