"""What one does with everything in a picture, measured: salient objects, odd regions, buildings.

FastSAM's paper shows these by pictures; here each has figures. For every picture the regions that a way of finding
everything found are turned into one answer, by rules of thumb of `samlet.uses` that see no truth, and by oracles that
do: the best region and the best union say what the regions are good for, the difference what the rule costs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from samlet import uses
from samlet.errors import InputError
from samlet.evaluate.baselines import ellipse
from samlet.evaluate.datasets import Broken, Dataset
from samlet.evaluate.finders import Finder
from samlet.evaluate.saliency import SaliencyScores, score
from samlet.image import Image
from samlet.masks import StoredMasks
from samlet.uses.looks import looks

Map = NDArray[np.float32]
_THUMB = 240  # longest side of what is kept of a picture for drawing

DOWNSTREAM_WORDS = (
    "One answer for each picture, compared with all that is marked in it taken together; ignored pixels count neither "
    "in the answer nor in the truth. IoU and F1 are means over pictures, pixel F1 is that of all pixels of all "
    "pictures together; an answer that is a map is cut at a half for them. MAE, max F (weight of precision 0.3, one "
    "of 256 levels for all pictures) and S-measure are those of salient-object detection, of the map itself. "
    "The 95 % interval is a seeded bootstrap over pictures."
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer may look at.

    Attributes:
        image: The picture.
        masks: The regions that were found in it, best first.
        truth: What is marked, without ignored pixels, bool (H, W); for oracles only.
    """

    image: Image
    masks: StoredMasks
    truth: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to make one answer of all regions of a picture.

    Attributes:
        name: In tables.
        words: What it does.
        answer: Gives a map (H, W), 0..1.
    """

    name: str
    words: str
    answer: Callable[[Seen], Map]


@dataclass(frozen=True, slots=True)
class Task:
    """What is looked for, and the rules that look for it; the first that is no oracle is the one that is drawn."""

    noun: str
    words: str
    rules: tuple[Rule, ...]


def _nothing(seen: Seen) -> Map:
    return np.zeros(seen.image.hw, np.float32)


def _first(seen: Seen, rows: NDArray[np.int64]) -> Map:
    """The first of some regions, or nothing."""
    return _united(seen, rows[:1])


def _united(seen: Seen, rows: NDArray[np.int64]) -> Map:
    both = np.zeros(seen.image.hw, np.bool_)
    for mask in seen.masks[rows].iter_masks():
        both |= mask
    return both.astype(np.float32)


def _best_region(seen: Seen) -> Map:
    overlaps = [np.count_nonzero(mask & seen.truth) for mask in seen.masks.iter_masks()]
    if not overlaps:
        return _nothing(seen)
    inside = np.array(overlaps, np.float64)
    ious = inside / np.maximum(seen.masks.areas + seen.truth.sum() - inside, 1)
    return _first(seen, np.array([ious.argmax()]))


def best_union(masks: Sequence[NDArray[np.bool_]], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add regions one by one, each time the one that raises IoU most, until none does.

    Args:
        masks: Bool (H, W) each.
        truth: Bool (H, W).

    Returns:
        Their union, bool (H, W).
    """
    answer = np.zeros(truth.shape, np.bool_)
    best = 0.0
    left = [mask for mask in masks if mask.any()]
    size = int(np.count_nonzero(truth))
    while left and size:
        gains = []
        right, both = np.count_nonzero(answer & truth), np.count_nonzero(answer)
        for mask in left:
            fresh = mask & ~answer
            hit, more = np.count_nonzero(fresh & truth), np.count_nonzero(fresh)
            gains.append((right + hit) / (both + more + size - right - hit))
        top = int(np.argmax(gains))
        if gains[top] <= best:
            break
        best = gains[top]
        answer |= left.pop(top)
    return answer


def _best_union(seen: Seen) -> Map:
    return best_union(list(seen.masks.iter_masks()), seen.truth).astype(np.float32)


