"""From a YOLO-seg network's raw arrays to boxes and masks of a picture: pure functions, shared by its families.

    letterboxed(image, card, frame) -> (1, 3, H, W)                picture for the network
    promising(candidates, card) -> (M, 5 + K)                      what is worth keeping, best first
    rules_of(card, conf=0.25, retina=False) -> InstanceRules       the card's settings with changes
    detect(rows, canvas_hw, rules, full_frame=...) -> Detections   NMS and the rules about borders
    detections.picture_boxes(frame) -> (N, 4)                      in picture pixels
    mask_codes(detections, protos, frame, rules) -> [Rle, ...]     at the picture's size
    canvas_masks(detections, protos, canvas_hw, rules)             at the network's size, one by one

Written from a description of what FastSAM (Zhao et al. 2023, arXiv 2306.12156) and MobileSAMv2 (arXiv 2312.09579)
do; no code of theirs was used. *Canvas* is the network's input, padding included.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samlet.card import Card
from samlet.errors import InputError
from samlet.geometry import Frame, box_iou, nms, resize_bilinear
from samlet.image import Image
from samlet.rle import Rle, window_runs

BOX_AND_SCORE = 5
"""Numbers of a candidate before its coefficients: centre x, y, width, height in canvas pixels, and the score."""

FLOOR = 0.001
"""Candidates whose score is not above this are not kept; a card's setting `floor` says otherwise."""

FULL_FRAME_IOU = 0.9
"""Boxes that overlap the canvas by more than this count as the whole of it."""

Window = tuple[slice, slice]
"""Rows and columns."""

_PADDING_GREY = 114
_MAX_NMS = 30_000
_FIRST_NMS = 1024

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InstanceRules:
    """What counts as an instance, and how its mask is made; a card's settings of these names are the defaults.

    Attributes:
        conf: Scores must lie above this.
        iou: Of two boxes that overlap by more than this the better one stays.
        max_det: Most instances.
        border_snap: Sides of boxes within this many canvas pixels of the canvas's border are moved onto it; 0
            leaves them alone.
        full_frame: Whether a box that covers nearly the whole canvas becomes the whole canvas.
        retina: True enlarges masks straight to the picture and cuts them by the box there; False cuts on the
            coarse grid and enlarges to the canvas first, which is coarser.
        threshold: "logit" cuts enlarged logits at 0; "sigmoid" enlarges probabilities and cuts at 0.5, as FastSAM
            did before June 2024 and MobileSAMv2 still does, with more jagged edges.
        registration: "cells" leaves out whole cells of padding, as the reference does, which shifts masks by up to
            a cell (4 canvas pixels); "exact" takes the picture's true place among the cells. For `retina`.

    Raises:
        InputError: A number is out of range, or a word is unknown.

    Example:
        >>> InstanceRules().changed(conf=0.25).conf
        0.25
    """

    conf: float = 0.4
    iou: float = 0.9
    max_det: int = 300
    border_snap: float = 20.0
    full_frame: bool = True
    retina: bool = True
    threshold: Literal["logit", "sigmoid"] = "logit"
    registration: Literal["cells", "exact"] = "cells"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.conf <= 1 and 0 <= self.iou <= 1 and self.max_det >= 1 and self.border_snap >= 0):
            raise InputError(
                "expected conf and iou from 0 to 1, max_det of at least 1 and border_snap of at least 0, got "
                f"{self.conf}, {self.iou}, {self.max_det} and {self.border_snap}; correct them"
            )
        if self.threshold not in ("logit", "sigmoid") or self.registration not in ("cells", "exact"):
            raise InputError(
                "expected threshold 'logit' or 'sigmoid' and registration 'cells' or 'exact', got "
                f"{self.threshold!r:.80} and {self.registration!r:.80}; choose one of the two"
            )

    def changed(self, **changes: Any) -> "InstanceRules":
        """Give the rules with some changed; None leaves one as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


SETTINGS = (*(field.name for field in fields(InstanceRules)), "swap_channels", "antialias", "floor")
"""Names that the settings of a detector's card may have."""


