"""`FastSAMPrompt(picture, results)`: prompts choose among what the model found."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from samlet import codecs, drawing
from samlet.compat.fastsam.results import Results, picture_of
from samlet.compat.segment_anything.arrays import to_numpy
from samlet.compat.ultralytics.arrays import HostArray, host
from samlet.errors import PromptError
from samlet.image import Image
from samlet.prompt import Prompt
from samlet.regions import Crop, Regions, Scorer, by_boxes, by_points, by_text, paint
from samlet.text import default_scorer


class FastSAMPrompt:
    """Prompts on one picture, as in FastSAM's own package; each answer is an array of masks (k, H, W) bool.

    Example:
        >>> prompt = FastSAMPrompt("dogs.jpg", results)  # doctest: +SKIP
        >>> mask = prompt.point_prompt(points=[[520, 360]], pointlabel=[1])  # doctest: +SKIP
        >>> prompt.plot(mask, "dog.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        image: Any,
        results: Any = None,
        device: Any = None,
        *,
        scorer: Scorer | None = None,
    ) -> None:
        """Put a picture and its results together.

        Args:
            image: The picture: a path, a Pillow image or an array in BGR order.
            results: What `FastSAM` gave for it; None or [] for a picture in which nothing was found. Results of
                the original package and arrays of masks (N, h, w) do as well, also at another size.
            device: Not looked at.
            scorer: Says how well a phrase fits a picture, for `text_prompt`.

        Raises:
            ImageError: There is no picture, or a broken one.
        """
        self.image = picture_of(image)
        self.results = results
        self.scorer = scorer

    @cached_property
    def regions(self) -> Regions:
        """The masks to choose from, at the size they were made."""
        first = self.results
        if isinstance(first, list | tuple):
            first = first[0] if len(first) else None
        if isinstance(first, Results):
            return Regions.of(first.found)
        masks = first if not hasattr(first, "masks") else getattr(first.masks, "data", None)
        if masks is None or not len(masks):
            return Regions([], self.image.hw)
        return Regions.of(to_numpy(masks))

    def everything_prompt(self) -> HostArray:
        """Give all masks, best first, (N, H, W); (0, H, W) if nothing was found."""
        return self._stacked([self.regions.mask(row) for row in range(len(self.regions))])

    def point_prompt(self, points: Any, pointlabel: Any = None) -> HostArray:
        """Put together what clicks point at.

        Args:
            points: (K, 2) clicks on one object, or a list of those for several objects; picture pixels.
            pointlabel: (K,) 1 foreground, 0 background, or a list of those; None makes each click foreground.

        Returns:
            (1, H, W), or one mask for each object, in order; empty where no mask holds a foreground click.

        Raises:
            PromptError: Points and labels do not match.
        """
        points, pointlabel = _objects(points, pointlabel)
        scaled = [np.asarray(one, np.float64).reshape(-1, 2) * self._scale_xy for one in points]
        return self._stacked(
            [paint(self.regions, pick) for pick in by_points(self.regions, scaled, pointlabel)]
        )

    def box_prompt(self, bbox: ArrayLike | None = None, bboxes: ArrayLike | None = None) -> HostArray:
        """Choose for each box the mask that overlaps it best.

        Args:
            bbox: (4,) as x0, y0, x1, y1 in picture pixels.
            bboxes: (k, 4), several of them, instead.

        Returns:
            (k, H, W) in the order of the boxes, one for each; empty where no mask touches the box.

        Raises:
            PromptError: There is no box, or one of them has no pixel in the picture.
        """
        if bbox is None and bboxes is None:
            raise PromptError("expected bbox or bboxes, got neither; give x0, y0, x1, y1 in picture pixels")
        boxes = np.asarray(bbox if bboxes is None else bboxes, np.float64)
        boxes = boxes.reshape(1, -1) if boxes.ndim == 1 else boxes
        if boxes.ndim == 2 and boxes.shape[1] == 4:
            boxes = boxes * np.tile(self._scale_xy, 2)
        chosen, _ = by_boxes(self.regions, boxes)
        return self._stacked([self.regions.mask(int(row)) for row in chosen])

    def text_prompt(
        self, text: str, wider: bool = False, *, crop: Crop = "masked", scorer: Scorer | None = None
    ) -> HostArray:
        """Choose the mask that a phrase describes best.

        Args:
            text: The phrase.
            wider: Whether to take the largest mask that holds nearly all of the best one instead.
            crop: What the scorer sees, see `samlet.regions.crops`; "whole" is the original's way.
            scorer: Says how well the phrase fits a picture; None takes the one given at the start, or else
                the CLIP on this computer (`samlet.text.default_scorer`).

        Returns:
            (1, H, W), empty if nothing was found.

        Raises:
            MissingExtraError: There is no scorer and no CLIP on this computer.
        """
        judge = scorer if scorer is not None else self.scorer
        if judge is None:
            judge = default_scorer("FastSAMPrompt(..., scorer=rate) with a function rate(crops, text)")
        pick = by_text(self.regions, self._image_of_regions, text, judge, crop=crop, wider=wider)
        return self._stacked([self.regions.mask(pick.chosen)])

    def plot(  # noqa: PLR0913, PLR0917  the reference's own arguments
        self,
        annotations: Any,
        output_path: str | Path,
        bboxes: Any = None,
        points: Any = None,
        point_label: Any = None,
        mask_random_color: bool = True,
        better_quality: bool = True,
        retina: bool = True,
        withContours: bool = True,
    ) -> None:
        """Draw masks over the picture and save the drawing; see `plot_to_result`.

        Args:
            annotations: What a prompt gave.
            output_path: File ending in .png, .jpg or .webp; its folder is made if need be.
            bboxes: (4,) or (k, 4) boxes to draw, in picture pixels.
            points: (K, 2) clicks to draw, in picture pixels.
            point_label: (K,) their labels; None makes them foreground.
            mask_random_color: Not looked at: each mask has a colour of its own, the same every time.
            better_quality: Not looked at: edges are smooth.
            retina: Not looked at: any size of mask is brought to the picture's.
            withContours: Not looked at: outlines are drawn.

        Raises:
            InputError: The suffix is another.
            OutputError: The file cannot be written.
        """
        content_of = drawing.picture_encoder(output_path)
        drawn = PillowImage.fromarray(self.plot_to_result(annotations, bboxes, points, point_label))
        Path(output_path).parent.mkdir(parents=True, exist_ok=True)
        codecs.atomic_write(Path(output_path), content_of(drawn))

    def plot_to_result(
        self, annotations: Any, bboxes: Any = None, points: Any = None, point_label: Any = None
    ) -> NDArray[np.uint8]:
        """Draw masks over the picture, smaller ones on top.

        Args:
            annotations: Masks (N, h, w), a list of (h, w), or a list of dicts with a "segmentation".
            bboxes: (4,) or (k, 4) boxes to draw, in picture pixels.
            points: (K, 2) clicks to draw, in picture pixels.
            point_label: (K,) their labels; None makes them foreground.

        Returns:
            (H, W, 3) RGB.
        """
        boxes = None if bboxes is None else Prompt.make(image_hw=self.image.hw, boxes=bboxes)
        drawn = drawing.overlay(self.image, self._drawable(annotations), prompt=boxes)
        if points is not None and len(points):
            clicks = Prompt.make(image_hw=self.image.hw, points=points, labels=point_label)
            drawn = drawing.overlay(Image.load(drawn), [], prompt=clicks)
        return np.asarray(drawn)

    @property
    def _scale_xy(self) -> NDArray[np.float64]:
        """From picture pixels to pixels of the masks."""
        (height, width), (mask_h, mask_w) = self.image.hw, self.regions.image_hw
        return np.array([mask_w / width, mask_h / height])

    @property
    def _image_of_regions(self) -> Image:
        if self.regions.image_hw == self.image.hw:
            return self.image
        return Image(self.image.resized(self.regions.image_hw), self.image.source)

    def _stacked(self, masks: Sequence[NDArray[np.bool_]]) -> HostArray:
        return host(np.array(masks, np.bool_).reshape(-1, *self.regions.image_hw))

    def _drawable(self, annotations: Any) -> Iterable[NDArray[np.bool_]]:
        for annotation in annotations:
            mask = to_numpy(annotation["segmentation"] if isinstance(annotation, dict) else annotation) > 0
            if mask.shape != self.image.hw:
                scaled = PillowImage.fromarray(mask).resize(
                    self.image.hw[::-1], PillowImage.Resampling.NEAREST
                )
                mask = np.asarray(scaled)
            yield mask


def _objects(points: Any, labels: Any) -> tuple[list[Any], list[Any]]:
    """Bring clicks on one object and on several into one shape: a list with one entry for each object."""
    points = to_numpy(points).tolist() if hasattr(points, "shape") else list(points)
    labels = to_numpy(labels).tolist() if hasattr(labels, "shape") else labels
    several = bool(points) and bool(len(points[0])) and np.ndim(points[0][0]) == 1
    own_points = points if several else [points]
    if labels is None:
        return own_points, [[1] * len(one) for one in own_points]
    return own_points, list(labels) if several else [labels]