def _salient(seen: Seen) -> Map:
    return _first(seen, np.argsort(-uses.salience(seen.masks, seen.image), kind="stable"))


def _salient_map(seen: Seen) -> Map:
    """Blend the regions, each with its salience to the fourth power: several that agree make a sure pixel."""
    rated = uses.salience(seen.masks, seen.image) ** 4
    total = np.zeros(seen.image.hw, np.float64)
    for weight, mask in zip(rated.tolist(), seen.masks.iter_masks(), strict=True):
        total[mask] += weight
    return (total / max(float(total.max()), 1e-12)).astype(np.float32)


def _odd_one(seen: Seen) -> Map:
    return _first(seen, np.argsort(-uses.anomalies(seen.masks, seen.image).all_scores, kind="stable"))


def _odd_ones(seen: Seen) -> Map:
    return _united(seen, uses.anomalies(seen.masks, seen.image).rows)


def _standing_out(seen: Seen) -> Map:
    """The region that differs most in colour from what is around it, in the picture's own spread."""
    small = uses.by_size(seen.masks, max_share=_SMALL)
    contrast = looks(small, seen.image).contrast
    return _first(Seen(seen.image, small, seen.truth), np.argsort(-contrast, kind="stable"))


def _building_like(seen: Seen) -> Map:
    rows = [
        row for row, _ in uses.footprints(seen.masks, square=False, max_share=_FACADE, min_area=_FACADE_LEAST)
    ]
    return _united(seen, np.array(rows, np.int64))


def _largest(seen: Seen) -> Map:
    return _first(seen, np.argsort(-seen.masks.areas, kind="stable"))


def _whole(seen: Seen) -> Map:
    return np.ones(seen.image.hw, np.float32)


