"""Pictures for people: masks over the photo, cut-outs, and sheets of captioned pictures.

Nothing here changes its input; every function returns a new Pillow image. Lines and dots grow with the
picture, so that a drawing looks the same at any size.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter, ImageFont

from samlet.errors import InputError
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.rle import checked_mask

_GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
_FIRST_HUE = 255.0  # degrees in OKLCH: a clear blue that skin, grass, wood and stone do not have
_LIGHTNESS = (0.64, 0.72, 0.76)
_CHROMA = 0.19
_GREY = 0.75
_RIM = 0.55
_LUMA = np.repeat(
    np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=1
)  # (3, 3): grey of RGB, three times
_INSIDE = (46, 204, 113)
_OUTSIDE = (235, 64, 74)
_SMOOTH = 4  # dots are drawn four times as large and shrunk
_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

Color = tuple[int, int, int]


class MaskStream(Protocol):
    """Anything that gives full-size masks one at a time, such as `Masks`."""

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """Give the masks (H, W) one after the other."""
        ...


def color(index: int) -> Color:
    """Choose the colour of the i-th object: the same every time, and far from its neighbours' colours.

    Hues step by the golden angle in OKLCH, whose equal steps look equally large; lightness takes turns.

    Args:
        index: Number of the object, from 0.

    Returns:
        Red, green, blue, 0 to 255.

    Example:
        >>> color(0) == color(0) != color(1)
        True
    """
    hue = math.radians(_FIRST_HUE + index * _GOLDEN_ANGLE)
    return _oklch_to_rgb(_LIGHTNESS[index % len(_LIGHTNESS)], _CHROMA, hue)


def overlay(
    image: Image,
    masks: MaskStream | Iterable[NDArray[np.bool_]],
    *,
    prompt: Prompt | None = None,
    alpha: float = 0.5,
) -> PillowImage.Image:
    """Draw masks over a picture: a translucent fill, a crisp outline, and what was asked for.

    Smaller masks lie on top of larger ones. Foreground clicks are green with a plus, background clicks red
    with a minus; a box has the colour of its mask.

    Args:
        image: The picture.
        masks: `Masks`, or (H, W) masks of the picture's size.
        prompt: Points and boxes to draw.
        alpha: Strength of the fill, 0 (outline only) to 1.

    Returns:
        RGB, at the size of the picture.

    Raises:
        InputError: A mask has another size than the picture, or alpha is not in [0, 1].

    Example:
        >>> overlay(Image.load(np.zeros((4, 6, 3), np.uint8)), [np.ones((4, 6), bool)]).size
        (6, 4)
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"expected alpha from 0 to 1, got {alpha}; 0.5 is the default")
    stream: Iterable[NDArray[np.bool_]] = masks if isinstance(masks, Iterable) else ()
    if hasattr(masks, "iter_masks"):
        stream = masks.iter_masks()
    thickness = _line_width(image.hw)
    canvas = image.pixels.copy()
    cutouts = [
        _packed(mask, image.hw, margin=math.ceil(thickness) + 3, index=i) for i, mask in enumerate(stream)
    ]
    for cut in sorted((cut for cut in cutouts if cut is not None), key=lambda cut: -cut.area):
        _paint(canvas, cut, thickness, alpha)
    picture = PillowImage.fromarray(canvas, "RGB")
    if prompt is not None:
        _draw_boxes(picture, prompt, thickness)
        _draw_points(picture, prompt)
    return picture


def cutout(image: Image, mask: NDArray[np.bool_]) -> PillowImage.Image:
    """Cut an object out of a picture, cropped to its bounding box.

    Args:
        image: The picture.
        mask: (H, W) of the picture's size.

    Returns:
        RGBA; outside the mask fully transparent and black, so that no background is left in the file.

    Raises:
        InputError: The mask is empty or has another size than the picture.

    Example:
        >>> cutout(Image.load(np.zeros((4, 6, 3), np.uint8)), np.eye(4, 6) > 0).size
        (4, 4)
    """
    inside = _sized(mask, image.hw)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        raise InputError("expected a mask with an object to cut out, got an empty one; try another prompt")
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    rgba = np.zeros((*inside[window].shape, 4), np.uint8)
    rgba[..., :3] = image.pixels[window]
    rgba[..., 3] = 255
    rgba[~inside[window]] = 0
    return PillowImage.fromarray(rgba, "RGBA")


