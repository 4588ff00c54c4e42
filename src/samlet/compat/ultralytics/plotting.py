"""`Results.plot`: masks by samlet's own drawing, then boxes and captions in the same colours."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from samlet import drawing
from samlet.compat.ultralytics.sources import from_bgr
from samlet.errors import InputError

if TYPE_CHECKING:
    from samlet.compat.ultralytics.results import Results

_IDLE = frozenset(("color_mode", "font", "im_gpu", "kpt_line", "kpt_radius", "probs", "txt_color"))


@dataclass(frozen=True)
class PlotOptions:
    """Keywords of `Results.plot`.

    Attributes:
        conf: Whether captions tell the confidence.
        labels: Whether boxes have captions.
        boxes: Whether boxes are drawn.
        masks: Whether masks are drawn.
        line_width: Width of a box's line in pixels; None follows the picture's size.
        font_size: Size of a caption in pixels; None follows the picture's size.
        pil: Whether `plot` gives a Pillow image.
        img: Another picture to draw on, (H, W, 3) uint8 in BGR order and of the same size.
        show: Whether to open a window as well.
        save: Whether to save the drawing as well.
        filename: Where to.
    """

    conf: bool = True
    labels: bool = True
    boxes: bool = True
    masks: bool = True
    line_width: float | None = None
    font_size: float | None = None
    pil: bool = False
    img: NDArray[Any] | None = None
    show: bool = False
    save: bool = False
    filename: str | Path | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read keywords; those about fonts, key points and colour modes are accepted without effect.

        Raises:
            InputError: A keyword is unknown.

        Example:
            >>> PlotOptions.of({"labels": False, "color_mode": "instance"}).labels
            False
        """
        known = {each.name for each in fields(cls)}
        for name in options:
            if name not in known | _IDLE:
                close = get_close_matches(name, known | _IDLE, n=1)
                advice = f"did you mean {close[0]}?" if close else f"use some of {', '.join(sorted(known))}"
                raise InputError(f"expected a keyword of plot, got {name!r:.80}; {advice}")
        return cls(**{name: value for name, value in options.items() if name in known})


def plot(result: "Results", options: PlotOptions) -> PillowImage.Image:
    """Draw a result over its picture; object i has the colour `samlet.drawing.color(i)`.

    Args:
        result: The result.
        options: What to draw.

    Returns:
        RGB, at the size of the picture.

    Raises:
        InputError: The other picture has another size.
    """
    base = from_bgr(result.orig_img if options.img is None else options.img)
    if base.hw != result.orig_shape:
        raise InputError(
            f"expected a picture of {result.orig_shape[0]} x {result.orig_shape[1]} pixels to draw on, got "
            f"{base.height} x {base.width}; pass one of the result's size"
        )
    masks = result.masks.iter_masks() if options.masks and result.masks is not None else ()
    drawn = drawing.overlay(base, masks)
    if options.boxes and len(result.boxes):
        _draw_boxes(drawn, result, options)
    return drawn


def _draw_boxes(drawn: PillowImage.Image, result: "Results", options: PlotOptions) -> None:
    width = max(1, round(options.line_width or sum(drawn.size) / 2 * 0.003))
    font = ImageFont.load_default(size=max(8, options.font_size or sum(drawn.size) / 2 * 0.02))
    pen = ImageDraw.Draw(drawn)
    for index, (x0, y0, x1, y1, conf, number) in enumerate(result.boxes.data.tolist()):
        if x1 <= x0 or y1 <= y0:
            continue
        color = drawing.color(index)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=width)
        if not options.labels:
            continue
        name = result.name_of(number)
        text = f"{name} {conf:.2f}" if options.conf else name
        _, _, right, bottom = (round(side) for side in font.getbbox(text))
        # Above the box if there is room, else inside it; never out of the picture on the right.
        top = y0 - bottom - 4 if y0 >= bottom + 4 else y0
        left = max(0, min(x0, drawn.width - right - 4))
        pen.rectangle((left, top, left + right + 4, top + bottom + 4), fill=color)
        pen.text((left + 2, top + 2), text, fill=(255, 255, 255), font=font)