def _middle(seen: Seen) -> Map:
    height, width = seen.image.hw
    box = (width // 6, height // 6, width - width // 6, height - height // 6)
    return ellipse(box, seen.image.hw).astype(np.float32)


def _blot(seen: Seen) -> Map:
    """The largest piece of what differs from its blurred surroundings, by Otsu's threshold."""
    from samlet.components import label
    from samlet.evaluate.clicks import opencv

    cv2 = opencv()
    gray = cv2.GaussianBlur(cv2.cvtColor(seen.image.pixels, cv2.COLOR_RGB2GRAY), (0, 0), 1.5)
    away = cv2.absdiff(gray, cv2.GaussianBlur(gray, (0, 0), max(seen.image.hw) / 12))
    _, marked = cv2.threshold(away, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    numbers, areas = label(marked > 0)
    return (numbers == 1 + int(areas.argmax())).astype(np.float32) if len(areas) else _nothing(seen)


_SMALL, _FACADE, _FACADE_LEAST = 0.2, 0.8, 1000

_ORACLES = (
    Rule("best region (oracle)", "The region that overlaps the truth most.", _best_region),
    Rule(
        "best union (oracle)",
        "Regions added one by one, each time the one that raises the overlap with the truth most, until none does.",
        _best_union,
    ),
)
_WHOLE = Rule("whole picture (no model)", "Every pixel.", _whole)

TASKS: dict[str, Task] = {
    "saliency": Task(
        "salient objects",
        "Looked for is the object that the picture is of.",
        (
            Rule("salient region", "The first by uses.salience: size, place, contrast and score.", _salient),
            Rule(
                "salience map",
                "All regions blended, each weighted by its salience to the fourth power, over the largest value.",
                _salient_map,
            ),
            *_ORACLES,
            Rule("ellipse in the middle (no model)", "Two thirds as wide and high as the picture.", _middle),
        ),
    ),
    "anomalies": Task(
        "odd regions",
        "Looked for is what is wrong with a surface.",
        (
            Rule(
                "standing out", "The region below a fifth of the picture with most contrast.", _standing_out
            ),
            Rule(
                "most different",
                "The first by uses.anomalies, unlike the others in size or colour.",
                _odd_one,
            ),
            Rule("all that differ", "All that uses.anomalies names, together.", _odd_ones),
            *_ORACLES,
            Rule(
                "blot (no model)",
                "The largest piece of what differs from its blurred surroundings, by Otsu's threshold (OpenCV).",
                _blot,
            ),
        ),
    ),
    "buildings": Task(
        "buildings",
        "Looked for is the building, or are the buildings.",
        (
            Rule(
                "building-like",
                "All regions that fill much of their smallest rectangle (uses.footprints), together.",
                _building_like,
            ),
            Rule("largest region", "The largest.", _largest),
            *_ORACLES,
            _WHOLE,
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class PictureFigures:
    """One answer for one picture: pixels right, claimed and there, and the figures of the map."""

    right: int
    claimed: int
    there: int
    scores: SaliencyScores

    @property
    def iou(self) -> float:
        """Overlap, 0..1."""
        return self.right / max(self.claimed + self.there - self.right, 1)

    @property
    def f1(self) -> float:
        """F1 of the pixels, 0..1."""
        return 2 * self.right / max(self.claimed + self.there, 1)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is kept of a picture for drawing, shrunk: the truth, the answer of the first rule, and its IoU."""

    name: str
    truth: NDArray[np.bool_]
    answer: NDArray[np.bool_]
    iou: float


@dataclass(slots=True)
class DownstreamResult:
    """What was measured on one set: figures by the names of finder and rule, picture by picture."""

    dataset: Dataset
    task: Task
    figures: dict[tuple[str, str], list[PictureFigures]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    empty: int = 0
    seconds: float = 0.0


def evaluate_downstream(
    finders: Sequence[Finder],
    dataset: Dataset,
    task: Task,
    *,
    on_picture: Callable[[DownstreamResult], None] | None = None,
) -> DownstreamResult:
    """Measure the rules of a task on a set.

    Args:
        finders: Ways to find everything; the rules work on what each finds.
        dataset: The set, or the selected part of one.
        task: What is looked for.
        on_picture: Called after each picture, for progress.

    Raises:
        BackendError: The runtime failed.
        MissingExtraError: OpenCV is not installed.
    """
    result = DownstreamResult(dataset, task)
    for item in dataset.items:
        try:
            sample = dataset.read(item)
            image = sample.load_image()
        except InputError as error:
            result.broken.append(Broken(item.name, str(error)))
            continue
        truth = np.zeros(image.hw, np.bool_)
        for region in sample.regions:
            truth |= region.mask
        truth &= ~sample.ignore
        if truth.any():
            result.names.append(item.name)
            for one in finders:
                masks, timing = one.find(image)
                result.seconds += timing.clock.total
                _measure(result, one.name, Seen(image, masks, truth), sample.ignore)
        else:
            result.empty += 1
        if on_picture is not None:
            on_picture(result)
    return result


def _measure(result: DownstreamResult, finder: str, seen: Seen, ignore: NDArray[np.bool_]) -> None:
    """Add the figures of every rule for one picture."""
    for place, rule in enumerate(result.task.rules):
        answer = np.where(ignore, np.float32(0), rule.answer(seen))
        claimed = answer >= 0.5
        figures = PictureFigures(
            int(np.count_nonzero(claimed & seen.truth)),
            int(np.count_nonzero(claimed)),
            int(np.count_nonzero(seen.truth)),
            score(answer, seen.truth),
        )
        result.figures.setdefault((finder, rule.name), []).append(figures)
        if not place and len(result.drawn) < len(result.names):
            step = max(1, -(-max(answer.shape) // _THUMB))
            result.drawn.append(
                Drawn(
                    result.names[-1], seen.truth[::step, ::step], claimed[::step, ::step].copy(), figures.iou
                )
            )
