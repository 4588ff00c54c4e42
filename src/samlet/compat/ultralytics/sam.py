"""Ultralytics' `SAM`: points, boxes and masks in, `Results` out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samlet.backends.base import Backend
from samlet.compat.ultralytics import prompts
from samlet.compat.ultralytics.caller import Caller, View
from samlet.compat.ultralytics.prompts import Asked
from samlet.compat.ultralytics.settings import Settings, split
from samlet.embedding import Embedding
from samlet.errors import InputError, ModelError
from samlet.masks import Masks
from samlet.model import Model

GRID_KEYWORDS = {
    "conf_thres": "pred_iou_thresh",
    "crop_downscale_factor": "crop_n_points_downscale_factor",
    "crop_n_layers": "crop_n_layers",
    "crop_nms_thresh": "crop_nms_thresh",
    "crop_overlap_ratio": "crop_overlap_ratio",
    "min_mask_region_area": "min_mask_region_area",
    "point_grids": "point_grids",
    "points_batch_size": "points_per_batch",
    "points_stride": "points_per_side",
    "stability_score_offset": "stability_score_offset",
    "stability_score_thresh": "stability_score_thresh",
}
"""Keywords of segmenting everything, and what SAM calls them."""


@dataclass(frozen=True)
class Call:
    """What one call asks for beside `Settings`.

    Attributes:
        asked: Points, boxes and masks.
        multimask: Whether each prompt gives three masks.
        grid: Settings of everything mode.
    """

    asked: Asked
    multimask: bool
    grid: dict[str, Any]


class SAM(Caller):
    """SAM, MobileSAM or nano, called as Ultralytics' class of that name is.

    N prompts give N masks, in their order, whatever their scores; with `multimask_output=True` three each.
    Without any prompt everything in the picture is segmented.

    Example:
        >>> sam = SAM("nano")  # doctest: +SKIP
        >>> sam("dogs.jpg", points=[[[520, 360], [620, 300]]], labels=[[1, 0]])[0].masks.xy  # doctest: +SKIP
    """

    is_sam2 = False

    def __init__(
        self,
        model: str | Path | Model = "sam_b.pt",
        *,
        backend: str | Backend = "onnx",
        threads: int | None = None,
    ) -> None:
        """Load a model; see `Caller`."""
        super().__init__(model, backend=backend, threads=threads)

    def predict(  # noqa: PLR0913  in the order of the original, for calls by position
        self,
        source: Any = None,
        stream: bool = False,
        bboxes: Any = None,
        points: Any = None,
        labels: Any = None,
        *,
        masks: Any = None,
        multimask_output: bool = False,
        **options: Any,
    ) -> Any:
        """Segment what the prompts point at, in one picture or many.

        Args:
            source: A path, a folder, a pattern, a Pillow image, an array in BGR order, or a list of these; None
                asks again about the last picture, without encoding it again.
            stream: Whether to give results one by one.
            bboxes: [x0, y0, x1, y1] or a list of them, picture pixels; with points they pair up.
            points: [x, y] or [[x, y], ...], an object each, or [[[x, y], ...], ...], several points an object.
            labels: 1 foreground, 0 background for each point.
            masks: Hints: low-resolution logits of an earlier answer, or masks of the picture's size (N, H, W).
            multimask_output: Whether each prompt gives SAM's three candidates instead of one mask.
            **options: conf, max_det, save, save_txt, project, ... as in `Settings`, and those of everything
                mode as in `GRID_KEYWORDS`.

        Returns:
            A list of `Results`, or a generator with `stream`.

        Raises:
            InputError: A keyword or a source is unknown.
            PromptError: The prompts make no sense or lie outside the picture.
            ImageError: There is no picture, or a broken one.
        """
        grid = {GRID_KEYWORDS[name]: options.pop(name) for name in GRID_KEYWORDS if name in options}
        settings = split(options, others=(*GRID_KEYWORDS, *_NAMED))
        asked = prompts.read(points, labels, bboxes, masks)
        if grid and not asked.everything:
            raise InputError(
                f"expected {', '.join(sorted(grid))} for segmenting everything, got prompts as well; leave one out"
            )
        call = Call(asked, multimask_output, grid)
        return self._start(source, settings, call, stream=stream)

    __call__ = predict

    def _check(self) -> None:
        if self.model.card.family == "fastsam":
            raise ModelError(f"expected a SAM, got {self.model.card.name}; use FastSAM for it")

    def _answer(self, view: View, settings: Settings, call: Call) -> tuple[Masks | None, None]:
        if call.asked.nothing:
            return None, None
        if call.asked.everything:
            return self._everything(view, settings, call.grid), None
        embedding = self._embedded(view)
        prompt = prompts.prompt_for(call.asked, embedding)
        answer = self.model.session.segment(embedding, prompt, multimask=call.multimask)
        return _within(_flat(answer), settings), None

    def _embedded(self, view: View) -> Embedding:
        return view.embedded(lambda: self.model.embed(view.source.image))

    def _everything(self, view: View, settings: Settings, options: dict[str, Any]) -> Masks:
        try:
            from samlet.everything import Grid, everything
        except ImportError as error:
            raise ModelError(
                "expected a prompt, got none, and this version of samlet does not segment everything; pass points "
                "or bboxes"
            ) from error
        if settings.iou is not None:
            options = {"box_nms_thresh": settings.iou, **options}
        if options.get("point_grids") is not None:
            options = {"points_per_side": None, **options}
        return _within(everything(self.model.session, self._embedded(view), Grid(**options)), settings)


def _within(answer: Masks, settings: Settings) -> Masks:
    """Leave out what the caller's own bounds leave out; without them every prompt keeps its mask."""
    if settings.conf is not None:
        answer = answer[answer.scores > settings.conf]
    return answer[: settings.max_det] if settings.max_det is not None else answer


def _flat(answer: Masks) -> Masks:
    """Lay the candidates of all prompts one after the other."""
    if not answer.is_multimask:
        return answer
    return Masks(
        logits=answer.logits.reshape(-1, *answer.logits.shape[-2:]),
        scores=answer.scores.ravel(),
        frame=answer.frame,
    )


_NAMED = ("source", "stream", "bboxes", "points", "labels", "masks", "multimask_output")
