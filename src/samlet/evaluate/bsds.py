"""The boundary benchmark of BSDS500: how well an edge map agrees with what several people drew.

A map is cut at 99 thresholds; each cut is thinned and matched with every person's boundary (see
`samlet.evaluate.boundaries`). Precision is the part of its pixels that match anybody's, recall the part of all
people's pixels that is matched; Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation" (2011).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from samlet.errors import ImageError, InputError
from samlet.evaluate.boundaries import TOLERANCE, matched, segment_boundaries, thinned_levels
from samlet.evaluate.datasets import Broken, Dataset, Item
from samlet.evaluate.edge_finders import EdgeFinder
from samlet.image import Image

THRESHOLDS = 99
"""A map is cut at 1/100, 2/100, ..., 99/100."""

_STEPS = 100  # between two thresholds, in which the best F is looked for

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Pixels counted at each threshold; tallies of pictures add up to that of a set.

    Attributes:
        found: (99,) pixels of people's boundaries that are matched, over all people.
        drawn: (99,) pixels of people's boundaries, over all people.
        right: (99,) pixels of the map that match anybody's.
        claimed: (99,) pixels of the map.
    """

    found: Counts
    drawn: Counts
    right: Counts
    claimed: Counts

    @classmethod
    def zero(cls, thresholds: int = THRESHOLDS) -> Self:
        """Nothing drawn, nothing claimed."""
        return cls(*(np.zeros(thresholds, np.int64) for _ in range(4)))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.found + other.found,
            self.drawn + other.drawn,
            self.right + other.right,
            self.claimed + other.claimed,
        )

    def at(self, threshold: int) -> "Tally":
        """Give the counts at one threshold alone."""
        one = slice(threshold, threshold + 1)
        return Tally(self.found[one], self.drawn[one], self.right[one], self.claimed[one])

    @property
    def recall(self) -> NDArray[np.float64]:
        """(99,) 0..1; 0 where nothing is drawn."""
        return self.found / np.maximum(self.drawn, 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(99,) 0..1; 0 where nothing is claimed."""
        return self.right / np.maximum(self.claimed, 1)


@dataclass(frozen=True, slots=True)
class Best:
    """The best F of a curve, and where it lies."""

    f: float
    precision: float
    recall: float
    threshold: float


def f_measure(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonic mean, 0 where both are 0."""
    total = precision + recall
    return np.asarray(2 * precision * recall / np.where(total > 0, total, 1))


def best(tally: Tally) -> Best:
    """Find the best F along the curve; between two thresholds precision and recall are interpolated."""
    count = len(tally.found)
    place = np.linspace(0, count - 1, (count - 1) * _STEPS + 1)
    precision, recall = (
        np.interp(place, np.arange(count), values) for values in (tally.precision, tally.recall)
    )
    f = f_measure(precision, recall)
    top = int(f.argmax())
    return Best(
        float(f[top]), float(precision[top]), float(recall[top]), float((place[top] + 1) / (count + 1))
    )


def average_precision(tally: Tally) -> float:
    """Area under precision over recall 0, 0.01, ..., 1, interpolated; 0 beyond the ends of the curve."""
    recall, precision = tally.recall[::-1], tally.precision[::-1]  # rising recall
    known, first = np.unique(recall, return_index=True)
    if len(known) < 2:
        return 0.0
    return float(np.interp(np.linspace(0, 1, 101), known, precision[first], left=0.0, right=0.0).sum() * 0.01)


def recall_at(tally: Tally, precision: float) -> float:
    """Give the largest recall at which the curve still has a precision; 0 if it never has."""
    good = tally.precision >= precision
    return float(tally.recall[good].max(initial=0.0))


@dataclass(slots=True)
class EdgeResult:
    """What one finder of edges did on a set; `pictures` holds the tally of each picture by its name."""

    finder: EdgeFinder
    pictures: dict[str, Tally] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tally(self) -> Tally:
        """All pictures together."""
        return sum(self.pictures.values(), Tally.zero())

    @property
    def ods(self) -> Best:
        """Optimal data set scale: one threshold for all pictures."""
        return best(self.tally)

    @property
    def ois(self) -> float:
        """Optimal image scale: F of the counts of each picture at its own best threshold."""
        chosen = Tally.zero(1)
        for tally in self.pictures.values():
            chosen = chosen + tally.at(int(f_measure(tally.precision, tally.recall).argmax()))
        return float(f_measure(chosen.precision, chosen.recall)[0])


@dataclass(slots=True)
class BoundaryResult:
    """What was measured on one set.

    Attributes:
        dataset: The set, as selected.
        finders: One result for each finder, in the order asked for.
        humans: Each person's boundary against those of all others, pictures with one person left out; one threshold.
        pictures: Pictures measured.
        segmentations: People's segmentations compared with.
        broken: Pictures and masks that could not be used.
    """

    dataset: Dataset
    finders: list[EdgeResult]
    humans: Tally = field(default_factory=lambda: Tally.zero(1))
    pictures: int = 0
    segmentations: int = 0
    broken: list[Broken] = field(default_factory=list)

    @property
    def human_f(self) -> float | None:
        """F of people against each other; None if no picture has two."""
        return best(self.humans).f if self.humans.drawn.any() else None


def evaluate_boundaries(
    finders: Sequence[EdgeFinder],
    dataset: Dataset,
    *,
    humans: bool = True,
    on_picture: Callable[[BoundaryResult], None] | None = None,
) -> BoundaryResult:
    """Measure finders of edges, and people against each other, on a set of pictures that people segmented.

    Args:
        finders: What to measure.
        dataset: The set, or the selected part of one; masks NAME_h1.png, NAME_h2.png, ... are people's.
        humans: Whether to compare people with each other too.
        on_picture: Called after each picture, for progress.

    Raises:
        MissingExtraError: A finder needs a package that is not installed.
        BackendError: The runtime failed.
    """
    import time

    result = BoundaryResult(dataset, [EdgeResult(finder) for finder in finders])
    for item in dataset.items:
        image, drawn = read(dataset, item, result.broken)
        if image is not None and drawn:
            result.pictures += 1
            result.segmentations += len(drawn)
            for one in result.finders:
                start = time.perf_counter()
                edges = one.finder.find(image)
                one.seconds += time.perf_counter() - start
                one.pictures[item.name] = compare(edges, drawn)
            if humans and len(drawn) > 1:
                for number, own in enumerate(drawn):
                    levels = own.astype(np.int64)
                    result.humans = result.humans + count(levels, drawn[:number] + drawn[number + 1 :], 1)
        if on_picture is not None:
            on_picture(result)
    return result


def compare(edges: NDArray[np.floating], drawn: Sequence[NDArray[np.bool_]]) -> Tally:
    """Count for one picture.

    Args:
        edges: Strength of the edge at each pixel, 0..1, (H, W); lines need not be thin.
        drawn: People's boundaries, each bool (H, W) and thin.

    Returns:
        The counts at each of the 99 thresholds.

    Raises:
        InputError: The sizes differ.
    """
    if any(one.shape != edges.shape for one in drawn):
        raise InputError(
            f"expected an edge map of the size of the boundaries, got {edges.shape} and "
            f"{', '.join(str(one.shape) for one in drawn)}; resize the map"
        )
    # A pixel of strength 0.02 is part of the map at the thresholds 0.01 and 0.02: its level is 2.
    scaled = np.asarray(edges, np.float64) * (THRESHOLDS + 1)
    levels = np.clip(np.floor(scaled + 1e-6), 0, THRESHOLDS).astype(np.int64)
    return count(thinned_levels(levels), drawn, THRESHOLDS)


def count(levels: NDArray[np.int64], drawn: Sequence[NDArray[np.bool_]], thresholds: int) -> Tally:
    """Match a thinned map with each person's boundary.

    Args:
        levels: (H, W), 0 where there is no edge, else the highest threshold, 1..thresholds, of the pixel.
        drawn: People's boundaries, each bool (H, W).
        thresholds: Their number.

    Returns:
        The counts at each threshold.
    """
    radius = TOLERANCE * float(np.hypot(*levels.shape))
    anybody = np.zeros(levels.shape, np.bool_)
    found = np.zeros(thresholds, np.int64)
    for one in drawn:
        hits = matched(levels.astype(np.float32), one, radius=radius)
        found += _reaching(levels[hits], thresholds)
        anybody |= hits
    total = sum(int(np.count_nonzero(one)) for one in drawn)
    return Tally(
        found,
        np.full(thresholds, total, np.int64),
        _reaching(levels[anybody], thresholds),
        _reaching(levels[levels > 0], thresholds),
    )


def _reaching(levels: NDArray[np.int64], thresholds: int) -> Counts:
    """Count for each threshold the pixels that reach it."""
    return np.bincount(levels, minlength=thresholds + 1)[::-1].cumsum()[::-1][1:].astype(np.int64)


def read(dataset: Dataset, item: Item, broken: list[Broken]) -> tuple[Image | None, list[NDArray[np.bool_]]]:
    """Read a picture and everybody's boundaries.

    Args:
        dataset: The set.
        item: One of its pictures.
        broken: What cannot be used is added to it.

    Returns:
        The picture, None if it cannot be read, and each person's boundary, bool (H, W) and thin.
    """
    image: Image | None = None
    drawn: list[NDArray[np.bool_]] = []
    for segmentation in dataset.segmentations(item):
        try:
            sample = dataset.read(segmentation)
            image = sample.load_image() if image is None else image
            if image.hw != sample.ignore.shape:
                raise ImageError(
                    f"expected masks of one size, but that of {segmentation.name} differs; replace it"
                )
        except InputError as error:
            broken.append(Broken(segmentation.name, str(error)))
            continue
        ids = np.zeros(sample.ignore.shape, np.int32)
        for region in sample.regions:
            ids[region.mask] = region.id
        drawn.append(segment_boundaries(ids))
    return image, drawn
