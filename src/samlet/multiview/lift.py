"""From a prompt on one view to masks on all views and in space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.answerer import Answerer
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.geometry import mask_iou, resize_bilinear
from samlet.image import Image
from samlet.masks import Masks
from samlet.multiview.cameras import Camera, scene_bounds
from samlet.multiview.prompting import box_of, clicks_of
from samlet.multiview.voxels import Voxels, render, sample

_YOUNG = 4  # views of which none may speak against a voxel: votes mean little among so few
_BLIND = 3  # views with which the hull is still a long cone, whose box says little: clicks help
_HINT = 8.0
_WITHIN = 0.7  # part of an answer that has to lie in what the hull allows
_COVERED = 0.5
_AGREED = 0.5  # SA3D's bound


@dataclass(frozen=True, slots=True)
class Settings:
    """How masks are lifted.

    Attributes:
        passes: How often every view is asked again with what all others have found; each costs one prompt a view.
        keep: Part of the views that have to see a voxel inside their masks, 0 to 1.
        young_keep: The same along the way, while views are still added one by one.
        stride: Picture pixels between the rays by which the grid is looked at.
        clicks: Most clicks of a view while the grid is only a cone.
    """

    passes: int = 3
    keep: float = 0.75
    young_keep: float = 0.8
    stride: int = 4
    clicks: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.passes <= 100 and 0 < self.keep <= 1 and 0 < self.young_keep <= 1):
            raise InputError(
                f"expected passes from 0 to 100 and keep above 0 and at most 1, got {self.passes}, {self.keep} and "
                f"{self.young_keep}; correct them"
            )
        if not (1 <= self.stride <= 64 and 1 <= self.clicks <= 100):
            raise InputError(
                f"expected stride from 1 to 64 and clicks from 1 to 100, got {self.stride} and {self.clicks}; correct "
                "them"
            )


@dataclass(frozen=True, eq=False)
class Lift:
    """Masks on all views, and the mask in space.

    Attributes:
        masks: (H, W) for each view.
        scores: (V,) the model's own estimate of each mask.
        trusted: (V,) whether the mask agrees with the others and has a vote in space.
        votes: (count, count, count) part of the trusted views that see each voxel inside their masks.
        voxels: Where the voxels are.
        settings: How it was made.
    """

    masks: list[NDArray[np.bool_]]
    scores: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    votes: NDArray[np.float32]
    voxels: Voxels
    settings: Settings

    @property
    def solid(self) -> NDArray[np.bool_]:
        """The mask in space (count, count, count)."""
        return self.votes >= self.settings.keep

    def silhouette(self, camera: Camera) -> NDArray[np.bool_]:
        """Draw the mask in space as a camera sees it, any camera.

        Args:
            camera: The camera.

        Returns:
            (H, W) of the camera's picture.
        """
        return _enlarged(
            _look(self.votes, self.voxels, camera, self.settings, self.settings.keep)[2] > 0, camera
        )

    def ask(self, answerer: Answerer, camera: Camera, image: Image) -> tuple[NDArray[np.bool_], float]:
        """Find the object in a view that was not there when the masks were lifted.

        Args:
            answerer: The model.
            camera: The view's camera.
            image: Its picture.

        Returns:
            The mask (H, W) and its score; nothing and 0 if the mask in space is not in view.
        """
        seen = _look(self.votes, self.voxels, camera, self.settings, self.settings.keep)
        found = _asked(answerer, answerer.embed(image), camera, seen, self.settings, self.settings.keep)
        return (np.zeros(camera.image_hw, bool), 0.0) if found is None else found


def lift(  # noqa: PLR0913  the scene, the prompt, and how
    answerer: Answerer,
    cameras: Sequence[Camera],
    images: Sequence[Image],
    *,
    view: int,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    voxels: Voxels | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Lift:
    """Find the object that a prompt on one view means in all views and in space.

    Args:
        answerer: The model.
        cameras: V of them, around the object.
        images: Their pictures. Each is embedded once, and the embedding kept: 4 MB for nano and SAM.
        view: Which view the prompt is for.
        points: (K, 2) clicks on one object, in pixels of that view.
        labels: (K,) 1 foreground, 0 background; None makes all foreground.
        boxes: (4,) x0, y0, x1, y1 in pixels of that view.
        voxels: The part of the world to look at; None guesses it from the cameras, with 64 voxels along a side.
        settings: How.
        progress: Called with the prompts done and the prompts in all.

    Returns:
        The masks.

    Raises:
        InputError: Cameras and pictures do not belong together, or there is no such view.
        PromptError: The prompt makes no sense.
        BackendError: The runtime failed.
    """
    _check(cameras, images, view)
    grid = voxels or Voxels(*scene_bounds(cameras), 64)
    work = _Lifting(answerer, cameras, images, grid, settings or Settings(), progress)
    work.begin(view, points, labels, boxes)
    while (view_next := work.nearest()) is not None:
        work.add(view_next)
    for _ in range(work.settings.passes):
        work.ask_all_again(view)
    return work.result()


class _Lifting:
    """The state on the way: what each view answered, and the votes of those that are trusted."""

    def __init__(
        self,
        answerer: Answerer,
        cameras: Sequence[Camera],
        images: Sequence[Image],
        voxels: Voxels,
        settings: Settings,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._answerer, self._cameras, self._voxels = answerer, cameras, voxels
        self.settings, self._progress = settings, progress
        self._done, self._all = 0, len(cameras) * (1 + settings.passes) - settings.passes
        self._views = [answerer.embed(image) for image in images]
        self._points = voxels.points()
        self._answers: dict[int, tuple[NDArray[np.bool_], float]] = {}
        self._votes: dict[int, NDArray[np.bool_]] = {}

    def begin(
        self, view: int, points: ArrayLike | None, labels: ArrayLike | None, boxes: ArrayLike | None
    ) -> None:
        asked = {"points": points, "labels": labels, "boxes": boxes}
        masks = self._answerer.segment(
            self._views[view], **{name: part for name, part in asked.items() if part is not None}
        )
        if len(masks) != 1:
            raise InputError(
                f"expected a prompt for one object, got {len(masks)}; give one box or points of one object"
            )
        self._took(view, (next(masks.iter_masks()), float(masks.scores[0])), trusted=True)

    def nearest(self) -> int | None:
        """Choose the view that looks most like one that has answered."""
        directions = np.array([camera.direction for camera in self._cameras])
        left = [index for index in range(len(self._cameras)) if index not in self._answers]
        if not left:
            return None
        known = sorted(self._votes)
        return max(left, key=lambda index: float((directions[known] @ directions[index]).max()))

    def add(self, view: int) -> None:
        """Ask a view what the hull of those before it may be there; doubt an answer that contradicts them."""
        known = len(self._votes)
        bound = 1 - 1e-6 if known < _YOUNG else self.settings.young_keep
        camera, field = self._cameras[view], self._field()
        seen = self._look(field, camera, bound)
        answers = self._candidates(view, seen, blind=known < _BLIND)
        if not answers:
            self._took(view, (np.zeros(camera.image_hw, bool), 0.0), trusted=False)
            return
        allowed = _enlarged(seen[2] > 0, camera)
        rated = [(self._agreement(view, mask, allowed, field, bound), mask, score) for mask, score in answers]
        (within, covered), mask, score = max(rated, key=lambda one: min(one[0]))
        self._took(view, (mask, score), trusted=within > _WITHIN and covered > _COVERED)

    def _candidates(self, view: int, seen: "_Seen", *, blind: bool) -> list[tuple[NDArray[np.bool_], float]]:
        asked = (self._answerer, self._views[view], self._cameras[view], seen, self.settings, None)
        ways = ("both", "clicks") if blind else ("box",)
        return [found for way in ways if (found := _asked(*asked, way=way)) is not None]

    def _agreement(
        self,
        view: int,
        mask: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        field: NDArray[np.float32],
        bound: float,
    ) -> tuple[float, float]:
        """Rate an answer: the part of it that the hull allows, and the part of its neighbour that it leaves standing.

        The outline of a cone says little about how large the object is, so overlap with it would be no measure.
        """
        within = _share(mask & allowed, mask)
        directions = np.array([camera.direction for camera in self._cameras])
        neighbour = max(self._votes, key=lambda other: float(directions[other] @ directions[view]))
        inside = sample(mask.astype(np.float32), self._cameras[view], self._points)
        left = self._look(field * (inside > 0), self._cameras[neighbour], bound)
        known = self._answers[neighbour][0]
        standing = _enlarged(left[2] > 0, self._cameras[neighbour]) & known
        return within, _share(standing, known)

    def ask_all_again(self, first: int) -> None:
        """Ask each view with what the others found; the user's own prompt keeps its answer."""
        total, count = self._total(), len(self._votes)
        before = dict(self._votes)
        for view, camera in enumerate(self._cameras):
            if view == first:
                continue
            own = before.get(view)
            others = (total if own is None else total - own) / max(count - (own is not None), 1)
            seen = self._look(others.astype(np.float32), camera, self.settings.keep)
            found = _asked(
                self._answerer, self._views[view], camera, seen, self.settings, self.settings.keep
            ) or (np.zeros(camera.image_hw, bool), 0.0)
            self._took(view, found, trusted=mask_iou(found[0], _enlarged(seen[2] > 0, camera)) > _AGREED)

    def result(self) -> Lift:
        views = range(len(self._cameras))
        return Lift(
            masks=[self._answers[view][0] for view in views],
            scores=np.array([self._answers[view][1] for view in views], np.float32),
            trusted=np.array([view in self._votes for view in views]),
            votes=self._field().reshape((self._voxels.count,) * 3),
            voxels=self._voxels,
            settings=self.settings,
        )

    def _took(self, view: int, answer: tuple[NDArray[np.bool_], float], *, trusted: bool) -> None:
        self._answers[view] = answer
        self._votes.pop(view, None)
        if trusted:
            inside = sample(answer[0].astype(np.float32), self._cameras[view], self._points)
            self._votes[view] = inside > 0
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._all)

    def _total(self) -> NDArray[np.float32]:
        total = np.zeros(len(self._points), np.float32)
        for votes in self._votes.values():
            total += votes
        return total

    def _field(self) -> NDArray[np.float32]:
        return self._total() / np.float32(max(len(self._votes), 1))

    def _look(self, field: NDArray[np.float32], camera: Camera, bound: float) -> "_Seen":
        return _look(field.reshape((self._voxels.count,) * 3), self._voxels, camera, self.settings, bound)


