"""Masks for maps and spreadsheets: GeoJSON-like polygons and a table of statistics.

Both take painted masks or run-length codes. Of a code only its bounding box is painted, so that a thousand small
masks of a large picture are cheap.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samlet.codecs.checks import check_count, labelled, numbers, score_of, sized_mask
from samlet.errors import InputError
from samlet.image import Image
from samlet.polygons import mask_to_polygons
from samlet.rle import Rle
from samlet.runs import Runs

COLUMNS = (
    "id", "label", "score", "stability", "area", "share", "x", "y", "width", "height", "center_x", "center_y",
    "red", "green", "blue",
)  # fmt: skip
"""The columns of `to_csv`."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_geojson(  # noqa: PLR0913  the parts of a collection, each with its own keyword
    masks: Iterable[NDArray[np.bool_] | Rle],
    image_hw: Sequence[int],
    *,
    file_name: str = "",
    scores: Sequence[float] | NDArray[np.float32] | None = None,
    labels: Sequence[str] | None = None,
    tolerance: float = 1.0,
    affine: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Describe masks as a GeoJSON FeatureCollection (RFC 7946) whose coordinates are pixels, unless told otherwise.

    A mask is a Feature: a Polygon with its holes if it has one part, else a MultiPolygon; an empty mask has no
    geometry. x grows to the right and y *down*, from the top-left corner of the picture; programs that show maps
    draw y upwards and so show it upside down. `affine` puts the picture in its place on a map.

    Args:
        masks: (H, W) each, or run-length codes of the picture's size, such as `StoredMasks.rles`.
        image_hw: (height, width) of the picture.
        file_name: Name of the picture, kept beside the features.
        scores: One for each mask; left out if None.
        labels: Name of each mask; all "object" if None.
        tolerance: Simplification in pixels; 0 is exact.
        affine: a, b, c, d, e, f of X = a x + b y + c, Y = d x + e y + f, in the order of GIS programs' world
            transforms; None keeps pixels.

    Returns:
        A dict ready for `json.dumps`. The properties of a feature are `id` (from 1), `label`, `score`, `area` and
        `bbox` (x, y, width, height), always in pixels; the member `picture` of the collection describes the frame.

    Raises:
        InputError: A mask has another size, scores or labels do not match the masks in number, or the transform
            is not six finite numbers that can be inverted.

    Example:
        >>> feature = to_geojson([np.array([[0, 1]], bool)], (1, 2))["features"][0]
        >>> feature["geometry"]["coordinates"]
        [[[1, 0], [2, 0], [2, 1], [1, 1], [1, 0]]]
    """
    height, width = (int(side) for side in image_hw)
    place = _Affine.of(affine)
    features: list[dict[str, Any]] = []
    for index, (part, label) in enumerate(labelled(_parts(masks, (height, width)), labels, "object")):
        corner = np.array((part.left, part.top))
        properties: dict[str, Any] = {
            "id": index + 1,
            "label": label,
            "area": part.area,
            "bbox": [part.left, part.top, part.inside.shape[1], part.inside.shape[0]]
            if part.area
            else [0, 0, 0, 0],
        }
        if scores is not None:
            properties["score"] = score_of(scores, index)
        polygons = mask_to_polygons(part.inside, tolerance=tolerance) if part.area else []
        rings = [[place.ring(ring + corner) for ring in (one.exterior, *one.holes)] for one in polygons]
        geometry: dict[str, Any] | None = None
        if len(rings) == 1:
            geometry = {"type": "Polygon", "coordinates": rings[0]}
        elif rings:
            geometry = {"type": "MultiPolygon", "coordinates": rings}
        features.append({"type": "Feature", "id": index + 1, "geometry": geometry, "properties": properties})
    check_count("scores", scores, len(features))
    picture: dict[str, Any] = {"file_name": file_name, "height": height, "width": width}
    picture |= {"unit": "pixel", "y": "down"} if affine is None else {"affine": [float(v) for v in affine]}
    return {"type": "FeatureCollection", "picture": picture, "features": features}


def to_csv(
    masks: Iterable[NDArray[np.bool_] | Rle],
    image_hw: Sequence[int],
    *,
    scores: Sequence[float] | NDArray[np.float32] | None = None,
    stability: Sequence[float] | NDArray[np.float32] | None = None,
    labels: Sequence[str] | None = None,
    image: Image | None = None,
) -> str:
    r"""Write a table of statistics, one line for each mask: `COLUMNS`.

    `area` is in pixels and `share` a part of the picture, 0 to 1; `x`, `y`, `width` and `height` are the bounding
    box; the centre is the mean of the pixels' centres; `red`, `green` and `blue` are the mean colour inside, 0 to
    255. What is not known is left empty.

    Args:
        masks: (H, W) each, or run-length codes of the picture's size, such as `StoredMasks.rles`.
        image_hw: (height, width) of the picture.
        scores: One for each mask.
        stability: One for each mask.
        labels: Name of each mask. One that a spreadsheet would take for a formula gets an apostrophe in front.
        image: The picture, for the mean colour.

    Returns:
        Lines separated by commas, the first with the names of the columns.

    Raises:
        InputError: A mask or the picture has another size, or scores, stability or labels do not match the masks
            in number.

    Example:
        >>> print(to_csv([np.array([[0, 1]], bool)], (1, 2), scores=[0.5]).splitlines()[1])
        1,,0.5,,1,0.5,1,0,1,1,1.5,0.5,,,
    """
    height, width = (int(side) for side in image_hw)
    if image is not None and image.hw != (height, width):
        raise InputError(
            f"expected the picture of the masks, {height} x {width}, got one of {image.height} x {image.width}; "
            "pass the picture they were made for"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for index, (part, label) in enumerate(labelled(_parts(masks, (height, width)), labels, "")):
        known = ["" if values is None else score_of(values, index) for values in (scores, stability)]
        share = round(part.area / (height * width), 8)
        row = [index + 1, _harmless(label), *known, part.area, share, *part.measures(), *part.colour(image)]
        writer.writerow(row)
        count = index + 1
    check_count("scores", scores, count)
    check_count("stability", stability, count)
    return text.getvalue()


class _Part(NamedTuple):
    """A mask cut to its bounding box, and where that lies."""

    inside: NDArray[np.bool_]
    left: int
    top: int
    area: int

    def measures(self) -> list[float | str]:
        """Give bounding box and centre for the table."""
        if not self.area:
            return [0, 0, 0, 0, "", ""]
        height, width = self.inside.shape
        x = self.inside.sum(axis=0) @ (np.arange(width) + 0.5) / self.area + self.left
        y = self.inside.sum(axis=1) @ (np.arange(height) + 0.5) / self.area + self.top
        return [self.left, self.top, width, height, round(float(x), 2), round(float(y), 2)]

    def colour(self, image: Image | None) -> list[float | str]:
        """Give the mean colour for the table."""
        if image is None or not self.area:
            return ["", "", ""]
        height, width = self.inside.shape
        window = image.pixels[self.top : self.top + height, self.left : self.left + width]
        return [round(float(value), 1) for value in window[self.inside].mean(axis=0, dtype=np.float64)]


class _Affine(NamedTuple):
    """How pixels lie on a map; (1, 0, 0, 0, 1, 0) keeps them."""

    x: tuple[float, float, float]
    y: tuple[float, float, float]

    @classmethod
    def of(cls, numbers_: Sequence[float] | None) -> "_Affine":
        if numbers_ is None:
            return cls((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
        values = np.asarray(numbers_, np.float64)
        if values.shape != (6,) or not np.isfinite(values).all() or _turn(values.tolist()) == 0:
            raise InputError(
                "expected a transform of six finite numbers a, b, c, d, e, f with a e != b d, got "
                f"{numbers_!s:.80}; correct the transform"
            )
        a, b, c, d, e, f = values.tolist()
        return cls((a, b, c), (d, e, f))

    def ring(self, ring: NDArray[np.float64]) -> list[list[float]]:
        """Move a ring to its place, and close it."""
        placed = np.stack([ring @ line[:2] + line[2] for line in (self.x, self.y)], axis=1)
        if (
            _turn((*self.x, *self.y)) < 0
        ):  # a mirrored ring runs the wrong way round: RFC 7946 wants the other
            placed = placed[::-1]
        points = [numbers(point) if self == _PIXELS else point.tolist() for point in placed]
        return [*points, points[0]]


_PIXELS = _Affine.of(None)


def _turn(values: Sequence[float]) -> float:
    a, b, _, d, e, _ = values
    return a * e - b * d


def _parts(masks: Iterable[NDArray[np.bool_] | Rle], image_hw: tuple[int, int]) -> Iterator[_Part]:
    for mask in masks:
        if isinstance(mask, Mapping):
            runs = Runs.of(mask)
            if runs.image_hw != image_hw:
                sized_mask(np.zeros(runs.image_hw, np.bool_), image_hw)  # says what is wrong
            box = runs.box
            inside = runs.cut(box).mask() if len(runs) else np.zeros((0, 0), np.bool_)
            yield _Part(inside, box[0], box[1], runs.area)
            continue
        whole = sized_mask(mask, image_hw)
        rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        if not len(rows):
            yield _Part(np.zeros((0, 0), np.bool_), 0, 0, 0)
            continue
        inside = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        yield _Part(inside, int(columns[0]), int(rows[0]), int(np.count_nonzero(inside)))


def _harmless(label: str) -> str:
    return "'" + label if label.startswith(_FORMULA) else label