def rules_of(card: Card, **changes: Any) -> InstanceRules:
    """Take the rules from a card's settings.

    Args:
        card: The model; settings that are not rules are passed over.
        **changes: Rules that differ from the card's, such as `conf`, `iou`, `max_det`, `retina`; None leaves one
            as it is.

    Raises:
        InputError: A value is out of range, `conf` is below what an embedding keeps, or no rule has that name.
    """
    known = {field.name for field in fields(InstanceRules)}
    settings: dict[str, Any] = {name: value for name, value in card.settings.items() if name in known}
    try:
        rules = InstanceRules(**settings).changed(**changes)
    except TypeError as error:  # a text where a number belongs, or an unknown name
        raise InputError(f"expected rules that are known and of their kind ({error}); correct them") from None
    if rules.conf < _floor(card):
        raise InputError(
            f"expected conf of at least {_floor(card)}, below which nothing is kept, got {rules.conf}; raise conf"
        )
    return rules


class Detections(NamedTuple):
    """N instances, best first.

    Attributes:
        boxes_xyxy: (N, 4) canvas pixels.
        scores: (N,).
        coefficients: (N, K) weights of the prototypes.
        canvas_hw: Size of the canvas.
    """

    boxes_xyxy: Floats
    scores: Floats
    coefficients: Floats
    canvas_hw: tuple[int, int]

    def picture_boxes(self, frame: Frame) -> Floats:
        """Give the boxes in picture pixels, cut at its border, (N, 4)."""
        height, width = frame.image_hw
        boxes = frame.to_image_boxes(self.boxes_xyxy)
        return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)


def letterboxed(image: Image, card: Card, frame: Frame) -> Floats:
    """Scale a picture, put it on grey and normalise it.

    Scaling takes two taps a side without antialiasing, rounded to whole levels: the numbers that the reference's
    scaling gives to within one level.

    Args:
        image: The picture.
        card: Mean and std; its settings `swap_channels` (hand blue where the network wants red, as MobileSAMv2's
            published pipeline does) and `antialias` (scale with Pillow's filter instead).
        frame: `Frame.letterbox` of the picture.

    Returns:
        (1, 3, H, W), H and W being the canvas.
    """
    canvas = np.full((1, 3, *frame.canvas_hw), _PADDING_GREY, np.float32)
    (top, left), (height, width) = frame.offset_yx, frame.scaled_hw
    inner = canvas[0, :, top : top + height, left : left + width]
    if card.settings.get("antialias", False):
        inner[...] = image.resized(frame.scaled_hw).transpose(2, 0, 1)
    else:
        for channel in range(3):  # one at a time: a large picture in float32 is a large array
            plane = image.pixels[None, :, :, channel].astype(np.float32)
            np.rint(resize_bilinear(plane, frame.scaled_hw)[0], out=inner[channel])
    if card.settings.get("swap_channels", False):
        canvas = canvas[:, ::-1]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (card.mean, card.std))
    return np.ascontiguousarray((canvas - mean) / std)


def promising(candidates: NDArray[Any], card: Card) -> Floats:
    """Keep the candidates that any sensible threshold could want.

    Args:
        candidates: (1, 5 + K, A) as the network gives them.
        card: Its setting `floor`, or else `FLOOR`, is what scores must lie above.

    Returns:
        (M, 5 + K), best first; of equal scores the earlier one.
    """
    scores = candidates[0, BOX_AND_SCORE - 1]
    chosen = np.flatnonzero(scores > _floor(card))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    return np.ascontiguousarray(candidates[0, :, chosen], np.float32)  # numpy puts the chosen axis first


def detect(rows: Floats, canvas_hw: tuple[int, int], rules: InstanceRules, *, full_frame: bool) -> Detections:
    """Choose among candidates, then apply the rules about the canvas's border.

    Args:
        rows: (M, 5 + K) candidates, best first.
        canvas_hw: Size of the canvas.
        rules: Thresholds.
        full_frame: Whether the family replaces boxes that cover nearly everything, if `rules.full_frame` agrees.

    Returns:
        At most `rules.max_det` instances; possibly none.
    """
    # Score strictly above the threshold. One class only, so that a class-agnostic choice is the same.
    rows = rows[rows[:, BOX_AND_SCORE - 1] > rules.conf][:_MAX_NMS]
    half = rows[:, 2:4] / 2
    boxes: Floats = np.concatenate((rows[:, :2] - half, rows[:, :2] + half), axis=1)
    scores = rows[:, BOX_AND_SCORE - 1]
    kept = _survivors(boxes, scores, rules)
    boxes = _snapped(boxes[kept], canvas_hw, rules.border_snap)
    if full_frame and rules.full_frame:
        whole = np.array([[0, 0, canvas_hw[1], canvas_hw[0]]], np.float32)
        # Any number of boxes may be nearly full; each keeps its own score and coefficients.
        boxes[box_iou(boxes, whole)[:, 0] > FULL_FRAME_IOU] = whole
    return Detections(boxes, scores[kept], rows[kept, BOX_AND_SCORE:], canvas_hw)