_Seen = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _look(
    field: NDArray[np.float32], voxels: Voxels, camera: Camera, settings: Settings, bound: float
) -> _Seen:
    # `render` wants values above the bound; those that reach it count here.
    return render(field, voxels, camera, stride=settings.stride, above=bound - 1e-6)


def _asked(  # noqa: PLR0913  one view and how to ask it
    answerer: Answerer,
    view: Embedding,
    camera: Camera,
    seen: _Seen,
    settings: Settings,
    hint_at: float | None,
    *,
    way: str = "box",
) -> tuple[NDArray[np.bool_], float] | None:
    """Prompt a view with what is seen of the grid: a box, clicks or both, and a hint when it is not vague any more."""
    best, first, length = seen
    if not (length > 0).any():
        return None
    box = box_of(length > 0, settings.stride, camera.image_hw)
    asked: dict[str, Any] = {} if way == "clicks" else {"boxes": [box]}
    if way != "box":
        points = clicks_of(length, first, count=settings.clicks, stride=settings.stride)
        asked |= {"points": [points], "labels": [[1] * len(points)]}
    masks = answerer.segment(view, **asked)
    if hint_at is not None:
        masks = answerer.segment(view, boxes=[box], hint=_hint(best, hint_at, masks, settings.stride))
    return next(masks.iter_masks()), float(masks.scores[0])


