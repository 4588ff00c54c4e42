"""Everything mode in two halves: `initialize` encodes and decodes, `generate` applies thresholds to what it found."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from samlet.components import without_small_parts
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.everything.bits import Bits
from samlet.everything.candidates import Candidates, nothing
from samlet.everything.coarse import doubtful, rounds
from samlet.everything.finder import Crop, Finder, Mode, Search, above, reaching
from samlet.everything.grid import Box, Grid
from samlet.everything.pack import Packed
from samlet.families import family, sam
from samlet.geometry import nms
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.rle import Rle, rle_to_bbox
from samlet.session import Session

SCORE_FLOOR, STABILITY_FLOOR = 0.7, 0.8
"""Lowest thresholds that `GridEngine.initialize` prepares for if it is told nothing else."""

DEFAULT_GRID = Grid()
Progress = Callable[[int, int], None]
"""Called with the clicks done and the clicks in all."""

_log = logging.getLogger("samlet.everything")


class GridEngine:
    """Everything mode on one picture, whose thresholds can be moved without running the network again.

    Attributes:
        grid: The settings.
        mode: "fast" or "exact".
        decodings: How many times all clicks of the picture were decoded; above 1 after thresholds below the floor.
        asked: How many clicks were decoded.

    Example:
        >>> from samlet.backends.fake import FakeBackend
        >>> from samlet.registry import resolve
        >>> engine = GridEngine(Session(resolve("nano"), FakeBackend()), Grid(points_per_side=2))
        >>> engine.initialize(Image.load(np.zeros((48, 64, 3), np.uint8)))
        >>> len(engine.generate(pred_iou_thresh=0.75, stability_score_thresh=0.8)), engine.decodings
        (4, 1)
    """

    def __init__(
        self,
        session: Session,
        grid: Grid = DEFAULT_GRID,
        *,
        mode: Mode = "fast",
        coarse: int = 1,
        mask_threshold: float = 0.0,
        progress: Progress | None = None,
    ) -> None:
        """Choose how to look for masks.

        Args:
            session: A model that answers clicks with logits.
            grid: The settings.
            mode: "fast" measures masks on the logits' own grid and makes full-size masks of the survivors; "exact"
                does as SAM does, record for record.
            coarse: Above 1, only every so-manieth click of each line is asked first, and of the others those whose
                neighbours were not answered alike; fast mode only. All masks are kept then, whatever the floors.
            mask_threshold: Logits above it are inside.
            progress: Told how far the work is.

        Raises:
            InputError: The model does not answer clicks with logits, there is no such mode, or coarse is none.
        """
        if mode not in ("fast", "exact"):
            raise InputError(f"expected mode 'fast' or 'exact', got {mode!r:.80}; choose one of the two")
        if len(family(session.card.family).ROLES) < 2:
            raise InputError(
                f"expected a model that answers clicks, such as nano or mobile_sam, got {session.card.name}, which "
                "finds everything by itself; use its own masks"
            )
        if type(coarse) is not int or not 1 <= coarse <= 64 or (coarse > 1 and mode == "exact"):
            raise InputError(
                f"expected coarse from 1 to 64, and 1 in exact mode, got {coarse!r:.40} in {mode} mode; "
                "SAM itself asks all clicks"
            )
        self.grid, self.mode = grid, mode
        self.decodings, self.asked = 0, 0
        self._coarse = coarse
        self._session, self._threshold, self._progress = session, mask_threshold, progress
        self._view: Image | Embedding | None = None
        self._search = self._searching(0.0, 0.0)
        self._crops: list[Crop] = []
        self._found: Candidates = nothing()

    def initialize(
        self,
        view: Image | Embedding,
        *,
        score_floor: float | None = None,
        stability_floor: float | None = None,
    ) -> None:
        """Encode the picture and its crops, decode all clicks, and keep what passes the floors.

        Args:
            view: The picture, or what `Session.embed` made of it; crops need an embedding that holds its picture.
            score_floor: Lowest `pred_iou_thresh` that `generate` shall serve; None takes 0.7 or the grid's own if
                that is lower.
            stability_floor: Likewise for `stability_score_thresh`; None takes 0.8 or the grid's own.

        Raises:
            InputError: There are to be crops, but the embedding does not hold its picture.
            EmbeddingError: Another model made the embedding.
            BackendError: The runtime failed.
        """
        self._view, self.decodings = view, 0
        self._search = self._searching(
            min(SCORE_FLOOR, self.grid.pred_iou_thresh) if score_floor is None else score_floor,
            min(STABILITY_FLOOR, self.grid.stability_score_thresh)
            if stability_floor is None
            else stability_floor,
        )
        self._decode()

    def generate(
        self,
        *,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        box_nms_thresh: float | None = None,
        crop_nms_thresh: float | None = None,
        min_mask_region_area: float | None = None,
    ) -> StoredMasks:
        """Choose among what was found; None takes the grid's own setting.

        Nothing is encoded or decoded unless a score threshold is below the floor of `initialize`; then all clicks
        are decoded again with the lower floor, `decodings` counts it, and the log says so.

        Returns:
            The masks with the facts "stability_score" (N,) float32, "point_coords" (N, 2) float64 and "crop_box"
            (N, 4) int64 xywh, in picture pixels. The best score comes first; in exact mode the order is SAM's,
            which differs from that only with crops or clean-up.

        Raises:
            InputError: A threshold is out of range, or `initialize` has not been called.
            BackendError: The runtime failed.
        """

        def own(value: float | None, setting: float) -> float:
            return setting if value is None else value

        grid = self.grid
        wanted = replace(
            grid,
            pred_iou_thresh=own(pred_iou_thresh, grid.pred_iou_thresh),
            stability_score_thresh=own(stability_score_thresh, grid.stability_score_thresh),
            box_nms_thresh=own(box_nms_thresh, grid.box_nms_thresh),
            crop_nms_thresh=own(crop_nms_thresh, grid.crop_nms_thresh),
            min_mask_region_area=own(min_mask_region_area, grid.min_mask_region_area),
        )
        if self._view is None:
            raise InputError("expected a picture first, got none; call initialize(image) before generate()")
        self._make_room(wanted)
        kept = _suppressed(self._chosen(wanted, self._found), self._crops, wanted)
        rles = self._run_lengths(kept)
        if self.mode == "fast":  # a mask that has cells on the grid may have no pixel in a tiny picture
            filled = np.array([len(rle["counts"]) > 1 for rle in rles], np.bool_)
            kept, rles = kept.take(filled), [rle for rle, full in zip(rles, filled, strict=True) if full]
        if wanted.min_mask_region_area > 0:
            kept, rles = _cleaned(kept, rles, wanted)
        if self.mode == "fast":
            order = np.argsort(-kept.scores, kind="stable")
            kept, rles = kept.take(order), [rles[row] for row in order]
        return self._stored(kept, rles)

    def _searching(self, score_floor: float, stability_floor: float) -> Search:
        if self._coarse > 1:  # clicks are compared by all of their masks
            score_floor = stability_floor = 0.0
        return Search(
            self.mode, self._threshold, self.grid.stability_score_offset, score_floor, stability_floor
        )

    def _make_room(self, wanted: Grid) -> None:
        """Decode again if thresholds let through what was not kept."""
        score = min(self._search.score_floor, wanted.pred_iou_thresh)
        stability = min(self._search.stability_floor, wanted.stability_score_thresh)
        lower = (max(score, 0.0), max(stability, 0.0)) != (
            max(self._search.score_floor, 0.0),
            max(self._search.stability_floor, 0.0),
        )
        if lower:
            _log.warning(
                "thresholds below the floor (%g, %g): all clicks are decoded again", score, stability
            )
            self._search = self._searching(score, stability)
            self._decode()

    def _decode(self) -> None:
        view = cast(Image | Embedding, self._view)
        image_hw = view.hw if isinstance(view, Image) else view.frame.image_hw
        boxes, layers = self.grid.crops(image_hw), self.grid.layers()
        total, done = sum(len(layers[layer]) for _, layer in boxes), 0
        found: list[Candidates] = []
        self._crops = []
        for crop, finder, layer in self._finders(view, image_hw, boxes):
            self._crops.append(crop)
            x0, y0, x1, y1 = crop.box
            points = layers[layer] * np.array((x1 - x0, y1 - y0), np.float64)
            own, asked = nothing(), points[:0]
            for batch, alike in rounds(points, self._coarse):
                chosen = batch[doubtful(batch, asked, own, crop, alike=alike)]
                done += len(batch) - len(chosen)
                own = Candidates.join([own, self._asked(finder, chosen, done, total)])
                asked = np.concatenate((asked, chosen))
                done += len(chosen)
            found.append(own)
        self._found = Candidates.join(found)
        self.decodings += 1

    def _asked(self, finder: Finder, points: NDArray[np.float64], done: int, total: int) -> Candidates:
        """Decode clicks a few at a time, `done` of `total` being behind us."""
        size = min(self.grid.points_per_batch, finder.at_once)
        found: list[Candidates] = []
        for start in range(0, len(points), size):
            found.append(finder.find(points[start : start + size]))
            self.asked += len(points[start : start + size])
            if self._progress is not None:
                self._progress(done + min(start + size, len(points)), total)
        return Candidates.join(found)

    def _finders(
        self, view: Image | Embedding, image_hw: tuple[int, int], boxes: list[tuple[Box, int]]
    ) -> Iterator[tuple[Crop, Finder, int]]:
        """Embed the crops one after the other; the whole picture's embedding is kept for a second decoding."""
        for number, (box, layer) in enumerate(boxes):
            if number:
                embedding = self._session.embed(_cut(view, box))
            else:
                embedding = view if isinstance(view, Embedding) else self._session.embed(view)
                self._view = view = embedding
            height, width = sam.array_of(embedding, self._session.card).shape[2:]
            crop = Crop(number, box, image_hw, embedding.frame, (4 * height, 4 * width))
            yield crop, Finder(self._session, embedding, crop, self._search), layer

    def _chosen(self, wanted: Grid, found: Candidates) -> Candidates:
        return found.take(
            above(found.scores, wanted.pred_iou_thresh)
            & reaching(found.stability, wanted.stability_score_thresh)
        )

    def _run_lengths(self, kept: Candidates) -> list[Rle]:
        height, width = self._crops[0].image_hw
        counts: list[list[int]] = [[]] * len(kept)
        for number in np.unique(kept.crops).tolist():
            crop = self._crops[number]
            enlarger = crop.enlarger(self.mode)
            for row in np.flatnonzero(kept.crops == number).tolist():
                shape = kept.shapes[row]
                if isinstance(shape, Packed):
                    shape = crop.runs(enlarger.cut(shape.logits(), shape.threshold))
                elif isinstance(shape, Bits):
                    shape = crop.runs(shape.window())
                counts[row] = shape.tolist()
        return [Rle(size=[height, width], counts=one) for one in counts]

    def _stored(self, kept: Candidates, rles: list[Rle]) -> StoredMasks:
        boxes = np.array([crop.box for crop in self._crops], np.int64)[kept.crops]
        return StoredMasks.of(
            rles,
            kept.scores,
            self._crops[0].image_hw,
            image=self._view.image if isinstance(self._view, Embedding) else self._view,
            facts={
                "stability_score": kept.stability,
                "point_coords": kept.points,
                "crop_box": np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1),
            },
        )


