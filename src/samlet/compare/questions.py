"""What models are asked about the objects of a picture: one click, a box, and two clicks some pixels apart."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samlet.evaluate.baselines import tight_box
from samlet.evaluate.protocols import first_click

APART = (100, 200, 300, 400, 500)
"""Distances of the two clicks in pixels: those of MobileSAM's comparison with FastSAM."""

CLICK_WORDS = "one click on the object's most interior pixel"
BOX_WORDS = "the object's tight box"
PAIR_WORDS = (
    "the same click and one that is not on the object, so many pixels away: of the pixels at that distance outside the "
    "object one is drawn, the same every time; objects that have none there are left out"
)

KINDS = ("click", "box", *(f"two clicks {apart} px" for apart in APART))


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of question about some objects of a picture.

    Attributes:
        kind: One of `KINDS`.
        rows: (M,) which objects.
        prompt: Arguments of `Model.segment` for M prompts, as lists.
    """

    kind: str
    rows: NDArray[np.int64]
    prompt: dict[str, Any]


def of_objects(
    objects: Sequence[NDArray[np.bool_]], *, avoid: NDArray[np.bool_] | None = None, name: str = ""
) -> Iterator[Asked]:
    """Ask about objects whose masks are known.

    Args:
        objects: Masks (H, W), none empty.
        avoid: Where no second click may lie, (H, W): what nobody decided about.
        name: Name of the picture; other names draw other second clicks.

    Yields:
        One question for each kind that at least one object has.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    clicks = [first_click(mask) for mask in objects]
    centres = np.array([(click.x, click.y) for click in clicks], np.float64)
    boxes = np.array([tight_box(mask) for mask in objects], np.float64)
    outside = [~mask if avoid is None else ~(mask | avoid) for mask in objects]
    yield from _asked(centres, boxes, outside, name)


def of_boxes(boxes: NDArray[np.float64], image_hw: tuple[int, int], *, name: str = "") -> Iterator[Asked]:
    """Ask about boxes, with a click in the middle of each; what is outside a box is outside the object.

    Args:
        boxes: (N, 4) xyxy in picture pixels, at least one.
        image_hw: Size of the picture.
        name: Name of the picture, as above.

    Yields:
        As `of_objects`.
    """
    height, width = image_hw
    outside = []
    for x0, y0, x1, y1 in boxes:
        free = np.ones(image_hw, np.bool_)
        free[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = False
        outside.append(free)
    middles = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2)
    yield from _asked(np.clip(middles, 0, (width - 1, height - 1)), boxes, outside, name)


def second_click(
    first_xy: tuple[float, float], free: NDArray[np.bool_], apart: float, *, seed: int
) -> tuple[int, int] | None:
    """Draw a pixel that is free and `apart` pixels from the first click, within half a pixel.

    Args:
        first_xy: The first click.
        free: Pixels to draw from, bool (H, W).
        apart: Distance in pixels.
        seed: Decides which.

    Returns:
        x and y, or None if no pixel is free at that distance.

    Example:
        >>> free = np.zeros((5, 9), bool); free[2, 8] = True
        >>> second_click((2, 2), free, 6, seed=0), second_click((2, 2), free, 5, seed=0)
        ((8, 2), None)
    """
    ys, xs = np.nonzero(_ring(free.shape, first_xy, apart) & free)
    if not len(ys):
        return None
    chosen = np.random.default_rng(seed).integers(len(ys))
    return int(xs[chosen]), int(ys[chosen])


def _ring(hw: tuple[int, ...], centre_xy: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    squares = (np.arange(hw[0])[:, None] - centre_xy[1]) ** 2 + (np.arange(hw[1])[None] - centre_xy[0]) ** 2
    return np.asarray(np.abs(np.sqrt(squares) - radius) <= 0.5)


def _asked(
    clicks: NDArray[np.float64],
    boxes: NDArray[np.float64],
    outside: Sequence[NDArray[np.bool_]],
    name: str,
) -> Iterator[Asked]:
    everyone = np.arange(len(clicks))
    yield Asked(
        "click",
        everyone,
        {"points": clicks[:, None].tolist(), "labels": np.ones((len(clicks), 1), int).tolist()},
    )
    yield Asked("box", everyone, {"boxes": boxes.tolist()})
    for apart in APART:
        rows, points = [], []
        for row, (click, free) in enumerate(zip(clicks, outside, strict=True)):
            seed = zlib.crc32(f"{name}/{row}/{apart}".encode("utf-8", "surrogateescape"))
            second = second_click((click[0], click[1]), free, apart, seed=seed)
            if second is not None:
                rows.append(row)
                points.append([click.tolist(), [float(second[0]), float(second[1])]])
        if rows:
            prompt = {"points": points, "labels": [[1, 0]] * len(rows)}
            yield Asked(f"two clicks {apart} px", np.array(rows), prompt)