def mask_codes(found: Detections, protos: Floats, frame: Frame, rules: InstanceRules) -> list[Rle]:
    """Make the masks at the picture's size, as run lengths.

    Only the pixels inside a box are ever computed, one mask at a time: the memory depends on the number of masks
    by their run lengths alone.

    Args:
        found: N instances.
        protos: (K, h, w) prototypes on the canvas's coarse grid.
        frame: How the picture lies in the canvas.
        rules: `retina`, `threshold`, `registration`.

    Returns:
        N plain run-length codes, in order.
    """
    if not rules.retina:
        return _sampled_codes(_canvas_parts(found, protos, frame.canvas_hw, rules), frame)
    window, region_yx, region_hw = _picture_cells(frame, protos.shape[1:], rules)
    protos = protos[:, window[0], window[1]]
    cells = np.zeros((1, *protos.shape[1:]), np.float32)  # where one mask needs none, another's may be left
    codes = []
    for box, coefficients in zip(found.picture_boxes(frame), found.coefficients, strict=True):
        part = _pixels_of(box, frame.image_hw)
        needed = _cells_of(part, frame.image_hw, region_hw or cells.shape[1:], region_yx)
        cells[0][needed] = _mixed(coefficients, protos[:, needed[0], needed[1]], rules)
        values = resize_bilinear(cells, frame.image_hw, region_hw=region_hw, region_yx=region_yx, window=part)
        codes.append(_code(values[0] > _cut(rules), part, frame.image_hw))
    return codes


def canvas_masks(
    found: Detections, protos: Floats, canvas_hw: tuple[int, int], rules: InstanceRules
) -> Iterator[NDArray[np.bool_]]:
    """Make the masks at the network's own size, padding included: cut on the coarse grid, then enlarged.

    Args:
        found: N instances.
        protos: (K, h, w) prototypes.
        canvas_hw: Size of the canvas.
        rules: `threshold`.

    Yields:
        (H, W) for each instance, H and W being the canvas.
    """
    for part, inside in _canvas_parts(found, protos, canvas_hw, rules):
        mask = np.zeros(canvas_hw, np.bool_)
        mask[part] = inside
        yield mask


def _canvas_parts(
    found: Detections, protos: Floats, canvas_hw: tuple[int, int], rules: InstanceRules
) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
    """Give for each instance the window of the canvas outside of which its mask is empty, and the mask in there."""
    grid_hw = protos.shape[1], protos.shape[2]
    steps = canvas_hw[0] // grid_hw[0], canvas_hw[1] // grid_hw[1]
    ratio = np.array([grid_hw[1] / canvas_hw[1], grid_hw[0] / canvas_hw[0]] * 2, np.float32)
    for box, coefficients in zip(found.boxes_xyxy * ratio, found.coefficients, strict=True):
        part = _pixels_of(box, grid_hw)
        inside = np.zeros(grid_hw, np.float32)
        inside[part] = _mixed(coefficients, protos[:, part[0], part[1]], rules)
        # Interpolation carries a cell to its neighbours' centres, and no further.
        rows, columns = (
            slice(step * max(0, cut.start - 1), min(side, step * (cut.stop + 1)))
            for cut, step, side in zip(part, steps, canvas_hw, strict=True)
        )
        large = resize_bilinear(inside[None], canvas_hw, window=(rows, columns))
        yield (rows, columns), large[0] > _cut(rules)


def _sampled_codes(parts: Iterable[tuple[Window, NDArray[np.bool_]]], frame: Frame) -> list[Rle]:
    """Bring masks on the canvas to the picture: each of its pixels takes the canvas pixel that its centre lies in."""
    at = [
        np.minimum(((np.arange(side) + 0.5) * (scaled / side)).astype(np.int64), scaled - 1) + start
        for side, scaled, start in zip(frame.image_hw, frame.scaled_hw, frame.offset_yx, strict=True)
    ]
    codes = []
    for part, inside in parts:
        low, high = zip(
            *(np.searchsorted(a, (cut.start, cut.stop)) for a, cut in zip(at, part, strict=True)), strict=True
        )
        rows, columns = slice(low[0], high[0]), slice(low[1], high[1])
        taken = inside[np.ix_(at[0][rows] - part[0].start, at[1][columns] - part[1].start)]
        codes.append(_code(taken, (rows, columns), frame.image_hw))
    return codes