def contact_sheet(
    items: Sequence[PillowImage.Image | Image],
    columns: int,
    captions: Sequence[str] | None = None,
    *,
    cell: int = 320,
    background: Color = (250, 250, 250),
) -> PillowImage.Image:
    """Lay pictures out in a grid, each scaled into its cell, with a caption below.

    Args:
        items: The pictures, in reading order.
        columns: Pictures in a row, at least 1.
        captions: One for each picture; a caption wider than its cell is cut with an ellipsis.
        cell: Width and height of a cell's picture in pixels, at least 16.
        background: Red, green, blue of the sheet.

    Returns:
        RGB.

    Raises:
        InputError: There are no pictures, or the captions do not match them in number, or a size is too
            small.

    Example:
        >>> contact_sheet([PillowImage.new("RGB", (64, 48))] * 3, 2, ["a", "b", "c"], cell=100).mode
        'RGB'
    """
    if not items or columns < 1 or cell < 16:
        raise InputError(
            f"expected pictures, at least 1 column and cells of at least 16 pixels, got {len(items)} "
            "pictures, "
            f"{columns} columns and cells of {cell}; correct the numbers"
        )
    if captions is not None and len(captions) != len(items):
        raise InputError(
            f"expected a caption for each of {len(items)} pictures, got {len(captions)}; pass one for each"
        )
    gap = max(6, cell // 24)
    font = ImageFont.load_default(size=max(10, cell // 20))
    line = round(font.getbbox("Ag")[3] * 1.5) if captions is not None else 0
    small = [_fitted(item, cell) for item in items]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    # A row is as tall as its tallest picture, and pictures stand on their captions.
    heights = [max(picture.height for picture in row) for row in rows]
    width = min(columns, len(small)) * (cell + gap) + gap
    sheet = PillowImage.new("RGB", (width, sum(heights) + len(rows) * (gap + line) + gap), background)
    pen = ImageDraw.Draw(sheet)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for place, picture in enumerate(row):
            left = gap + place * (cell + gap)
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + height - picture.height))
            if captions is not None:
                text = _shortened(captions[number * columns + place], font, cell)
                pen.text(
                    (left + cell // 2, top + height + line // 2),
                    text,
                    fill=(60, 60, 66),
                    font=font,
                    anchor="mm",
                )
        top += height + line + gap
    return sheet


def picture_encoder(path: str | Path) -> Callable[[PillowImage.Image], bytes]:
    """Choose how to code a drawing by the suffix of its file, before any work is done for it.

    Args:
        path: A file name ending in .png, .jpg, .jpeg or .webp.

    Returns:
        A function from the drawing to the bytes of the file.

    Raises:
        InputError: The suffix is another.

    Example:
        >>> picture_encoder("a.png")(PillowImage.new("RGB", (2, 2)))[1:4]
        b'PNG'
    """
    kind = _SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise InputError(
            f"expected a file name ending in {', '.join(_SUFFIXES)}, got {Path(path).name!r}; choose one of "
            "them"
        )

    def encode(picture: PillowImage.Image) -> bytes:
        buffer = io.BytesIO()
        drawn = picture if kind != "JPEG" else picture.convert("RGB")
        options: dict[str, Any] = {"compress_level": 3} if kind == "PNG" else {"quality": 92}
        drawn.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


class _Cut:
    """One mask, cropped to its box with a margin and packed eight pixels to a byte until it is painted."""

    __slots__ = ("area", "bits", "index", "shape", "window")

    def __init__(self, inside: NDArray[np.bool_], window: tuple[slice, slice], index: int) -> None:
        cropped = inside[window]
        self.index, self.window, self.shape = index, window, cropped.shape
        self.area = int(np.count_nonzero(cropped))
        self.bits = np.packbits(cropped)

    def unpacked(self) -> NDArray[np.uint8]:
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.bits, count=count).reshape(self.shape)


def _packed(mask: NDArray[np.bool_], image_hw: tuple[int, int], *, margin: int, index: int) -> _Cut | None:
    inside = _sized(mask, image_hw)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    window = tuple(
        slice(max(0, int(hits[0]) - margin), min(side, int(hits[-1]) + 1 + margin))
        for hits, side in zip((rows, columns), image_hw, strict=True)
    )
    return _Cut(inside, (window[0], window[1]), index)


def _paint(canvas: NDArray[np.uint8], cut: _Cut, thickness: float, alpha: float) -> None:
    """Blend fill, rim and outline of one mask into its window of the canvas.

    Blurring the mask by a Gaussian turns it into a smooth function of the distance to its edge; three lookup
    tables over its 256 levels then give antialiased coverage, with no distance transform.
    """
    sigma = max(0.8, thickness / 2)
    soft = PillowImage.fromarray(cut.unpacked() * np.uint8(255), "L").filter(ImageFilter.GaussianBlur(sigma))
    levels = np.asarray(soft)
    normal = NormalDist()
    distance = np.array(
        [sigma * normal.inv_cdf((level + 0.5) / 256) for level in range(256)]
    )  # > 0 is inside
    cover = np.clip(distance + 0.5, 0, 1)
    fill = cover * alpha
    line = np.clip(thickness / 2 + 0.5 - np.abs(distance), 0, 1)
    rim = np.clip(thickness + 0.5 + distance, 0, 1) * (distance < 0) * _RIM
    base = np.array(color(cut.index), np.float64)
    # Fill, then a white rim outside that lifts the line off dark and busy grounds, then the line: all linear
    # in the pixel, so the layers are one multiplication and one addition, tabulated over the levels.
    keep = (1 - fill) * (1 - rim) * (1 - line)
    add = (
        ((fill * (1 - rim)) * (1 - line))[:, None] * base
        + (rim * (1 - line))[:, None] * 255.0
        + line[:, None] * base
    )
    grey = cover * min(1.0, 2 * alpha) * _GREY
    window = canvas[cut.window]
    # Nearly all pixels lie well inside, where the same holds for all; Pillow does that in one pass.
    inside = levels == 255
    if inside.any():
        blend = keep[255] * ((1 - grey[255]) * np.eye(3) + grey[255] * _LUMA.T)
        matrix = np.concatenate((blend, add[255][:, None]), axis=1).ravel().tolist()
        drawn = np.asarray(PillowImage.fromarray(window, "RGB").convert("RGB", tuple(matrix)))
        np.copyto(window, drawn, where=inside[..., None])
    touched = (levels > 0) & ~inside
    hit = levels[touched]
    pixels = window[touched].astype(np.float32)
    # Under the fill the photo turns half grey first: a blue fill on an orange thing would cancel to mud
    # otherwise.
    pixels += (pixels @ _LUMA - pixels) * grey.astype(np.float32)[hit, None]
    window[touched] = pixels * keep.astype(np.float32)[hit, None] + (add + 0.5).astype(np.float32)[hit]


def _draw_boxes(picture: PillowImage.Image, prompt: Prompt, thickness: float) -> None:
    if prompt.boxes is None:
        return
    width = max(1, round(thickness))
    rim = max(1, width // 2)
    lines = PillowImage.new("RGBA", picture.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(lines)
    for index, (x0, y0, x1, y1) in enumerate(np.rint(prompt.boxes).astype(int).tolist()):
        corners = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        outer = (corners[0] - rim, corners[1] - rim, corners[2] + rim, corners[3] + rim)
        pen.rectangle(outer, outline=(255, 255, 255, round(255 * _RIM)), width=rim)
        pen.rectangle(corners, outline=(*color(index), 255), width=width)
    picture.paste(lines, mask=lines)


def _draw_points(picture: PillowImage.Image, prompt: Prompt) -> None:
    if prompt.points is None or prompt.labels is None:
        return
    radius = max(4, round(3.8 * _line_width((picture.height, picture.width))))
    dots = {1: _dot(radius, _INSIDE, plus=True), 0: _dot(radius, _OUTSIDE, plus=False)}
    for (x, y), label in zip(
        prompt.points.reshape(-1, 2).tolist(), prompt.labels.ravel().tolist(), strict=True
    ):
        if label in dots:
            dot = dots[label]
            picture.paste(dot, (round(x - dot.width / 2), round(y - dot.height / 2)), dot)


def _dot(radius: int, fill: Color, *, plus: bool) -> PillowImage.Image:
    """A click: soft shadow, white ring, coloured disk, white plus or minus."""
    size = 2 * (2 * radius + 1)
    middle = size * _SMOOTH / 2

    def disk(radius_px: float) -> tuple[float, float, float, float]:
        reach = radius_px * _SMOOTH
        return (middle - reach, middle - reach, middle + reach, middle + reach)

    shadow = PillowImage.new("L", (size * _SMOOTH, size * _SMOOTH), 0)
    ImageDraw.Draw(shadow).ellipse(disk(radius * 1.5), fill=130)
    shadow = shadow.filter(ImageFilter.GaussianBlur(radius * _SMOOTH * 0.25))
    dot = PillowImage.new("RGBA", shadow.size, (0, 0, 0, 0))
    dot.putalpha(shadow)
    pen = ImageDraw.Draw(dot)
    pen.ellipse(disk(radius * 1.32), fill=(255, 255, 255, 255))
    pen.ellipse(disk(radius), fill=(*fill, 255))
    arm, half = 0.55 * radius * _SMOOTH, 0.14 * radius * _SMOOTH
    pen.rectangle((middle - arm, middle - half, middle + arm, middle + half), fill=(255, 255, 255, 255))
    if plus:
        pen.rectangle((middle - half, middle - arm, middle + half, middle + arm), fill=(255, 255, 255, 255))
    return dot.resize((size, size), PillowImage.Resampling.LANCZOS)


def _line_width(image_hw: tuple[int, int]) -> float:
    """Two pixels on a picture of about a megapixel, growing with its side."""
    return float(np.clip(2.0 * math.sqrt(image_hw[0] * image_hw[1]) / 900, 1.5, 12.0))


def _sized(mask: NDArray[np.bool_], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    inside = checked_mask(mask)
    if inside.shape != image_hw:
        raise InputError(
            f"expected masks of the picture's size {image_hw[0]} x {image_hw[1]}, got one of "
            f"{inside.shape[0]} x {inside.shape[1]}; pass the picture the masks were made for"
        )
    return inside


def _fitted(item: PillowImage.Image | Image, cell: int) -> PillowImage.Image:
    picture = PillowImage.fromarray(item.pixels, "RGB") if isinstance(item, Image) else item
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if picture.mode == "RGBA":
        white = PillowImage.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = PillowImage.alpha_composite(white, picture)
    return picture.convert("RGB").resize(size, PillowImage.Resampling.LANCZOS)


def _shortened(text: str, font: Any, width: int) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _oklch_to_rgb(lightness: float, chroma: float, hue: float) -> Color:
    # Bjorn Ottosson, "A perceptual color space for image processing" (2020); chroma shrinks until sRGB can
    # show it.
    while True:
        a, b = chroma * math.cos(hue), chroma * math.sin(hue)
        long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
        medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
        short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
        linear = (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        )
        if all(-1e-4 <= value <= 1.0001 for value in linear) or chroma < 0.01:
            red, green, blue = (round(255 * _gamma(min(1.0, max(0.0, value)))) for value in linear)
            return (red, green, blue)
        chroma *= 0.97


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