def everything(
    session: Session,
    view: Image | Embedding,
    grid: Grid = DEFAULT_GRID,
    *,
    mode: Mode = "fast",
    coarse: int = 1,
    progress: Progress | None = None,
) -> StoredMasks:
    """Find all masks of a picture by clicking on a grid, SAM's automatic mask generation.

    Args:
        session: A model that answers clicks with logits.
        view: The picture, or what `Session.embed` made of it.
        grid: The settings.
        mode: "fast", or "exact" for SAM's own way.
        coarse: Above 1, ask every so-manieth click of each line first, and leave out those whose neighbours were
            answered alike (hierarchical everything mode); 4 is a good number.
        progress: Told how far the work is.

    Returns:
        The masks, best score first, with the facts that `GridEngine.generate` names.

    Raises:
        InputError: The model does not answer clicks with logits, there is no such mode, or there are to be crops
            of an embedding without its picture.
        EmbeddingError: Another model made the embedding.
        BackendError: The runtime failed.

    Example:
        >>> from samlet.backends.fake import FakeBackend
        >>> from samlet.registry import resolve
        >>> session = Session(resolve("nano"), FakeBackend())
        >>> picture = Image.load(np.zeros((48, 64, 3), np.uint8))
        >>> grid = Grid(points_per_side=2, pred_iou_thresh=0.75, stability_score_thresh=0.8)
        >>> everything(session, picture, grid).areas.tolist()
        [284, 284, 284, 284]
    """
    engine = GridEngine(session, grid, mode=mode, coarse=coarse, progress=progress)
    engine.initialize(view, score_floor=grid.pred_iou_thresh, stability_floor=grid.stability_score_thresh)
    masks = engine.generate()
    return masks[np.argsort(-masks.scores, kind="stable")]


