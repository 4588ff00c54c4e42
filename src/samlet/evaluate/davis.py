"""The protocol of DAVIS for one object or several: region J and boundary F of an object followed through a video.

Reads the data set as it is published: ROOT/JPEGImages/480p/NAME/*.jpg, ROOT/Annotations/480p/NAME/*.png and the lists
ROOT/ImageSets/YEAR/SPLIT.txt. One frame of a video is held at a time.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samlet.answerer import Answerer
from samlet.data.folders import Folders
from samlet.embedding import Embedding
from samlet.errors import InputError
from samlet.evaluate.baselines import tight_box
from samlet.evaluate.boundaries import davis_f
from samlet.evaluate.datasets import Broken, Item, Sample
from samlet.evaluate.metrics import check_part, iou
from samlet.image import Image
from samlet.limits import DEFAULT_LIMITS
from samlet.masks import Masks
from samlet.sequence import Following, follow

DAVIS_WORDS = (
    "Each object is prompted once, with the tight box of its mask in the first frame, and followed through the video "
    "(samlet.sequence: no memory but the last mask, its colours and its motion). The first and the last frame do not "
    "count, as in DAVIS's own evaluation; DAVIS hands out the first mask itself, of which only the box is used here."
)
J_WORDS = (
    "J is the overlap (IoU) of the masks, F the boundary measure within 0.008 of the diagonal; mean over the frames of "
    "an object, recall the part of its frames above 0.5, decay the mean of its first quarter less that of its last; "
    "then means over objects. J&F is the mean of the two means."
)


@dataclass(frozen=True, slots=True)
class Video:
    """One video: its name, its frames and their annotations in order, one for each."""

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """A figure over the frames of an object: mean, part above 0.5, and how much it falls."""

    mean: float
    recall: float
    decay: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise the figures of one object's frames, in order.

        Example:
            >>> Statistics.of([1.0, 0.8, 0.4, 0.2]).recall
            0.5
        """
        array = np.asarray(values, np.float64)
        # Four overlapping parts, with the ends that DAVIS's own evaluation has.
        ends = np.round(np.linspace(1, len(array), 5) + 1e-10).astype(int) - 1
        first, last = array[ends[0] : ends[1] + 1], array[ends[3] : ends[4] + 1]
        return cls(float(array.mean()), float((array > 0.5).mean()), float(first.mean() - last.mean()))


@dataclass(frozen=True, slots=True)
class ObjectTrack:
    """What became of one object: J and F of each frame that counts, and in how many the object was lost."""

    video: str
    object: int
    j: tuple[float, ...]
    f: tuple[float, ...]
    lost: int


@dataclass(slots=True)
class DavisResult:
    """What was measured: objects in the order of videos, and videos that could not be used."""

    name: str
    tracks: list[ObjectTrack] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    videos: int = 0

    def mean(self, measure: str) -> Statistics:
        """Average the statistics of "j" or "f" over objects."""
        each = [Statistics.of(getattr(track, measure)) for track in self.tracks]
        return Statistics(
            *(float(np.mean([getattr(one, part) for one in each])) for part in ("mean", "recall", "decay"))
        )

    @property
    def j_and_f(self) -> float:
        """The mean of the two means."""
        return (self.mean("j").mean + self.mean("f").mean) / 2


def videos(root: Path, *, split: str | None = None, every: int = 1, limit: int | None = None) -> list[Video]:
    """List the videos of the data set without reading any.

    Args:
        root: The folder with JPEGImages and Annotations.
        split: A list in ImageSets, such as "2017/val"; None takes every annotated video.
        every: Only each K-th video, from the first.
        limit: Of those only the first so many.

    Raises:
        InputError: A folder or the list is missing, no video has frames, or `every` or `limit` is below 1.
    """
    check_part(every, limit)
    frames, annotations = (_resolution(root / kind) for kind in ("JPEGImages", "Annotations"))
    if split is None:
        names = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    else:
        listed = root / "ImageSets" / f"{split}.txt"
        try:
            names = listed.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"expected a list of videos {listed}, but it cannot be read; name one of ImageSets, as in 2017/val"
            ) from None
    found = []
    for name in names:
        if Path(name).name != name:
            raise InputError(f"expected names of videos in the list, got {name!r:.80}; correct it")
        marked = sorted((annotations / name).glob("*.png"))
        shown = [frames / name / f"{path.stem}.jpg" for path in marked]
        found.append(Video(name, tuple(shown), tuple(marked)))
    if not any(video.frames for video in found):
        raise InputError(f"expected annotated videos in {annotations}, found none; give the folder of DAVIS")
    return found[::every][:limit]


