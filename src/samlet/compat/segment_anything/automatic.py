"""`SamAutomaticMaskGenerator` with the original's parameters and records, on samlet's exact everything mode."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from samlet.compat.segment_anything.errors import UsageError
from samlet.compat.segment_anything.modeling import Sam
from samlet.compat.segment_anything.predictor import SamPredictor
from samlet.errors import InputError
from samlet.everything import Grid, GridEngine
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.rle import Rle, rle_area, rle_to_bbox, rle_to_mask, rle_to_string
from samlet.session import Session

_SETTINGS = (
    "points_per_batch",
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "min_mask_region_area",
)
OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


class SamLike(Protocol):
    """What the generator needs of a `Sam`."""

    @property
    def session(self) -> Session:
        """The model."""

    @property
    def mask_threshold(self) -> float:
        """Where a mask begins, in logits."""

    @property
    def image_format(self) -> str:
        """Order of colours, "RGB" or "BGR"."""


class SamAutomaticMaskGenerator:
    """Finds all masks of a picture; settings are attributes of the same names and may be changed between pictures.

    The records are the original's, in its order. Its faults are not: nothing found in any crop gives an empty list,
    boxes are always whole numbers, and a mask without a stability score is never kept.
    """

    def __init__(  # noqa: PLR0913, PLR0917  the original's parameters, in its order
        self,
        model: SamLike,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[NDArray[np.float64]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
    ) -> None:
        """Take the settings; `samlet.everything.Grid` describes them.

        Args:
            model: The network.
            points_per_side: See `Grid`.
            points_per_batch: See `Grid`.
            pred_iou_thresh: See `Grid`.
            stability_score_thresh: See `Grid`.
            stability_score_offset: See `Grid`.
            box_nms_thresh: See `Grid`.
            crop_n_layers: See `Grid`.
            crop_nms_thresh: See `Grid`.
            crop_overlap_ratio: See `Grid`.
            crop_n_points_downscale_factor: See `Grid`.
            point_grids: See `Grid`.
            min_mask_region_area: See `Grid`.
            output_mode: What "segmentation" holds: an (H, W) bool array, plain run lengths, or COCO's string.

        Raises:
            UsageError: A setting is out of range, or the output mode is unknown; it is an `InputError` and, as in
                the original, an `AssertionError`.
        """
        self.model = model
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.point_grids = self._grid(points_per_side, point_grids).layers()

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Find all masks of a picture.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            One record for each mask: "segmentation" (see `output_mode`), "area" in pixels, "bbox" [x, y, w, h] with
            w and h one less than the pixels covered, "predicted_iou", "point_coords" [[x, y]], "stability_score" and
            "crop_box" [x, y, w, h]; numbers of Python. Without crops and clean-up the best `predicted_iou` is first.

        Raises:
            UsageError: A setting was changed to something out of range.
            ImageError: The picture is no RGB array of bytes.
            BackendError: The runtime failed.
        """
        grid = self._grid(None, self.point_grids)
        engine = GridEngine(
            self.model.session, grid, mode="exact", mask_threshold=float(self.model.mask_threshold)
        )
        picture = Image.load(image)
        if self.model.image_format != "RGB":
            picture = Image(picture.pixels[..., ::-1])
        engine.initialize(
            picture, score_floor=grid.pred_iou_thresh, stability_floor=grid.stability_score_thresh
        )
        return records(engine.generate(), self.output_mode)

    @cached_property
    def predictor(self) -> SamPredictor:
        """A predictor on the same model, as the original has one; the generator itself does not use it."""
        return SamPredictor(cast(Sam, self.model))

    def _grid(self, points_per_side: int | None, point_grids: Sequence[NDArray[np.float64]] | None) -> Grid:
        _check_mode(self.output_mode)
        settings: dict[str, Any] = {name: getattr(self, name) for name in _SETTINGS}
        try:
            return Grid(points_per_side, **settings, point_grids=point_grids)
        except InputError as error:
            raise UsageError(str(error)) from None


def records(masks: StoredMasks, output_mode: OutputMode = "binary_mask") -> list[dict[str, Any]]:
    """Write masks of everything mode as the original's records.

    Args:
        masks: What `GridEngine.generate` or `everything` gave.
        output_mode: What "segmentation" holds.

    Returns:
        One record for each mask, in their order.

    Raises:
        UsageError: The output mode is unknown.
    """
    _check_mode(output_mode)
    facts = masks.facts
    return [
        {
            "segmentation": _segmentation(rle, output_mode),
            "area": rle_area(rle),
            "bbox": _bbox(rle),
            "predicted_iou": float(masks.scores[row]),
            "point_coords": [facts["point_coords"][row].tolist()],
            "stability_score": float(facts["stability_score"][row]),
            "crop_box": facts["crop_box"][row].tolist(),
        }
        for row, rle in enumerate(masks.rles)
    ]


def _segmentation(rle: Rle, output_mode: OutputMode) -> NDArray[np.bool_] | Rle:
    if output_mode == "binary_mask":
        return rle_to_mask(rle)
    if output_mode == "coco_rle":
        return Rle(size=list(rle["size"]), counts=rle_to_string(rle))
    return rle


def _bbox(rle: Rle) -> list[int]:
    """Box as the original measures it: from the first pixel to the last, so that one pixel has no width."""
    x, y, width, height = rle_to_bbox(rle)
    return [x, y, max(width - 1, 0), max(height - 1, 0)]


def _check_mode(output_mode: str) -> None:
    if output_mode not in ("binary_mask", "uncompressed_rle", "coco_rle"):
        raise UsageError(
            f"expected output_mode 'binary_mask', 'uncompressed_rle' or 'coco_rle', got {output_mode!r}; choose one"
        )