def _survivors(boxes: Floats, scores: Floats, rules: InstanceRules) -> NDArray[np.int64]:
    """Non-maximum suppression of boxes that come best first, until enough are kept.

    What a box loses against lies before it, so the survivors of the first few are the first survivors of all.
    """
    length = _FIRST_NMS
    while True:
        kept = nms(boxes[:length], scores[:length], rules.iou)
        if len(kept) >= rules.max_det or length >= len(boxes):
            return kept[: rules.max_det]
        length *= 4


def _floor(card: Card) -> float:
    return float(card.settings.get("floor", FLOOR))


def _snapped(boxes: Floats, canvas_hw: tuple[int, int], within: float) -> Floats:
    """Move sides that nearly touch the canvas's border onto it."""
    height, width = canvas_hw
    low, high = boxes[:, :2], boxes[:, 2:]
    size = np.array([width, height], np.float32)
    if within == 0:
        return boxes
    return np.concatenate(
        (np.where(low < within, 0, low), np.where(high > size - within, size, high)), axis=1
    )


def _mixed(coefficients: Floats, protos: Floats, rules: InstanceRules) -> Floats:
    """Mix a window of the prototypes (K, h, w) for one instance: logits, or probabilities where the rules say so."""
    # Not as a product of matrices: for so few numbers the threads of numpy's library cost more than the work.
    logits: Floats = np.einsum("k,kyx->yx", coefficients, protos)
    return _sigmoid(logits) if rules.threshold == "sigmoid" else logits


def _cells_of(
    part: Window, image_hw: tuple[int, int], region_hw: tuple[float, ...], region_yx: tuple[float, float]
) -> Window:
    """Rows and columns of the coarse grid that bilinear enlarging of some pixels can read."""
    first = [
        slice(max(0, int(start + pixels.start * size / side) - 1), int(start + pixels.stop * size / side) + 2)
        for pixels, side, size, start in zip(part, image_hw, region_hw, region_yx, strict=True)
    ]
    return first[0], first[1]


def _sigmoid(values: Floats) -> Floats:
    decay = np.exp(-np.abs(values))  # never above 1: nothing overflows
    return np.asarray(np.where(values >= 0, 1, decay) / (1 + decay), np.float32)


def _cut(rules: InstanceRules) -> float:
    return 0.5 if rules.threshold == "sigmoid" else 0.0


def _picture_cells(
    frame: Frame, grid_hw: tuple[int, ...], rules: InstanceRules
) -> tuple[Window, tuple[float, float], tuple[float, float] | None]:
    """Find where the picture lies on the coarse grid: whole cells, and the true part of them if that is wanted."""
    if rules.registration == "exact":
        ratios = [cells / canvas for cells, canvas in zip(grid_hw, frame.canvas_hw, strict=True)]
        start = frame.offset_yx[0] * ratios[0], frame.offset_yx[1] * ratios[1]
        size = frame.scaled_hw[0] * ratios[0], frame.scaled_hw[1] * ratios[1]
        return (slice(None), slice(None)), start, size
    gain = min(cells / side for cells, side in zip(grid_hw, frame.image_hw, strict=True))
    pads = [(cells - side * gain) / 2 for cells, side in zip(grid_hw, frame.image_hw, strict=True)]
    rows, columns = (slice(int(pad), int(cells - pad)) for cells, pad in zip(grid_hw, pads, strict=True))
    return (rows, columns), (0.0, 0.0), None


def _pixels_of(box: Floats, size_hw: tuple[int, ...]) -> Window:
    """Rows and columns whose numbers r are in y0 <= r < y1, and likewise in x."""
    x0, y0, x1, y1 = np.ceil(np.clip(box, 0, (size_hw[1], size_hw[0]) * 2)).astype(int).tolist()
    return slice(y0, max(y0, y1)), slice(x0, max(x0, x1))


def _code(inside: NDArray[np.bool_], part: Window, image_hw: tuple[int, int]) -> Rle:
    """Code a mask of which only a window is not empty; the work grows with the window."""
    rows, columns = part
    counts = window_runs(inside, image_hw, top=rows.start, left=columns.start).tolist()
    return Rle(size=[image_hw[0], image_hw[1]], counts=counts)