def _resolution(folder: Path) -> Path:
    """Choose the 480p folder, or the only other one, or the folder itself if the videos lie in it directly."""
    if (folder / "480p").is_dir():
        return folder / "480p"
    if not folder.is_dir():
        raise InputError(f"expected a folder {folder}, but there is none; give the folder of DAVIS")
    inside = [path for path in folder.iterdir() if path.is_dir()]
    nested = [path for path in inside if any(child.is_dir() for child in path.iterdir())]
    return nested[0] if len(nested) == 1 and len(inside) == 1 else folder


def masks_of(sample: Sample) -> dict[int, NDArray[np.bool_]]:
    """List the objects of an annotation by their ids; where there is only 0 and 255, 255 is the object (DAVIS 2016).

    Returns:
        Masks (H, W) bool by id; pixels of 255 beside other ids are no object.
    """
    found = {region.id: region.mask for region in sample.regions}
    return found or ({255: sample.ignore} if sample.ignore.any() else {})


def evaluate_davis(
    model: Answerer,
    found: Sequence[Video],
    *,
    name: str = "DAVIS",
    following: Following | None = None,
    on_video: Callable[[DavisResult], None] | None = None,
) -> DavisResult:
    """Follow every object of every video and compare.

    Args:
        model: The model.
        found: From `videos`.
        name: Of the set, for the report.
        following: How to follow.
        on_video: Called after each video, for progress.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    result = DavisResult(name)
    for video in found:
        try:
            result.tracks += measure_video(model, video, following=following)
            result.videos += 1
        except InputError as error:
            result.broken.append(Broken(video.name, str(error)))
        if on_video is not None:
            on_video(result)
    return result


def measure_video(model: Answerer, video: Video, *, following: Following | None = None) -> list[ObjectTrack]:
    """Follow the objects of the first frame side by side; each frame is encoded once.

    Raises:
        InputError: A frame or an annotation cannot be read, or there are fewer than three.
    """
    if len(video.frames) < 3:
        raise InputError(
            f"expected at least 3 annotated frames in {video.name}, found {len(video.frames)}; leave it out"
        )
    marks = Folders((), video.annotations[0].parent)
    first = masks_of(marks.read(Item(video.name, video.frames[0], video.annotations[0]), DEFAULT_LIMITS))
    if not first:
        raise InputError(
            f"expected an object in the first annotation of {video.name}, found none; leave it out"
        )
    reel, once = _Reel(video.frames), _Once(model)
    runs = {
        number: follow(
            once, reel.frames(), boxes=[float(end) for end in tight_box(mask)], following=following
        )
        for number, mask in first.items()
    }
    j: dict[int, list[float]] = {number: [] for number in first}
    f: dict[int, list[float]] = {number: [] for number in first}
    lost = dict.fromkeys(first, 0)
    for index, (frame, annotation) in enumerate(zip(video.frames, video.annotations, strict=True)):
        sample = marks.read(Item(f"{video.name}/{frame.stem}", frame, annotation), DEFAULT_LIMITS)
        truths = masks_of(sample)
        for number, run in runs.items():
            step = next(run)
            truth = truths.get(number, np.zeros(sample.ignore.shape, np.bool_))
            if truth.shape != step.mask.shape:
                raise InputError(
                    f"expected annotations of the frames' size, but {annotation} differs; replace it"
                )
            if 0 < index < len(video.frames) - 1:
                j[number].append(iou(step.mask, truth))
                f[number].append(davis_f(step.mask, truth))
                lost[number] += not step.found
    return [
        ObjectTrack(video.name, number, tuple(j[number]), tuple(f[number]), lost[number]) for number in first
    ]


_KEPT = (
    3  # frames: each object's run reads one ahead on a thread of its own, and runs are a frame apart at most
)


class _Reel:
    """The frames of a video for several readers that go on side by side: each frame is read once."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._images: dict[int, Image] = {}

    def frames(self) -> Iterator[Image]:
        for index, path in enumerate(self._paths):
            with self._lock:
                if index not in self._images:
                    self._images[index] = Image.load(path)
                    self._images.pop(index - _KEPT, None)
                image = self._images[index]
            yield image


class _Once:
    """A model that encodes a picture once, however many objects are asked about."""

    def __init__(self, model: Answerer) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._views: list[tuple[Image, Embedding]] = []

    def embed(self, image: Image) -> Embedding:
        with self._lock:
            for known, view in self._views:
                if known is image:
                    return view
            view = self._model.embed(image)
            self._views = [*self._views, (image, view)][-_KEPT:]
            return view

    def segment(
        self,
        view: Embedding,
        *,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        hint: ArrayLike | None = None,
    ) -> Masks:
        return self._model.segment(view, points=points, labels=labels, boxes=boxes, hint=hint)