def _suppressed(found: Candidates, crops: list[Crop], wanted: Grid) -> Candidates:
    """Drop duplicates within each crop, where the better score wins, and then between crops: the smaller one."""
    per_crop = []
    for crop in crops:
        here = found.take(found.crops == crop.number)
        # Overlaps are the same wherever the picture's origin lies, so boxes need not go back to the crop.
        per_crop.append(here.take(nms(here.boxes, here.scores, wanted.box_nms_thresh)))
    kept = Candidates.join(per_crop)
    if len(crops) == 1:
        return kept
    boxes = np.array([crop.box for crop in crops], np.float32)[kept.crops]
    smallness = np.float32(1) / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return kept.take(nms(kept.boxes, smallness, wanted.crop_nms_thresh))


def _cleaned(kept: Candidates, rles: list[Rle], wanted: Grid) -> tuple[Candidates, list[Rle]]:
    """Fill small holes, wipe out small islands, and drop what became a duplicate; untouched masks win."""
    cleaned: list[Rle] = []
    touched: list[bool] = []
    for rle in rles:
        filled, had_holes = without_small_parts(rle, wanted.min_mask_region_area, what="holes")
        whole, had_islands = without_small_parts(filled, wanted.min_mask_region_area, what="islands")
        cleaned.append(whole)
        touched.append(had_holes or had_islands)
    boxes = np.array([_inclusive_box(rle) for rle in cleaned], np.float64).reshape(-1, 4)
    scores = 1 - np.array(touched, np.float64)
    rows = nms(boxes, scores, max(wanted.box_nms_thresh, wanted.crop_nms_thresh))
    return kept.take(rows), [cleaned[row] for row in rows]


def _inclusive_box(rle: Rle) -> NDArray[np.float64]:
    x, y, width, height = rle_to_bbox(rle)
    return np.array((x, y, x + max(width - 1, 0), y + max(height - 1, 0)), np.float64)


def _cut(view: Image | Embedding, box: Box) -> Image:
    image = view if isinstance(view, Image) else view.image
    if image is None:
        raise InputError(
            "expected an embedding that holds its picture, got one loaded from disk, which cannot be cropped; pass "
            "the picture, or set crop_n_layers=0"
        )
    x0, y0, x1, y1 = box
    return Image(image.pixels[y0:y1, x0:x1], image.source)