def _hint(best: NDArray[np.float32], bound: float, masks: Masks, stride: int) -> NDArray[np.float32]:
    """Make low-resolution logits of a picture of the grid, on the grid of the model's own answer."""
    frame = masks.frame
    height, width = masks.logits.shape[-2:]
    logits = np.clip((best - bound) * 20, -_HINT, _HINT).astype(np.float32)
    # The answer's grid covers the canvas; the picture is the part of it that the frame says.
    inner = (
        round(height * frame.scaled_hw[0] / frame.canvas_hw[0]),
        round(width * frame.scaled_hw[1] / frame.canvas_hw[1]),
    )
    hint = np.full((height, width), -_HINT, np.float32)
    hint[: inner[0], : inner[1]] = resize_bilinear(logits[None], inner)[0]
    return hint


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum()) / max(int(whole.sum()), 1)


def _enlarged(cells: NDArray[np.bool_], camera: Camera) -> NDArray[np.bool_]:
    height, width = camera.image_hw
    stride = -(-height // cells.shape[0])
    return np.repeat(np.repeat(cells, stride, axis=0), stride, axis=1)[:height, :width]


def _check(cameras: Sequence[Camera], images: Sequence[Image], view: int) -> None:
    if len(cameras) != len(images) or len(cameras) < 2:
        raise InputError(
            f"expected at least two cameras and a picture for each, got {len(cameras)} and {len(images)}; pair them up"
        )
    for camera, image in zip(cameras, images, strict=True):
        if tuple(camera.image_hw) != tuple(image.hw):
            raise InputError(
                f"{camera.name}: expected a picture of {camera.image_hw[0]} x {camera.image_hw[1]} pixels, got "
                f"{image.height} x {image.width}; the camera's numbers are for another size"
            )
    if not 0 <= view < len(cameras):
        raise InputError(f"expected a view from 0 to {len(cameras) - 1}, got {view}; count from 0")
