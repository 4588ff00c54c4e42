"""All regions side by side, for a quick look at what was found."""

import numpy as np
from PIL import Image as PillowImage

from samlet import drawing
from samlet.errors import InputError
from samlet.image import Image
from samlet.masks import Masks
from samlet.runs import Runs
from samlet.uses.looks import picture_of
from samlet.uses.plain import stored


def region_sheet(
    masks: Masks,
    image: Image | None = None,
    *,
    top: int = 24,
    columns: int = 6,
    cell: int = 160,
    first: int = 0,
) -> PillowImage.Image:
    """Cut regions out of the picture and lay them side by side, with row, score and area below each.

    Args:
        masks: One mask a prompt, in the order of the sheet; empty ones are left out.
        image: The picture; not needed for masks that came with it.
        top: Most regions.
        columns: Regions in a row.
        cell: Side of a region's cell in pixels.
        first: Number of the first row, for captions that count as people do.

    Returns:
        RGB.

    Raises:
        InputError: There is no region, no picture, or one of another size; or a number is out of range; or the
            prompts still have several candidates.

    Example:
        >>> from samlet.masks import StoredMasks
        >>> masks = StoredMasks.of([{"size": [4, 4], "counts": [4, 8, 4]}], [0.5], (4, 4))
        >>> region_sheet(masks, Image.load(np.zeros((4, 4, 3), np.uint8))).mode
        'RGB'
    """
    picture = picture_of(masks, image)
    items: list[PillowImage.Image] = []
    captions: list[str] = []
    for row, rle in enumerate(stored(masks).rles):
        runs = Runs.of(rle)
        if not len(runs) or len(items) >= top:
            continue
        x0, y0, x1, y1 = box = runs.box
        window = Image(np.ascontiguousarray(picture.pixels[y0:y1, x0:x1]))
        items.append(drawing.cutout(window, runs.cut(box).mask()))
        captions.append(f"{row + first}: {masks.scores[row]:.2f}, {runs.area} px")
    if not items:
        raise InputError(
            "expected regions to show, got none; lower the thresholds or look at another picture"
        )
    return drawing.contact_sheet(items, columns, captions, cell=cell)
