"""Ultralytics' `FastSAM`: everything in one pass, and prompts that choose among it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samlet.backends.base import Backend
from samlet.compat.ultralytics import prompts
from samlet.compat.ultralytics.caller import Caller, View
from samlet.compat.ultralytics.prompts import Asked
from samlet.compat.ultralytics.results import Results
from samlet.compat.ultralytics.settings import Settings, split
from samlet.compat.ultralytics.sources import from_bgr
from samlet.embedding import Embedding
from samlet.errors import InputError, ModelError, PromptError
from samlet.families import fastsam
from samlet.image import Image
from samlet.instances import rules_of
from samlet.masks import StoredMasks
from samlet.model import Model
from samlet.prompt import BACKGROUND, FOREGROUND, Prompt
from samlet.regions import NOTHING, Pick, Regions, Scorer, by_points, by_text, paint
from samlet.rle import Rle, mask_to_rle
from samlet.text import default_scorer

_NAMED = ("source", "stream", "bboxes", "points", "labels", "texts", "imgsz", "retina_masks")
_STRIDE = 32
_INSTEAD = "FastSAM(..., scorer=rate) with a function rate(crops, text)"


@dataclass(frozen=True)
class Selection:
    """What a call chooses among the objects of a picture; without any part it is all of them.

    Attributes:
        boxes: Objects asked for by boxes.
        points: Objects asked for by points.
        texts: Phrases.
    """

    boxes: Asked
    points: Asked
    texts: tuple[str, ...] | None

    @classmethod
    def read(
        cls, bboxes: Any = None, points: Any = None, labels: Any = None, texts: Any = None
    ) -> "Selection":
        """Read prompts in any nesting.

        Raises:
            PromptError: A part has another shape.
        """
        if points is not None and _is_one_object(points, labels):
            points, labels = [points], [np.ravel(labels)]
        if isinstance(texts, str):
            texts = (texts,)
        if texts is not None and not all(isinstance(text, str) and text.strip() for text in texts):
            raise PromptError(f"expected texts as a phrase or a list of them, got {texts!r:.80}; give words")
        return cls(
            prompts.read(bboxes=bboxes), prompts.read(points, labels), None if texts is None else tuple(texts)
        )

    @property
    def everything(self) -> bool:
        """Whether nothing was asked for, so that all objects are meant."""
        return self.boxes.everything and self.points.everything and self.texts is None

    def among(self, found: StoredMasks, image: Image, scorer: Scorer | None) -> StoredMasks | None:
        """Choose: a mask for each box, then one for each object of points, then one for each phrase.

        Args:
            found: The objects of a picture, not chosen yet.
            image: The picture.
            scorer: Says how well a phrase fits a crop.

        Returns:
            The masks in that order, an empty one with score 0 where nothing fits; None if nothing fits at all.

        Raises:
            PromptError: A prompt lies outside the picture.
            MissingExtraError: There are texts and nothing that could read them.
        """
        parts: list[tuple[list[Rle], list[float]]] = []
        if not self.boxes.everything and not self.boxes.nothing:
            chosen = fastsam.choose(found, Prompt.make(image_hw=image.hw, boxes=self.boxes.boxes))
            parts.append((list(chosen.rles), chosen.scores.tolist()))
        if not self.points.everything and not self.points.nothing:
            prompt = Prompt.make(image_hw=image.hw, points=self.points.points, labels=self.points.labels)
            parts.append(_by_points(found, prompt))
        parts.append(_by_texts(found, image, self.texts or (), scorer))
        scores = np.array([score for part in parts for score in part[1]], np.float32)
        if not scores.any():
            return None
        return StoredMasks.of([rle for part in parts for rle in part[0]], scores, image.hw, image=image)


@dataclass(frozen=True)
class Call:
    """What one call asks for beside `Settings`.

    Attributes:
        selection: What is chosen.
        side: Longest side of the picture in the network, in pixels, or None for the model's own.
        retina: Whether masks are enlarged straight to the picture.
    """

    selection: Selection
    side: int | None
    retina: bool


class FastSAM(Caller):
    """FastSAM, called as Ultralytics' class of that name is.

    N boxes give N masks in their order, N objects of points N more, and N phrases N more; what fits nothing is
    an empty mask, and a picture where nothing was found a result without masks.

    Example:
        >>> fast = FastSAM("FastSAM-s.pt")  # doctest: +SKIP
        >>> fast("dogs.jpg", bboxes=[439, 437, 524, 709])[0].masks.xy  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | Model = "FastSAM-x.pt",
        *,
        backend: str | Backend = "onnx",
        threads: int | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: As for `Caller`.
            backend: As for `samlet.load`.
            threads: As for `samlet.load`.
            scorer: For `texts`: a function that rates crops (h, w, 3) RGB against a phrase, as in
                `samlet.regions.Scorer`; None takes the CLIP on this computer if there is one
                (`samlet.text.default_scorer`).

        Raises:
            UnknownModelError: There is no model of that name.
            ModelError: A file is missing, damaged, or of another kind of network.
        """
        self.scorer = scorer
        super().__init__(model, backend=backend, threads=threads)

    def predict(  # noqa: PLR0913  in the order of the original, for calls by position
        self,
        source: Any = None,
        stream: bool = False,
        bboxes: Any = None,
        points: Any = None,
        labels: Any = None,
        texts: str | list[str] | None = None,
        *,
        imgsz: int | tuple[int, int] | list[int] | None = None,
        retina_masks: bool = True,
        **options: Any,
    ) -> Any:
        """Segment everything, or what the prompts choose, in one picture or many.

        Args:
            source: A path, a folder, a pattern, a Pillow image, an array in BGR order, or a list of these; None
                asks again about the last picture, without running the network again.
            stream: Whether to give results one by one.
            bboxes: [x0, y0, x1, y1] or a list of them, picture pixels.
            points: [x, y] or [[x, y], ...], an object each, or [[[x, y], ...], ...], several points an object.
                Points in a flat list of which some are background points all belong to one object.
            labels: 1 foreground, 0 background for each point.
            texts: A phrase or several.
            imgsz: Longest side of the picture in the network; the model's own (1024) if None.
            retina_masks: Whether masks are enlarged straight to the picture; they have its size either way.
            **options: conf, iou, max_det, save, ... as in `Settings`.

        Returns:
            A list of `Results`, or a generator with `stream`.

        Raises:
            InputError: A keyword or a source is unknown.
            PromptError: The prompts make no sense or lie outside the picture.
            MissingExtraError: There are texts but no scorer and no CLIP on this computer.
            ImageError: There is no picture, or a broken one.
        """
        settings = split(options, others=_NAMED)
        selection = Selection.read(bboxes, points, labels, texts)
        if texts is not None and self.scorer is None:
            self.scorer = default_scorer(_INSTEAD)
        call = Call(selection, _side(imgsz), bool(retina_masks))
        return self._start(source, settings, call, stream=stream)

    __call__ = predict

    def _check(self) -> None:
        if self.model.card.family != "fastsam":
            raise ModelError(f"expected a FastSAM, got {self.model.card.name}; use SAM for it")

    def _answer(self, view: View, settings: Settings, call: Call) -> tuple[StoredMasks | None, Any]:
        card, image = self.model.card, view.source.image
        rules = rules_of(
            card, conf=settings.conf, iou=settings.iou, max_det=settings.max_det, retina=call.retina
        )
        found = fastsam.instances(self._embedded(view, call.side or card.side), card, rules)
        if call.selection.everything:
            return found, found.facts["box_xyxy"]
        return call.selection.among(found, image, self.scorer), None

    def _embedded(self, view: View, side: int) -> Embedding:
        def embed() -> Embedding:
            # The network takes any size; the card only says which is usual.
            feeds, frame = fastsam.feed(view.source.image, replace(self.model.card, side=side))
            return replace(self.model.session.encode(feeds, frame), image=view.source.image)

        return view.embedded(embed, key=side)


def chosen_from(result: Results, selection: Selection, scorer: Scorer | None) -> Results:
    """Choose among the objects of an earlier result.

    Raises:
        InputError: It is no result.
        PromptError: A prompt lies outside the picture.
        MissingExtraError: There are texts and nothing that could read them.
    """
    if not isinstance(result, Results):
        raise InputError(f"expected results of an earlier call, got {type(result).__name__}; pass those")
    if selection.everything or result.masks is None:
        return result
    found = StoredMasks.of(
        [mask_to_rle(mask) for mask in result.masks.iter_masks()],
        result.boxes.conf.numpy(),
        result.orig_shape,
    )
    answer = selection.among(found, from_bgr(result.orig_img), scorer)
    return result.new() if answer is None else result.holding(answer)


def _by_points(found: StoredMasks, prompt: Prompt) -> tuple[list[Rle], list[float]]:
    """Choose for each object the regions with a foreground point and no background point, joined.

    Where every region that holds a foreground point holds a background point, too, it stays, and smaller regions
    that hold background points alone are cut out of it.
    """
    regions = Regions.of(found)
    rles, scores = [], []
    for points, labels in zip(prompt.points, prompt.labels, strict=True):  # type: ignore[arg-type]
        inside = regions.contains(points)
        good = np.flatnonzero(
            inside[:, labels == FOREGROUND].any(1) & ~inside[:, labels == BACKGROUND].any(1)
        )
        # The last point in a region decides about it: foreground points come last.
        order = np.argsort(labels == FOREGROUND, kind="stable")
        pick = Pick(good, np.ones(len(good), np.bool_))
        if not len(good):
            (pick,) = by_points(regions, [points[order]], [labels[order]])
        mask = paint(regions, pick)
        rles.append(mask_to_rle(mask))
        scores.append(float(found.scores[pick.chosen[pick.adds]].max(initial=0)) if mask.any() else 0.0)
    return rles, scores


def _by_texts(
    found: StoredMasks, image: Image, texts: tuple[str, ...], scorer: Scorer | None
) -> tuple[list[Rle], list[float]]:
    if not texts:
        return [], []
    scorer = scorer if scorer is not None else default_scorer(_INSTEAD)
    regions, empty = Regions.of(found), mask_to_rle(np.zeros(image.hw, np.bool_))
    picks = [by_text(regions, image, text, scorer).chosen for text in texts]
    return (
        [empty if pick == NOTHING else found.rles[pick] for pick in picks],
        [0.0 if pick == NOTHING else float(found.scores[pick]) for pick in picks],
    )


def _is_one_object(points: Any, labels: Any) -> bool:
    """Whether a flat list of points has background points, which mean nothing as objects of their own."""
    shape = _shape(points)
    marks = np.ravel(np.asarray(labels)) if labels is not None and _shape(labels) is not None else np.ones(1)
    return (
        shape is not None and len(shape) == 2 and shape[0] > 1 and len(marks) == shape[0] and not marks.all()
    )


def _shape(values: Any) -> tuple[int, ...] | None:
    try:
        return tuple(np.asarray(values).shape)
    except ValueError:  # lists of different length
        return None


def _side(imgsz: Any) -> int | None:
    """Read Ultralytics' size of a picture, rounded up to what the network can take."""
    if imgsz is None:
        return None
    sides = np.ravel(np.asarray(imgsz))
    if (
        sides.dtype.kind not in "iu"
        or not 1 <= len(sides) <= 2
        or not (32 <= sides.min() and sides.max() <= 8192)
    ):
        raise InputError(f"expected imgsz from 32 to 8192 pixels, got {imgsz!r:.80}; 1024 is the model's own")
    return math.ceil(int(sides.max()) / _STRIDE) * _STRIDE
